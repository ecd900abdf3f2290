"""The rule about schedules that do not tick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from taurine.observe.alerts.look import Look
from taurine.observe.alerts.rule import Finding, LimitRule

__all__ = ["ScheduleLate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleLate(LimitRule):
    """The next run of a declared schedule has been due for more seconds than `limit`. Default: 60.

    A run that nobody starts stays the next one, so that a missed one is late until it is made. Those that somebody
    outside ticks are never late.
    """

    KIND: ClassVar[str] = "schedule_late"

    limit: float = 60.0

    async def findings(self, look: Look) -> Sequence[Finding]:
        if (store := look.readings.store) is None:
            return []
        return [
            Finding(one.id, one.late, f"the next run of schedule {one.id!r} is {one.late:,.0f} s late")
            for one in store.schedules
            if one.declared
        ]
