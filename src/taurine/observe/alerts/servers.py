"""The rule about the server of queues itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from taurine.observe.alerts.look import Look
from taurine.observe.alerts.rule import Finding, LimitRule
from taurine.options import Seconds, to_seconds

__all__ = ["StoreDown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDown(LimitRule):
    """The server of queues has not answered any look for `for_seconds`, 1 or more. Default: 60.

    Its subject is the application. One look without an answer is no alert, nor are several with more than two minutes
    between them: they may have been late themselves. So may one that the ledger has not answered in time either, which
    changes nothing.
    """

    KIND: ClassVar[str] = "store_down"
    MOST_BETWEEN: ClassVar[float | None] = 120.0

    limit: float = 0
    for_seconds: Seconds = 60.0

    def __post_init__(self) -> None:
        LimitRule.__post_init__(self)
        to_seconds(self.for_seconds, "for_seconds", minimum=1.0)

    async def findings(self, look: Look) -> Sequence[Finding]:
        if look.readings.store is not None:
            return [Finding(look.application, 0, "the server of queues answers")]
        if look.readings.ledger is None:
            return []
        remedy = "jobs are accepted, and none starts until it is back; `taurine doctor` says more"
        return [Finding(look.application, 1, "the server of queues does not answer", remedy=remedy)]
