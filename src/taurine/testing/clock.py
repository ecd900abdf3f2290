"""Time that a test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime
from threading import Lock
from typing import ClassVar

from taurine.errors import InvalidOption
from taurine.options import Seconds, to_seconds

__all__ = ["TestClock"]


class TestClock:
    """A clock that stands still until the test moves it: `Taurine(clock=TestClock())`.

    start: an aware datetime, or wall seconds. Default: the machine's time when the clock is made. Wall time goes by
    whole milliseconds.

    It moves what the application and its workers ask their clock for: delays, pauses before retries, snoozes, expiry,
    `OncePer` windows, schedules, leases, time limits of async handlers, and the loops that a worker runs. It does not
    move the time of the servers, of plain functions' time limits, of `asyncio.sleep` in a handler, nor that of child
    processes. May be used from any thread and on several loops.
    """

    __test__: ClassVar[bool] = False  # its name does not make it a test

    def __init__(self, start: float | datetime | None = None) -> None:
        if isinstance(start, datetime):
            if start.tzinfo is None:
                raise InvalidOption(f"expected start to be an aware datetime, got {start!r}; give it a tzinfo")
            start = start.timestamp()
        # On a whole millisecond, as times are in records: what is due in an hour is due when an hour has passed, and not half a millisecond later.
        self._now = round(time.time() if start is None else float(start), 3)
        self._monotonic = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"TestClock({self.datetime.isoformat()})"

    @property
    def datetime(self) -> datetime:
        """Where it stands, UTC."""
        return datetime.fromtimestamp(self._now, UTC)

    @property
    def sleepers(self) -> int:
        """How many sleeps are waiting for it."""
        with self._lock:
            return sum(not woken.done() for _, _, woken in self._sleepers)

    def now(self) -> float:
        """See `Clock.now`."""
        return self._now

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._monotonic

    def advance(self, seconds: Seconds) -> None:
        """Move time forward, at once, and wake whoever slept until then.

        seconds: or a timedelta, 0 or more. Raises InvalidOption.
        """
        by = to_seconds(seconds, "seconds")
        with self._lock:
            self._now = round(self._now + by, 3)
            self._monotonic += by
            due = list[asyncio.Future[None]]()
            while self._sleepers and self._sleepers[0][0] <= self._monotonic:
                due.append(heapq.heappop(self._sleepers)[2])
        for woken in due:
            _wake(woken)

    def advance_to(self, moment: datetime) -> None:
        """Move time forward to this moment, an aware datetime. Raises InvalidOption for one that has passed."""
        self.advance(moment.timestamp() - self._now)

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        await self._after(seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        """See `Clock.wait`."""
        if seconds is None or event.is_set():
            return await event.wait()
        # From now on, and not from when a task would have begun to sleep: the test may move time before that.
        waits = (asyncio.ensure_future(event.wait()), self._after(seconds))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return event.is_set()

    def _after(self, seconds: float) -> asyncio.Future[None]:
        """It is done when so many seconds have passed since this call."""
        woken = asyncio.get_running_loop().create_future()
        if seconds <= 0:
            woken.set_result(None)
            return woken
        with self._lock:
            heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
        return woken


def _wake(woken: asyncio.Future[None]) -> None:
    """On the loop that sleeps: this may be another thread's."""
    loop = woken.get_loop()
    if loop is _running_loop():
        _settle(woken)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(_settle, woken)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _settle(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
