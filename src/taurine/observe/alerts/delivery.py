"""Telling of what is due: whoever changes the row first tells, each sink once, and again where one failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from taurine.clock import Clock, now_ms
from taurine.jobs.reporting.alerts import Alert
from taurine.jobs.reporting.lines import log, one_line
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.alerts import AlertRow, change_alert, due_alerts
from taurine.ledger.database import Database
from taurine.observe.alerts.deciding import alert_in
from taurine.observe.alerts.sinks.sink import Sink

__all__ = ["MOST_TRIES", "Delivery"]

MOST_TRIES = 10
"""Tries of one alert: with the pauses between them an hour and a half. Who could not be told by then is told of the
next one.
"""

_FIRST_PAUSE_MS = 15_000
_LONGEST_PAUSE_MS = 900_000

_AT_ONCE = 10
"""Alerts of one pass: those of one bad day must not keep each other waiting, nor open a hundred connections."""

_SINK_SECONDS = 15.0

_CLAIM_MS = 60_000
"""For so long nobody else tells an alert: longer than its sinks may take. One whose teller died is told by another
then.
"""


class Delivery:
    """Tells of alerts.

    sinks: of each kind of rule, by its name; the names of rules that are not here are the affair of another program.

    redact: what no sink is told, and no log line says.
    """

    def __init__(self, *, database: Database, sinks: dict[str, Sequence[Sink]], redact: Redact, clock: Clock) -> None:
        self._database = database
        self._sinks = sinks
        self._redact = redact
        self._clock = clock

    async def tell_all(self) -> None:
        """Tell what is due. Raises LedgerUnavailable; then what was told may be told once more."""
        while due := await self._due():
            results = await asyncio.gather(*map(self._tell, due), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            if len(due) < _AT_ONCE:
                return

    async def _due(self) -> list[AlertRow]:
        now, rules = now_ms(self._clock), [*self._sinks]
        return await self._database.read(lambda connection: due_alerts(connection, rules, now, _AT_ONCE))

    async def _tell(self, row: AlertRow) -> None:
        claimed = await self._change(row, replace(row, due_at=now_ms(self._clock) + _CLAIM_MS))
        if claimed is None:
            return
        alert = self._shown(alert_in(row))
        left = [sink for sink in self._sinks[row.rule] if sink.name not in row.reached]
        told = await asyncio.gather(*(self._told(sink, alert) for sink in left))
        reached = (*row.reached, *(sink.name for sink, done in zip(left, told, strict=True) if done))
        await self._change(claimed, self._after(claimed, reached, alert, done=all(told)))

    def _shown(self, alert: Alert) -> Alert:
        """By the rules of today: the row may be older than they are."""
        job_id, message = self._redact.job_id(alert.job_id), self._redact.text(alert.message)
        return alert._replace(job_id=job_id, message=message)

    async def _told(self, sink: Sink, alert: Alert) -> bool:
        try:
            async with asyncio.timeout(_SINK_SECONDS):
                await sink.tell(alert)
        except Exception as error:  # noqa: BLE001 - a sink may be anybody's code
            why = one_line(self._redact.text(_words(error)))
            log.warning("%s could not be told of the alert %s: %s", sink.name, alert.kind, why)
            return False
        return True

    def _after(self, row: AlertRow, reached: Sequence[str], alert: Alert, *, done: bool) -> AlertRow:
        now = now_ms(self._clock)
        if done:
            return replace(row, reached=tuple(reached), notified_at=now, due_at=None)
        tries = row.tries + 1
        if tries >= MOST_TRIES:
            log.error("the alert %s of %s is given up after %d tries", alert.kind, one_line(row.subject), tries)
            # Told as far as it could be: repeats count from here.
            return replace(row, reached=tuple(reached), notified_at=now, due_at=None, tries=tries)
        pause = min(_LONGEST_PAUSE_MS, _FIRST_PAUSE_MS * 2 ** (tries - 1))
        return replace(row, reached=tuple(reached), due_at=now + pause, tries=tries)

    async def _change(self, before: AlertRow, after: AlertRow) -> AlertRow | None:
        return await self._database.write(partial(change_alert, before=before, after=after))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
