"""Queues as an operator sees them: what waits in each and since when, who works on it; stopping, starting, emptying and removing one.

The numbers of jobs come from the ledger, since a record is what was promised; how the queue stands comes from its server, as long as that answers.
"""

from __future__ import annotations

import asyncio
import builtins
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from taurine.errors import EmbeddedServerError, InvalidOption, RecordError, StoreError, did_you_mean
from taurine.jobs.backend import Backend
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.cancellations import request_cancel
from taurine.ledger.dead_letters import depth
from taurine.ledger.listing import Count
from taurine.ledger.outbox import outbox_lag
from taurine.ledger.queue_counts import (
    QueueRecords,
    count_by_queue,
    has_work,
    records_of_queue,
    remove_ended_of,
)
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import STATUSES, Status
from taurine.options import RateLimit
from taurine.queue.reading import WorkerInfo
from taurine.queue.states import JobState

__all__ = ["QueueStanding", "QueueView", "Queues"]

ResultT = TypeVar("ResultT")

_ANSWER_SECONDS = 2.0
"""Seconds that the server of queues has to answer for one queue; the records are shown without it."""

_STEP = 100
"""Jobs that are cancelled at once."""

_REMOVED_AT_ONCE = 1000
"""Records that one transaction removes."""

_AT_WORK: tuple[JobState, ...] = ("waiting", "prioritized", "active")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStanding:
    """What the server says of a queue. workers: those that are connected now; None where the server does not let us ask."""

    counts: Mapping[JobState, int]
    paused: bool
    workers: Sequence[WorkerInfo] | None
    concurrency: int | None
    rate_limit: RateLimit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One queue. declared: True where a job type of this application goes to it.

    records: how many records of each status; see `Count.exact`. oldest_waiting: seconds that the first job has been due which waits for its first start; None for none.
    undelivered: records that the server has not been told of yet. dead_letters: those that nobody has dealt with.
    standing: what the server says; None when it did not answer, and then `error` says why.
    """

    name: str
    declared: bool
    records: Mapping[Status, Count]
    oldest_waiting: float | None
    undelivered: int
    dead_letters: int
    standing: QueueStanding | None
    error: str | None = None


class Queues:
    """The queues of an application: `Taurine.queues`."""

    def __init__(self, backend: Callable[[], Backend], authorize: Authorize | None) -> None:
        self._backend_here = backend
        self._authorize = authorize

    # Looking ------------------------------------------------------------------------------------------------------------------------

    async def list(self) -> builtins.list[QueueView]:
        """All queues that job types go to, and those of which there are records, by name.

        Its cost does not grow with the number of records. A server of queues that does not answer within 2 s leaves `standing` None. Raises LedgerUnavailable.
        """
        backend, now = self._backend_here(), self._now_ms()
        found = await self._read(lambda connection: count_by_queue(connection, now))
        dead = await self._read(depth)
        names = sorted({*backend.catalog.queues, *found, *dead})
        return list(await asyncio.gather(*(self._view(name, found.get(name), dead.get(name, 0)) for name in names)))

    async def get(self, name: str) -> QueueView:
        """One of them. Raises InvalidOption for a name that is none, with the near miss, and LedgerUnavailable."""
        views = await self.list()
        for view in views:
            if view.name == name:
                return view
        raise self._unknown(name, [view.name for view in views])

    async def has_work(self, names: Collection[str]) -> bool:
        """True while jobs of these queues are due or running, or have begun and are to go on; one that was accepted for a later time is no work yet.

        Jobs that others have added to the queues count as well. Raises LedgerUnavailable, StoreUnavailable, StoreRefused.
        """
        now = self._now_ms()
        if await self._read(lambda connection: has_work(connection, names, now)):
            return True
        backend = self._backend_here()
        for name in names:
            if any((await (await backend.queue(name)).counts(*_AT_WORK)).values()):
                return True
        return False

    # Running their affairs ------------------------------------------------------------------------------------------------------------

    async def pause(self, name: str, *, user: str | None = None) -> None:
        """Let no worker start jobs of this queue, wherever it is; running jobs go on, and jobs are accepted. It holds until `resume`, or until the server loses its data.

        Repeating it changes nothing. user: who asks for it; the audit says so. Raises InvalidOption for a name that is none, NotAuthorized, StoreUnavailable,
        StoreRefused, LedgerUnavailable (for the audit: it is paused then).
        """
        await self._change(name, "pause", user)
        await (await self._backend_here().queue(name)).pause()
        await self._note("pause", name, user)

    async def resume(self, name: str, *, user: str | None = None) -> None:
        """Let workers start its jobs again. Repeating it changes nothing. Raises as `pause` does."""
        await self._change(name, "resume", user)
        await (await self._backend_here().queue(name)).resume()
        await self._note("resume", name, user)

    async def drain(
        self, name: str, *, delayed: bool = False, reason: str = "the queue was drained", user: str | None = None
    ) -> int:
        """Cancel what waits in this queue; returns how many jobs that were. Running ones go on.

        delayed: also those that were accepted for a later time, and those that wait for their next attempt. Default: False.
        Up to 100 are cancelled in one transaction, each as by `Taurine.cancel`, so that a call that is cut short can be repeated; jobs that are accepted meanwhile may stay.
        Raises as `pause` does.
        """
        await self._change(name, "drain", user)
        statuses: tuple[Status, ...] = ("queued", "retrying") if delayed else ("queued",)
        cancelled, after = 0, ""
        while ids := await self._page(name, statuses, after):
            after = ids[-1]
            cancelled += len(await self._cancel(ids if delayed else await self._due(ids), reason, user))
        await self._note("drain", name, user, cancelled=cancelled)
        return cancelled

    async def remove(self, name: str, *, user: str | None = None) -> int:
        """Remove a queue with all that it holds: its jobs from the server, running or not, and the records of its declared types that have ended; returns how many records.

        What has not ended is cancelled first. Dead letters and audit rows stay. For queues that were made to be thrown away. Raises as `pause` does.
        """
        await self._change(name, "remove", user)
        backend = self._backend_here()
        after = ""
        while ids := await self._page(name, ("queued", "running", "retrying", "waiting"), after):
            after = ids[-1]
            await self._cancel(ids, "the queue was removed", user)
        await (await backend.queue(name)).obliterate(force=True)
        removed = 0
        for job_type in backend.catalog.on_queue(name):
            step = _REMOVED_AT_ONCE
            while step == _REMOVED_AT_ONCE:
                step = await backend.database.write(
                    lambda connection, of=job_type.name: remove_ended_of(connection, name, of, _REMOVED_AT_ONCE)
                )
                removed += step
        await self._note("remove", name, user, records=removed)
        return removed

    # One queue ------------------------------------------------------------------------------------------------------------------------

    async def _view(self, name: str, records: QueueRecords | None, dead_letters: int) -> QueueView:
        now = self._now_ms()
        undelivered = await self._read(lambda connection: outbox_lag(connection, [name], now).waiting)
        standing, error = None, None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                standing = await self._standing(name)
        except (StoreError, EmbeddedServerError) as refusal:
            error = str(refusal)
        except TimeoutError:
            error = f"the server of queues did not answer within {_ANSWER_SECONDS:g} s"
        since = None if records is None else records.due_since
        return QueueView(
            name=name,
            declared=self._backend_here().catalog.has_queue(name),
            records=dict.fromkeys(STATUSES, Count(0, True)) if records is None else records.counts,
            oldest_waiting=None if since is None else max(0, now - since) / 1000,
            undelivered=undelivered,
            dead_letters=dead_letters,
            standing=standing,
            error=error,
        )

    async def _standing(self, name: str) -> QueueStanding:
        queue = await self._backend_here().queue(name)
        counts, meta, workers = await asyncio.gather(queue.counts(), queue.meta(), queue.workers())
        return QueueStanding(
            counts=counts,
            paused=meta.paused,
            workers=workers,
            concurrency=meta.concurrency,
            rate_limit=meta.rate_limit,
        )

    async def _page(self, name: str, statuses: Sequence[Status], after: str) -> builtins.list[str]:
        return await self._read(lambda connection: records_of_queue(connection, name, statuses, after, _STEP))

    async def _due(self, ids: Sequence[str]) -> builtins.list[str]:
        records = await asyncio.gather(*map(self._backend_here().get, ids))
        now = self._backend_here().clock.now()
        return [
            record.id
            for record in records
            if record is not None and (record.due_at is None or record.due_at.timestamp() <= now)
        ]

    async def _cancel(self, ids: Sequence[str], reason: str, user: str | None) -> builtins.list[JobRecord]:
        """Cancel these jobs in one transaction, and take them out of their queue; returns those that were cancelled at once."""
        backend, now = self._backend_here(), self._now_ms()

        def cancel(connection: Connection) -> builtins.list[JobRecord]:
            records: builtins.list[JobRecord] = []
            for job_id in ids:
                with suppress(RecordError):  # it has ended, or was purged, in between
                    answer = request_cancel(connection, job_id, now, reason, user)
                    records += [answer.record] if answer.at_once else []
            return records

        cancelled = await backend.database.write(cancel)
        for record in cancelled:
            backend.watch.tell(record.id)
        with suppress(
            StoreError, EmbeddedServerError, TimeoutError
        ):  # what is not gone in time, the reconciler takes out
            async with asyncio.timeout(_ANSWER_SECONDS):
                await backend.take_out(cancelled)
        return cancelled

    async def _change(self, name: str, action: str, user: str | None) -> None:
        backend = self._backend_here()
        await backend.ready()
        if not backend.catalog.has_queue(name):
            await self.get(name)
        await authorized(self._authorize, AccessRequest(action=f"{action}_queue", job_type="", tenant=None, user=user))

    async def _note(self, action: str, name: str, user: str | None, **counts: int) -> None:
        detail = json.dumps({"queue": name, **counts})
        entry = AuditEntry(self._now_ms(), user, f"{action}_queue", None, None, detail)
        await self._backend_here().database.write(lambda connection: record_actions(connection, [entry]))

    def _unknown(self, name: str, known: Sequence[str]) -> InvalidOption:
        return InvalidOption(
            f"no job type goes to a queue {name!r:.80}, and there is no record of it{did_you_mean(name, known)}"
        )

    async def _read(self, work: Callable[[Connection], ResultT]) -> ResultT:
        backend = self._backend_here()
        await backend.ready()
        return await backend.database.read(work)

    def _now_ms(self) -> int:
        return round(self._backend_here().clock.now() * 1000)
