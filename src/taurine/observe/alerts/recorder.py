"""Events of jobs, as rows: so that all processes together tell of them once, and tell of them at all if this one dies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from sqlalchemy import Connection

from taurine.clock import Clock, now_ms
from taurine.errors import LedgerError, LedgerUnavailable
from taurine.jobs.reporting.alerts import Alert
from taurine.jobs.reporting.lines import log, one_line
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.alerts import alert_of, change_alert, refresh_alert
from taurine.ledger.database import Database
from taurine.observe.alerts.deciding import after_event, subject_of
from taurine.observe.alerts.rule import AlertRule, EventRule

__all__ = ["EventRecorder"]

_MOST_WAITING = 1000
"""Events that wait for a ledger that does not answer; the newest are kept."""

_TRIES = 5
"""Other processes may write the same row; each of them ends its own try."""


class EventRecorder:
    """Writes events that a rule asks for. What it writes leaves the application, so it is redacted.

    What a ledger that is away does not take waits here, until whoever has made this calls `write_waiting` again; it is
    lost with the process. woken: called when there is something to tell.
    """

    def __init__(
        self,
        rules: Iterable[AlertRule],
        *,
        application: str,
        database: Database,
        redact: Redact,
        clock: Clock,
        woken: Callable[[], None],
    ) -> None:
        self._rules = [rule for rule in rules if isinstance(rule, EventRule)]
        self._application = application
        self._database = database
        self._redact = redact
        self._clock = clock
        self._woken = woken
        self._waiting: deque[tuple[EventRule, Alert]] = deque(maxlen=_MOST_WAITING)

    @property
    def waiting(self) -> int:
        """Events that are not written yet."""
        return len(self._waiting)

    async def record(self, alert: Alert) -> None:
        """Write an event, now or by the next `write_waiting` that finds the ledger."""
        self.keep(alert)
        try:
            await self.write_waiting()
        except LedgerUnavailable:
            return

    def keep(self, alert: Alert) -> None:
        """Have an event wait for `write_waiting`, if a rule asks for it."""
        rules = [rule for rule in self._rules if rule.kind == alert.kind]
        if not rules:
            return
        shown = alert._replace(
            job_id=self._redact.job_id(alert.job_id),
            message=self._redact.text(alert.message),
            application=self._application,
        )
        self._waiting.extend((rule, shown) for rule in rules)

    async def write_waiting(self) -> None:
        """Write what waits. Raises LedgerUnavailable."""
        while self._waiting:
            rule, alert = self._waiting.popleft()
            try:
                await self._database.write(partial(_write, rule=rule, alert=alert, now=now_ms(self._clock)))
            except (LedgerUnavailable, asyncio.CancelledError):
                if len(self._waiting) < _MOST_WAITING:
                    self._waiting.appendleft((rule, alert))
                raise
            except LedgerError as error:
                # It would be refused again, and those behind it would wait for ever.
                log.error("the alert %s of job %s is dropped: %s", alert.kind, one_line(alert.job_id), error)
            self._woken()


def _write(connection: Connection, rule: EventRule, alert: Alert, now: int) -> None:
    for _ in range(_TRIES):
        row = alert_of(connection, rule.key, subject_of(alert))
        changed = after_event(rule, row, alert, now)
        if changed is None and row is not None:
            refresh_alert(connection, row, value=None, at=now)
            return
        if changed is not None and change_alert(connection, row, changed) is not None:
            return
