"""Waiting out an outage: the pauses between two tries, which grow.

Most outages are short, so the first tries come soon. In a long one everybody else tries as well, and who comes back is
not to be met by all of them at once and all the time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from taurine.clock import Clock

__all__ = ["Pauses", "waited_out"]

ResultT = TypeVar("ResultT")


class Pauses:
    """Seconds between tries: `first`, then twice as long each time, `longest` at most. Default: 0.05 and 2."""

    def __init__(self, *, first: float = 0.05, longest: float = 2.0) -> None:
        self._first = min(first, longest)
        self._longest = longest
        self._next = self._first
        self.current = 0.0
        """Of the last failure, in seconds; 0 when there was none, or a try has succeeded since."""

    def failed(self) -> float:
        """A try has failed: the seconds before the next one."""
        self.current = self._next
        self._next = min(self._next * 2, self._longest)
        return self.current

    def succeeded(self) -> None:
        """It is over: the next pause is the first again."""
        self.current, self._next = 0.0, self._first


async def waited_out(
    call: Callable[[], Awaitable[ResultT]],
    *,
    clock: Clock,
    passes: Callable[[Exception], bool],
    told: Callable[[Exception], object],
) -> ResultT:
    """What `call` returns, however long it takes until it does.

    passes: whether an error is of an outage, which will be over some time; any other is raised. told: called with the
    first such error, and with no further one.
    """
    pauses = Pauses()
    while True:
        try:
            return await call()
        except Exception as error:
            if not passes(error):
                raise
            if not pauses.current:
                told(error)
        await clock.sleep(pauses.failed())
