"""The rule about schedules that do not tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from taurine.jobs.operations.readings import ScheduleReading
from taurine.observe.alerts.look import Look
from taurine.observe.alerts.rule import Finding, LimitRule

__all__ = ["ScheduleLate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleLate(LimitRule):
    """The next run of a declared schedule has been due for more seconds than `limit`. Default: 60.

    A run that nobody starts stays the next one, so that a missed one is late until it is made. Those that somebody
    outside ticks are never late. One whose queue is paused is spared, and after the pause it counts from the look that
    first saw the queue go on.
    """

    KIND: ClassVar[str] = "schedule_late"

    limit: float = 60.0

    async def findings(self, look: Look) -> Sequence[Finding]:
        if (store := look.readings.store) is None:
            return []
        return [_finding(one, _late(one, look)) for one in store.schedules if one.declared]


def _late(schedule: ScheduleReading, look: Look) -> float:
    if look.is_paused(schedule.queue):
        return 0.0
    since = look.since_resumed(schedule.queue)
    return schedule.late if since is None else min(schedule.late, since)


def _finding(schedule: ScheduleReading, late: float) -> Finding:
    return Finding(schedule.id, late, f"the next run of schedule {schedule.id!r} is {late:,.0f} s late")
