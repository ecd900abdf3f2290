"""The streams that are open: how many there may be, and their end when the server ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from taurine.errors import StreamsFull
from taurine.http.access.caller import Caller
from taurine.jobs.changes.subscription import Subscription

__all__ = ["Streams"]


class Streams:
    """The open streams of one API in this process.

    most: of all callers together. most_each: of one caller. send_seconds: how long one that reads nothing is waited for. ping_seconds: between signs of life.
    """

    def __init__(self, *, most: int, most_each: int, send_seconds: float, ping_seconds: float = 25.0) -> None:
        self.send_seconds = send_seconds
        self.ping_seconds = ping_seconds
        self._most = most
        self._most_each = most_each
        self._each: Counter[Caller] = Counter()
        self._open: set[Subscription] = set()
        self._ends = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def require_room(self, caller: Caller) -> None:
        """Raise StreamsFull where this caller may open no more."""
        if len(self._open) >= self._most:
            raise StreamsFull(
                f"{self._most} streams are open here already; try another process, or look at the job again later"
            )
        if self._each[caller] >= self._most_each:
            raise StreamsFull(f"{caller.name!r:.200} has {self._most_each} streams open already")

    @asynccontextmanager
    async def holding(self, caller: Caller, changes: Subscription) -> AsyncGenerator[None]:
        """Count a stream while it is open."""
        # Names are not unique; scopes, tenant and what a token is bound to are part of who it is.
        self._each[caller] += 1
        self._open.add(changes)
        try:
            if self._ends.is_set():
                changes.end("the server ends; connect again")
            yield
        finally:
            self._open.discard(changes)
            self._each[caller] -= 1
            if not self._each[caller]:
                del self._each[caller]

    def end(self) -> None:
        """End all of them, and those that are opened from now on: clients come back, to another process."""
        self._ends.set()
        for changes in list(self._open):
            changes.end("the server ends; connect again")
