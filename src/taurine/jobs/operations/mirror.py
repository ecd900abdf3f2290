"""Copies of open dead letters in BullMQ queues, for dashboards that know nothing of the ledger.

A copy is a job that nobody works on, under the entry's id, so that copying again changes nothing. The ledger stays the
truth: an entry is dealt with there, and its copy goes away. Removing a copy in a dashboard does not touch the entry.

The members of a copy's data are those that hand-written dead letter queues use, all names of them:

    deadLetterId     the entry                       error           the message of the last attempt's error
    originalJobId    the job                         errorType       its type
    originalQueue    where it ran; also `queue`      stacktrace      where it came from
    originalJob      the job type                    failedAt        ISO 8601, UTC
    jobData          the payload, as it travelled    totalAttempts   attempts that were made; also `attempts`
    tenant           whose it is, or null            reason          exhausted, permanent, crashed, unknown_type
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from taurine.clock import now_ms
from taurine.errors import InvalidOption, JobLocked, StoreError
from taurine.jobs.backend import Backend
from taurine.jobs.catalog.catalog import Catalog
from taurine.ledger.dead_letter_entry import DeadLetter
from taurine.ledger.dead_letters import (
    mark_mirrored,
    mark_unmirrored,
    take_resolved_mirrored,
    take_unmirrored,
)
from taurine.options import AddOptions
from taurine.queue.wire import Encoded, encode_json
from taurine.service import Service

__all__ = ["DeadLetterMirror", "MirrorReport", "mirror_queues", "remove_mirrored"]

_BATCH = 200
"""Entries of one step; payloads may be large."""


class MirrorReport(NamedTuple):
    """How many copies one pass has made and removed."""

    copied: int
    removed: int


def mirror_queues(catalog: Catalog) -> dict[str, str]:
    """Where the dead letters of each queue are copied to; queues without a mirror are left out.

    Raises InvalidOption when a mirror is a queue that jobs go to.
    """
    mirrors = {queue: mirror for queue in catalog.queues if (mirror := catalog.rules_of(queue).mirror) is not None}
    for queue, mirror in mirrors.items():
        if mirror in catalog.queues:
            raise InvalidOption(
                f"the dead letter queue {mirror!r} of {queue!r} is a queue that jobs go to: its workers would run the copies"
            )
    return mirrors


class DeadLetterMirror(Service[MirrorReport]):
    """Makes copies of open entries, and removes those of entries that were dealt with, by whatever process.

    Several may run at once.
    """

    def __init__(
        self,
        backend: Backend,
        mirrors: Mapping[str, str],
        *,
        random: Random,
        interval: float = 5.0,
        batch: int = _BATCH,
    ) -> None:
        super().__init__(name="dead letter mirror", interval=interval, clock=backend.clock, random=random)
        self._backend = backend
        self._mirrors = mirrors
        self._batch = batch

    async def run_once(self) -> MirrorReport:
        return MirrorReport(await self._copy_all(), await self._remove_all())

    async def _copy_all(self) -> int:
        copied = 0
        queues = list(self._mirrors)
        while True:
            entries = await self._backend.database.read(
                lambda connection: take_unmirrored(connection, queues, self._batch)
            )
            await self._copy(entries)
            copied += len(entries)
            if len(entries) < self._batch:
                return copied

    async def _copy(self, entries: Sequence[DeadLetter]) -> None:
        by_queue: defaultdict[str, list[DeadLetter]] = defaultdict(list)
        for entry in entries:
            by_queue[self._mirrors[entry.queue]].append(entry)
        for name, group in by_queue.items():
            queue = await self._backend.queue(name)
            await queue.add_many([(entry.type, Encoded(_data_of(entry)), _options_of(entry)) for entry in group])
            ids = [entry.id for entry in group]
            now = now_ms(self._clock)
            await self._backend.database.write(lambda connection, ids=ids, now=now: mark_mirrored(connection, ids, now))

    async def _remove_all(self) -> int:
        removed = 0
        while True:
            entries = await self._backend.database.read(
                lambda connection: take_resolved_mirrored(connection, list(self._mirrors), self._batch)
            )
            gone = await _remove(self._backend, self._mirrors, entries)
            removed += gone
            if len(entries) < self._batch or not gone:
                return removed


async def remove_mirrored(backend: Backend, entries: Sequence[DeadLetter]) -> None:
    """Remove the copies of entries that were dealt with just now; where that fails, the mirror does it later."""
    mirrors = mirror_queues(backend.catalog)
    copied = [entry for entry in entries if entry.mirrored_at is not None and entry.queue in mirrors]
    with contextlib.suppress(StoreError):
        await _remove(backend, mirrors, copied)


async def _remove(backend: Backend, mirrors: Mapping[str, str], entries: Sequence[DeadLetter]) -> int:
    """Remove copies, and return how many are gone."""
    gone: list[str] = []
    for entry in entries:
        queue = await backend.queue(mirrors[entry.queue])
        with contextlib.suppress(JobLocked):  # somebody works on a copy: it stays until that ends
            await queue.remove(entry.id)
            gone.append(entry.id)
    if gone:
        await backend.database.write(lambda connection: mark_unmirrored(connection, gone))
    return len(gone)


def _options_of(entry: DeadLetter) -> AddOptions:
    return {"job_id": entry.id, "timestamp": entry.failed_at}


def _data_of(entry: DeadLetter) -> str:
    members: dict[str, Any] = {
        "deadLetterId": entry.id,
        "originalJobId": entry.job_id,
        "originalQueue": entry.queue,
        "queue": entry.queue,
        "originalJob": entry.type,
        "tenant": entry.tenant,
        "error": entry.error.get("message"),
        "errorType": entry.error.get("type"),
        "stacktrace": entry.error.get("traceback"),
        "failedAt": entry.failed_at.isoformat(),
        "attempts": entry.attempts,
        "totalAttempts": entry.attempts,
        "reason": entry.reason,
    }
    # The payload goes as it is stored, so that its numbers stay exact.
    return f'{encode_json(members)[:-1]},"jobData":{entry.payload_json}}}'
