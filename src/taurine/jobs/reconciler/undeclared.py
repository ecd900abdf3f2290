"""Jobs that wait to be handed over and that no outbox takes: of a type that has gone to another queue, and of types
that no working process declares.

An outbox looks at the queues that its application names. What waits for another one was accepted by a program that is
no longer there: its type was moved, renamed, or removed too early; or the program merely does not run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from taurine.clock import Clock, now_ms
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.jobs.reporting.alerts import Alert, Alerts
from taurine.jobs.reporting.lines import one_line
from taurine.ledger.database import Database
from taurine.ledger.outbox import take_undispatched, undispatched_kinds

__all__ = ["UndeclaredJobs"]

log = logging.getLogger("taurine.jobs")

_WAITED_MS = 60_000
"""How long jobs wait before it is said that nobody hands them over; and the time from one look to the next."""

_REPEAT_MS = 3_600_000
"""Time after which an alert of a type is raised again."""

_BATCH = 500

_BATCHES = 100
"""Of one look, for each type."""


class UndeclaredJobs:
    """Looks once a minute, however often it is called.

    rate: jobs a second that are handed over at most. Default: 5,000.
    """

    def __init__(
        self,
        *,
        database: Database,
        dispatcher: Dispatcher,
        catalog: Catalog,
        alerts: Alerts,
        clock: Clock,
        rate: float = 5000.0,
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._alerts = alerts
        self._clock = clock
        self._rate = rate
        self._next_look = 0
        self._waiting: set[str] = set()
        """The types of which the last look has found jobs."""
        self._alerted: dict[str, int] = {}
        """When, ms, for as long as no other alert of the type may follow."""

    async def look(self) -> None:
        """Hand over what has a queue here by now, and tell of what has none.

        Raises LedgerUnavailable, LedgerRefused, StoreUnavailable, StoreRefused.
        """
        now = now_ms(self._clock)
        if now < self._next_look:
            return
        until = now - _WAITED_MS
        kinds = await self._database.read(lambda connection: undispatched_kinds(connection, until))
        queues = set(self._catalog.all_queues)
        undeclared: dict[str, dict[str, int]] = {}
        for name, queue, count in kinds:
            if self._catalog.find(name) is None:
                undeclared.setdefault(name, {})[queue] = count
            elif queue not in queues:
                await self._move(name, queue, until)
        self._tell(undeclared, now)
        self._next_look = now + _WAITED_MS

    async def _move(self, name: str, queue: str, until: int) -> None:
        """Jobs that were accepted for a queue to which this type no longer goes, and that the outbox does not see."""
        before: set[str] = set()
        for _ in range(_BATCHES):
            started = self._clock.monotonic()
            records = await self._database.read(
                lambda connection: take_undispatched(connection, [queue], _BATCH, until, types=[name])
            )
            ids = {record.id for record in records}
            if ids <= before:
                return
            await self._dispatcher.dispatch(records)
            before = ids
            await self._clock.sleep(max(0.0, len(ids) / self._rate - (self._clock.monotonic() - started)))

    def _tell(self, undeclared: Mapping[str, Mapping[str, int]], now: int) -> None:
        self._alerted = {name: at for name, at in self._alerted.items() if now - at < _REPEAT_MS}
        for name, waiting in undeclared.items():
            queue, _ = max(waiting.items(), key=lambda item: item[1])
            text = (
                f"{sum(waiting.values())} jobs of type {name!r} wait for queue {queue!r}, and this application declares no such type: "
                "start a process that does, declare the type again under its old name, or cancel them"
            )
            if name not in self._waiting:
                log.warning("%s", one_line(text), extra={"job_type": name, "queue": queue})
            elif name not in self._alerted:
                # In two looks, a minute apart: after an outage every program has a backlog, and is about to work it off.
                self._alerted[name] = now
                self._alerts.raise_alert(Alert("undeclared_type", "", name, queue, None, text))
        self._waiting = set(undeclared)
