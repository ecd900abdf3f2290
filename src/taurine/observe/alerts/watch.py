"""The watch: looks every few seconds, in one process of all that run it, and tells of what is due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from sqlalchemy import Connection

from taurine.clock import now_ms
from taurine.errors import LedgerError
from taurine.jobs.backend import Backend
from taurine.jobs.operations.readings import Readings
from taurine.jobs.reporting.alerts import Alerts
from taurine.jobs.reporting.lines import log
from taurine.ledger.alerts import (
    AlertRow,
    change_alert,
    list_alerts,
    note_at_look,
    noted_at_look,
    purge_alerts,
    refresh_alert,
    take_look,
)
from taurine.observe.alerts.deciding import after_finding, after_quiet
from taurine.observe.alerts.delivery import Delivery
from taurine.observe.alerts.look import Look
from taurine.observe.alerts.pauses import Pauses
from taurine.observe.alerts.recorder import EventRecorder
from taurine.observe.alerts.rule import AlertRule, EventRule, Finding, LimitRule
from taurine.observe.alerts.sinks.hook import HookSink
from taurine.observe.alerts.sinks.log_lines import LogSink
from taurine.observe.alerts.sinks.sink import Sink
from taurine.service import Service

__all__ = ["INTERVAL", "AlertWatch"]

INTERVAL = 15.0
"""Seconds between two looks of all processes together."""

_KEPT_MS = 24 * 3600 * 1000
"""For so long it is shown that an alert is over, or what nobody looks at any more."""


class AlertWatch(Service[None]):
    """Looks by the rules of an application, and tells its sinks.

    Any number of processes run it: one of them looks, and one tells, each time anew.

    readings: what both servers say; see `Taurine.readings`. alerts: those of the worker, whose hook hears of events
    from the worker itself, and from here of figures. Default: no hook.
    """

    def __init__(
        self,
        backend: Backend,
        rules: Sequence[AlertRule],
        sinks: Sequence[Sink],
        *,
        application: str,
        readings: Callable[[], Awaitable[Readings]],
        alerts: Alerts | None = None,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(name="alerts", interval=interval, clock=backend.clock, random=backend.random)
        self._backend = backend
        self._application = application
        self._readings = readings
        self._limits = [rule for rule in rules if isinstance(rule, LimitRule)]
        self._events = {rule.key: rule for rule in rules if isinstance(rule, EventRule)}
        self._woken = asyncio.Event()
        self.recorder = EventRecorder(
            rules,
            application=application,
            database=backend.database,
            redact=backend.redact,
            clock=backend.clock,
            woken=self._woken.set,
        )
        """Where workers say what has happened."""
        if alerts is not None:
            alerts.recorded_by(self.recorder.record)
        at_hand = (LogSink(), *(() if alerts is None or not alerts.has_hook else (HookSink(alerts),)))
        of_rule: dict[str, Sequence[Sink]] = {
            rule.key: sinks if isinstance(rule, EventRule) else (*at_hand, *sinks) for rule in rules
        }
        self._delivery = Delivery(database=backend.database, sinks=of_rule, redact=backend.redact, clock=backend.clock)

    async def run_once(self) -> None:
        """Look, if nobody has in the last interval, and tell what is due. Raises LedgerUnavailable."""
        self._woken.clear()
        await self._backend.ready()
        await self.recorder.write_waiting()
        now, gap = now_ms(self._clock), round(self.interval * 900)  # intervals are not all of one length
        work = partial(take_look, application=self._application, now=now, interval_ms=gap)
        if await self._backend.database.write(work):
            await self._look()
        await self._delivery.tell_all()

    async def rest(self, seconds: float) -> None:
        """Until the next pass, or until there is something to tell."""
        await self._clock.wait(self._woken, seconds)

    async def _look(self) -> None:
        readings = await self._readings()
        look = Look(self._backend, readings, await self._pauses(readings), application=self._application)
        found = [(rule, finding) for rule in self._limits for finding in await self._findings(rule, look)]
        await self._backend.database.write(partial(self._decide, found=found, now=now_ms(self._clock)))

    async def _pauses(self, readings: Readings) -> Pauses:
        before = Pauses.from_json(
            await self._backend.database.read(lambda connection: noted_at_look(connection, self._application))
        )
        if readings.store is None:
            return before
        after = before.after({name: one.paused for name, one in readings.store.queues.items()}, readings.at)
        if after != before:
            note = partial(note_at_look, application=self._application, note=after.to_json())
            await self._backend.database.write(note)
        return after

    async def _findings(self, rule: LimitRule, look: Look) -> Sequence[Finding]:
        try:
            return await rule.findings(look)
        except LedgerError:
            raise
        except Exception:  # noqa: BLE001 - a rule may be the application's own code
            log.exception("the rule of alerts %s failed", rule.key)
            return []

    def _decide(self, connection: Connection, found: Sequence[tuple[LimitRule, Finding]], now: int) -> None:
        """One transaction, in one order, so that two that decide cannot wait for each other's rows."""
        rows = {(row.rule, row.subject): row for row in list_alerts(connection)}
        for rule, finding in sorted(found, key=lambda one: (one[0].key, one[1].subject)):
            row = rows.get((rule.key, finding.subject))
            after = after_finding(rule, row, finding, now, self._application)
            if after is not None:
                change_alert(connection, row, after)
            elif row is not None and row.state != "over":
                refresh_alert(connection, row, value=finding.value, at=now)
        for row in sorted(rows.values(), key=lambda row: (row.rule, row.subject)):
            self._decide_of_events(connection, row, now)
        purge_alerts(connection, now - _KEPT_MS)

    def _decide_of_events(self, connection: Connection, row: AlertRow, now: int) -> None:
        if (rule := self._events.get(row.rule)) is not None and (after := after_quiet(rule, row, now)) is not None:
            change_alert(connection, row, after)
