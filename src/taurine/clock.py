"""Time as an object, so that tests move it without sleeping.

Wall time stamps records and decides when a job is due; monotonic time measures durations. They are never mixed.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Protocol, overload

__all__ = ["MAX_DELAY", "Clock", "SystemClock", "ms_of", "now_ms"]


MAX_DELAY = 366 * 100 * 86_400.0
"""Seconds, about a century: nothing waits longer, and who asks for more has mistaken the unit."""


class Clock(Protocol):
    """What Taurine asks of time."""

    def now(self) -> float:
        """Wall time in seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock; zero or less yields once."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        """Wait until `event` is set, at most `seconds` of this clock (None: for ever); True when it is set."""
        ...


class SystemClock:
    """The machine's time."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                return await event.wait()
        except TimeoutError:
            return event.is_set()


def now_ms(clock: Clock) -> int:
    """Wall time in milliseconds since the Unix epoch, rounded to the nearest."""
    return round(clock.now() * 1000)


@overload
def ms_of(moment: datetime) -> int: ...


@overload
def ms_of(moment: None) -> None: ...


def ms_of(moment: datetime | None) -> int | None:
    """An aware time in milliseconds since the Unix epoch, and None for None.

    Rounded to the nearest, as `now_ms` is: one moment is one number, whichever of them has told it.
    """
    return None if moment is None else round(moment.timestamp() * 1000)
