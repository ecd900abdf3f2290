"""Keeping the ledger small: what is older than its policy goes, whether jobs come or not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from datetime import timedelta
from random import Random
from typing import Any, TypeAlias

from sqlalchemy import Connection

from taurine.clock import Clock, now_ms
from taurine.ledger.database import Database
from taurine.ledger.retention import (
    PurgeStep,
    RetentionPolicy,
    purge_audit,
    purge_dead_letters,
    purge_effects,
    purge_idempotency_keys,
    purge_records,
)
from taurine.ledger.tallies import purge_tallies
from taurine.ledger.workers import purge_workers
from taurine.service import Service

__all__ = ["PurgeReport", "Retention"]

log = logging.getLogger("taurine.jobs")

_ROWS_PER_STEP = 500
"""Few enough that SQLite's one writer, or a row's lock, is held for milliseconds."""

_WORKERS_KEPT_MS = 24 * 3600 * 1000
"""How long one is shown that has stopped, or died."""

_Step: TypeAlias = Callable[[Connection, tuple[Any, ...] | None], PurgeStep]


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """How many rows of each kind one pass removed."""

    records: int
    dead_letters: int
    effects: int
    idempotency_keys: int
    audit: int
    tallies: int
    workers: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


class Retention(Service[PurgeReport]):
    """Removes what the policy says, in small steps that leave room for other writes between them.

    types: whose records it may remove; those of other types stay. Default: all types.
    interval: seconds from one pass to the next. Several may run at once, in several processes; each row goes once.
    """

    def __init__(
        self,
        database: Database,
        policy: RetentionPolicy,
        *,
        clock: Clock,
        random: Random,
        types: Collection[str] | None = None,
        interval: float = 3600.0,
        rows_per_step: int = _ROWS_PER_STEP,
    ) -> None:
        super().__init__(name="retention", interval=interval, clock=clock, random=random)
        self._database = database
        self._policy = policy
        self._types = types
        self._rows = rows_per_step

    async def run_once(self) -> PurgeReport:
        """One pass over everything that is old enough now; returns how much went."""
        policy, rows, now = self._policy, self._rows, now_ms(self._clock)
        report = PurgeReport(
            records=await self._all(
                lambda connection, after: purge_records(connection, policy, now, rows, after, types=self._types)
            ),
            dead_letters=await self._all(lambda connection, _: purge_dead_letters(connection, policy, now, rows)),
            effects=await self._all(lambda connection, after: purge_effects(connection, policy, now, rows, after)),
            idempotency_keys=await self._all(lambda connection, _: purge_idempotency_keys(connection, now, rows)),
            audit=await self._all(lambda connection, _: purge_audit(connection, policy, now, rows)),
            tallies=await self._all(lambda connection, _: _purge_tallies(connection, policy, now)),
            workers=await self._all(lambda connection, _: purge_workers(connection, now - _WORKERS_KEPT_MS)),
        )
        if report.total:
            log.info("retention removed %d rows of the ledger: %s", report.total, report)
        return report

    async def _all(self, step: _Step) -> int:
        """Take steps until there is nothing left to look at; each is a transaction of its own."""
        removed = 0
        after: tuple[Any, ...] | None = None
        while True:
            self.heartbeat.turn()
            done = await self._database.write(lambda connection, after=after: step(connection, after))
            removed += done.removed
            after = done.after
            if after is None:
                return removed


def _purge_tallies(connection: Connection, policy: RetentionPolicy, now: int) -> PurgeStep:
    if policy.tallies is None:
        return PurgeStep(0, None)
    return purge_tallies(connection, now - policy.tallies // timedelta(milliseconds=1))
