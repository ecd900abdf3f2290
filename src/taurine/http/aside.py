"""Documents that are made beside the event loop: to look through a megabyte of payloads for secrets takes a tenth of a
second, and whoever may read can ask for many of them at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from taurine.http.problems import Refusal

__all__ = ["Aside"]

_MUCH = 64 << 10
"""Characters from which on it is worth a thread."""

_MOST, _MOST_EACH = 16, 4
"""Documents under way or in line, of all tenants and of one. One that nobody waits for any more is made all the same."""

ResultT = TypeVar("ResultT")


class TooManyAtOnce(Refusal):
    """Others are before it."""

    status, code, title, retry_after = 503, "answers_full", "Too many long answers are asked for; repeat the request", 1


class Aside:
    """One thread for one API: two would only take turns, and what answers others needs its turn as well."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="taurine-documents")
        self._under_way: Counter[str | None] = Counter()

    async def make(self, size: int, make: Callable[[], ResultT], *, tenant: str | None) -> ResultT:
        """`make()`, in the thread where it has much to look through.

        size: characters. tenant: of whoever asks. Raises TooManyAtOnce.
        """
        if size < _MUCH:
            return make()
        share = _MOST if tenant is None else _MOST_EACH  # where nobody has a tenant, all are its callers
        if self._under_way.total() >= _MOST or self._under_way[tenant] >= share:
            raise TooManyAtOnce("too many long answers are being made; ask for smaller pages, or again in a second")
        self._under_way[tenant] += 1
        making = asyncio.get_running_loop().run_in_executor(self._thread, make)
        making.add_done_callback(lambda _: self._over(tenant))
        # The thread goes on, whoever stops waiting.
        return await asyncio.shield(making)

    async def make_in_turn(self, size: int, make: Callable[[], ResultT]) -> ResultT:
        """The same, however many are before it, and without a place: for what is made once for many."""
        if size < _MUCH:
            return make()
        return await asyncio.get_running_loop().run_in_executor(self._thread, make)

    def _over(self, tenant: str | None) -> None:
        self._under_way[tenant] -= 1
        if not self._under_way[tenant]:
            del self._under_way[tenant]
