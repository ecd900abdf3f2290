"""The streams that are open: how many there may be, and their end when the server ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

from taurine.errors import StreamsFull
from taurine.http.access.caller import Caller
from taurine.http.live.documents import Documents
from taurine.http.live.listener import Listener
from taurine.http.patience import InTime
from taurine.jobs.changes.subscription import Subscription

__all__ = ["Streams"]

_SHARE_OF_A_TENANT = 5
"""Part of all streams that one tenant's callers may have together: a tenant has as many callers as it has keys, and
makes public tokens under any name.
"""


class Streams:
    """The open streams of one API in this process.

    most: of all callers together; a tenant's have a fifth of it, or as much as one caller where that is more.
    most_each: of one caller. send_seconds: how long one that reads nothing is waited for. ping_seconds: between signs
    of life.
    """

    def __init__(
        self, documents: Documents, *, most: int, most_each: int, send_seconds: float, ping_seconds: float = 25.0
    ) -> None:
        self.documents = documents
        self.send_seconds = send_seconds
        self.ping_seconds = ping_seconds
        self._most = most
        self._most_each = most_each
        self._most_of_a_tenant = max(most_each, most // _SHARE_OF_A_TENANT)
        self._taken = 0
        self._each: Counter[Caller] = Counter()
        self._of_tenants: Counter[str] = Counter()
        self._open: set[Subscription] = set()
        self._ends = asyncio.Event()

    def __len__(self) -> int:
        return self._taken

    def require_room(self, caller: Caller) -> None:
        """Raise StreamsFull where this caller may open no more."""
        if self._taken >= self._most:
            raise StreamsFull(
                f"{self._most} streams are open here already; try another process, or look at the job again later"
            )
        if self._each[caller] >= self._most_each:
            raise StreamsFull(f"{caller.name!r:.200} has {self._most_each} streams open already")
        if caller.tenant is not None and self._of_tenants[caller.tenant] >= self._most_of_a_tenant:
            raise StreamsFull(f"the tenant {caller.tenant!r:.80} has {self._most_of_a_tenant} streams open already")

    @asynccontextmanager
    async def holding(
        self, listener: Listener, opened: AbstractAsyncContextManager[Subscription]
    ) -> AsyncGenerator[Subscription]:
        """A stream while it is open.

        Its place is taken before anything is waited for, so that the bounds hold however many ask at once.

        opened: what is listened to; entered here. Raises StreamsFull, LedgerUnavailable, and what entering raises: all
        of it before the answer has begun.
        """
        caller = listener.caller
        self.require_room(caller)
        self._count(caller, 1)
        try:
            async with AsyncExitStack() as stack:
                async with InTime(listener.open_seconds):
                    changes = await stack.enter_async_context(opened)
                self._open.add(changes)
                try:
                    if self._ends.is_set():
                        changes.end("the server ends; connect again")
                    yield changes
                finally:
                    self._open.discard(changes)
        finally:
            self._count(caller, -1)

    def _count(self, caller: Caller, by: int) -> None:
        self._taken += by
        # Names are not unique; scopes, tenant and what a token is bound to are part of who it is.
        _add(self._each, caller, by)
        if caller.tenant is not None:
            _add(self._of_tenants, caller.tenant, by)

    def end(self) -> None:
        """End all of them, and those that are opened from now on: clients come back, to another process."""
        self._ends.set()
        for changes in list(self._open):
            changes.end("the server ends; connect again")


_KeyT = TypeVar("_KeyT")


def _add(counter: Counter[_KeyT], key: _KeyT, by: int) -> None:
    counter[key] += by
    if not counter[key]:
        del counter[key]
