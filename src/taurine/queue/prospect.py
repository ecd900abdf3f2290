"""What a worker expects of its queue: whether a turn may find jobs, and when to look again.

It learns from the replies to its turns and from the doorbell. No server is asked for it.
"""

from __future__ import annotations

from taurine.clock import Clock
from taurine.queue.turn import Turn, TurnReply

__all__ = ["Prospect"]

_LONGEST_LIMIT_PAUSE = 30.0
"""Seconds after which a rate-limited worker looks again, whatever the limit says: it may have been lifted by a plain
delete.
"""


class Prospect:
    """One worker's prospect of jobs; at first there may be some."""

    __slots__ = ("_clock", "_drained", "_due_ms", "_filled", "_has_alarm", "_limited_until", "claimable")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.claimable = True
        """Whether a turn may find jobs."""
        self._filled = False
        self._drained = True
        self._due_ms = 0
        self._has_alarm = False
        self._limited_until = 0.0

    @property
    def limited(self) -> bool:
        """Whether a rate limit is known to allow no job now."""
        return self._limited_until > 0 and self._clock.monotonic() < self._limited_until

    @property
    def alarm_ms(self) -> int:
        """When the job is due whose marker was popped for this worker, wall ms; 0 when there is none."""
        return self._due_ms if self._has_alarm else 0

    def look_again(self) -> None:
        """Nobody knows what the queue holds by now."""
        self.claimable = True

    def asks(self) -> None:
        """A turn that asks for jobs is about to be sent.

        A batch that was filled promises more. Otherwise only a ring does, and one that comes while the turn is under
        way stands.
        """
        self.claimable = self._filled

    def heed(self, reply: TurnReply, turn: Turn) -> bool:
        """Take in a reply. True when it is the first for which the queue had no job."""
        self._filled = 0 < turn.want <= len(reply.jobs)
        self.claimable = self.claimable or self._filled
        self._due_ms = reply.due_ms
        if turn.want:
            self._limited_until = 0.0
        if reply.wait_ms > 0:
            self._limited_until = self._clock.monotonic() + min(reply.wait_ms / 1000, _LONGEST_LIMIT_PAUSE)
        if reply.jobs:
            self._drained = False
        elif turn.want and not self._drained:
            self._drained = True
            return True
        return False

    def ring(self, due_ms: int) -> None:
        """The marker said that a job is there, or will be due at `due_ms`, wall ms."""
        if due_ms > int(self._clock.now() * 1000):
            self._due_ms = min(due_ms, self._due_ms or due_ms)
            self._has_alarm = True
        else:
            self.claimable = True
            self._limited_until = 0.0

    def limit(self, seconds: float) -> None:
        """No job may start for so long, or longer if that is known already."""
        self._limited_until = max(self._limited_until, self._clock.monotonic() + seconds)

    def forget_alarm(self) -> None:
        """Somebody else heeds it."""
        self._has_alarm = False

    def wait(self) -> float | None:
        """Seconds after which there may be jobs, though nobody has rung; None when only a ring tells."""
        waits = list[float]()
        if self._due_ms:
            waits.append(self._due_ms / 1000 - self._clock.now())
        if self._limited_until:
            waits.append(self._limited_until - self._clock.monotonic())
        return max(0.0, min(waits)) if waits else None
