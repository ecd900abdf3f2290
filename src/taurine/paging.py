"""Lists that come in pages: one page when it is awaited, everything when it is iterated over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

__all__ = ["Listing", "Page"]

ItemT = TypeVar("ItemT")

Fetch: TypeAlias = "Callable[[str | None], Awaitable[tuple[Sequence[ItemT], str | None]]]"
"""Reads the page at a cursor: its items, and the cursor of the page after it."""


class Page(Sequence[ItemT]):  # noqa: PLW1641 - as a list, it has no hash
    """Some items in order.

    `for item in page` goes over this page, `async for item in page` over the pages after it as well.

    next_cursor: for the page after this one; None when this is the last.
    """

    def __init__(self, items: Sequence[ItemT], next_cursor: str | None, fetch: Fetch[ItemT]) -> None:
        self.items = list(items)
        self.next_cursor = next_cursor
        self._fetch = fetch

    def __repr__(self) -> str:
        return f"Page({len(self.items)} items, {'the last' if self.next_cursor is None else 'more to come'})"

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> ItemT: ...
    @overload
    def __getitem__(self, index: slice) -> list[ItemT]: ...
    def __getitem__(self, index: int | slice) -> ItemT | list[ItemT]:
        return self.items[index]

    def __eq__(self, other: object) -> bool:
        """Whether the items are the same as those of another page, or of a list."""
        return isinstance(other, Page | list) and self.items == [*cast("Sequence[object]", other)]

    async def next(self) -> Page[ItemT] | None:
        """The page after this one, or None."""
        if self.next_cursor is None:
            return None
        return Page(*await self._fetch(self.next_cursor), self._fetch)

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        page: Page[ItemT] | None = self
        while page is not None:
            for item in page.items:
                yield item
            page = await page.next()


class Listing(Generic[ItemT]):
    """A list that was asked for: `await` gives its page, `async for` goes over the items of that page and all after it,
    a page at a time.
    """

    def __init__(self, fetch: Fetch[ItemT], cursor: str | None) -> None:
        self._fetch = fetch
        self._cursor = cursor

    def __await__(self) -> Generator[Any, None, Page[ItemT]]:
        return self._page().__await__()

    async def _page(self) -> Page[ItemT]:
        return Page(*await self._fetch(self._cursor), self._fetch)

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        async for item in await self._page():
            yield item
