"""When a loop turned last, and by when it is to turn again: what health is told from.

A loop says so itself, at each turn; whoever looks may be another thread, since a loop that is stuck can say nothing.
What a loop waits for decides how long it may be still:
one that waits for work may be so for ever, one that waits for a server as long as a server may take to answer, and a
little more.
"""

from __future__ import annotations

import math

from taurine.clock import Clock

__all__ = ["LEAST_PATIENCE", "PATIENCE", "Heartbeat"]

PATIENCE = 60.0
"""Seconds for a pass of a loop: twice the longest that one answer of a database may take. A database that hangs is no
reason to kill its workers.
"""

LEAST_PATIENCE = 10.0
"""Seconds that any loop may be late: twice the time for which the engine's reads block."""


class Heartbeat:
    """The turns of one loop. name: as it is shown. Reading is safe from any thread."""

    __slots__ = ("_clock", "due", "name", "turned_at")

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self.turned_at = clock.monotonic()
        """Seconds of the clock's monotonic time."""
        self.due = math.inf
        """By when it turns again, of the same time; infinite for a loop that is not running, or waits for something to
        do.
        """

    def turn(self, within: float = PATIENCE) -> None:
        """The loop turns, and will again within so many seconds, 10 at the least."""
        self.turned_at = now = self._clock.monotonic()
        self.due = now + (within if within > LEAST_PATIENCE else LEAST_PATIENCE)

    def rest(self) -> None:
        """The loop turns, and waits for something to do, or ends."""
        self.turned_at = self._clock.monotonic()
        self.due = math.inf

    @property
    def late(self) -> float:
        """Seconds by which it is late; 0 for a loop that is not."""
        return max(0.0, self._clock.monotonic() - self.due)

    @property
    def age(self) -> float:
        """Seconds since it turned last."""
        return max(0.0, self._clock.monotonic() - self.turned_at)
