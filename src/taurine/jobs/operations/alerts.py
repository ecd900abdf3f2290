"""Alerts as an operator sees them: what fires, and what has been over for less than a day."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from taurine.jobs.backend import Backend
from taurine.jobs.reporting.alerts import Alert, Severity
from taurine.ledger.alerts import AlertPhase, AlertRow, list_alerts

__all__ = ["AlertStates", "AlertView"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """What a rule finds of a subject.

    state: "pending" for a figure that is above its limit and has not been for long enough.

    value: as it was found last; of events how many there were. limit: None for events. since: when the state began.
    told_at: when all that are told of alerts knew of this state;
    None for not yet, and for what is not told.
    """

    rule: str
    kind: str
    subject: str
    state: AlertPhase
    severity: Severity
    value: float
    limit: float | None
    message: str
    since: datetime
    seen_at: datetime
    raised_at: datetime | None
    told_at: datetime | None


class AlertStates:
    """`Taurine.alerts`."""

    def __init__(self, backend: Callable[[], Backend]) -> None:
        self._backend = backend

    async def list(self, *, all: bool = False) -> builtins.list[AlertView]:  # noqa: A002 - the word of the command line
        """The alerts that fire, those that were raised last first.

        all: those that are pending, or were over in the last day, as well. Default: False. They are looked at every 15
        seconds while a worker, or `taurine serve`, runs.
        Raises LedgerUnavailable.
        """
        backend = self._backend()
        await backend.ready()
        views = [_view(row) for row in await backend.database.read(list_alerts)]
        return [view for view in views if all or view.state == "firing"]


def _view(row: AlertRow) -> AlertView:
    alert = Alert(**json.loads(row.alert))
    return AlertView(
        rule=row.rule,
        kind=alert.kind,
        subject=row.subject,
        state=row.state,
        severity=alert.severity,
        value=row.value,
        limit=alert.limit,
        message=alert.message,
        since=_time(row.since),
        seen_at=_time(row.seen_at),
        raised_at=None if row.raised_at is None else _time(row.raised_at),
        told_at=None if row.notified_at is None else _time(row.notified_at),
    )


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)
