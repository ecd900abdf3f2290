"""Queues as an operator sees them: what waits in each and since when, who works on it; stopping, starting, emptying and
removing one.

The numbers of jobs come from the ledger, since a record is what was promised; how the queue stands comes from its
server, as long as that answers.
"""

from __future__ import annotations

import asyncio
import builtins
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from sqlalchemy import Connection

from taurine.clock import now_ms
from taurine.errors import EmbeddedServerError, InvalidOption, StoreError, UnknownName, did_you_mean
from taurine.jobs.backend import Backend
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.operations.cancelling import cancel_together, take_out_in_time
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.dead_letters import depth
from taurine.ledger.listing import Count
from taurine.ledger.outbox import outbox_lag
from taurine.ledger.queue_counts import (
    QueueRecords,
    count_by_queue,
    created_before,
    has_work,
    records_of_queue,
    remove_ended_before,
    remove_ended_of,
)
from taurine.ledger.statuses import STATUSES, Status
from taurine.options import RateLimit, Seconds, require_count, to_seconds
from taurine.queue.events import Event, QueueEvents
from taurine.queue.reading import WorkerInfo
from taurine.queue.states import JobState

__all__ = ["CLEANABLE", "Cleanable", "QueueStanding", "QueueView", "Queues"]

ResultT = TypeVar("ResultT")

_ANSWER_SECONDS = 2.0
"""Seconds that the server of queues has to answer for one queue; the records are shown without it."""

_STEP = 100
"""Jobs that are cancelled at once."""

_REMOVED_AT_ONCE = 1000
"""Records that one transaction removes."""

_CLEANED_AT_ONCE = 500
"""Records that one transaction reads and removes."""

_NO_LIMIT = 1 << 62

_LARGEST = (1 << 31) - 1
"""What BullMQ's own clients read without loss, and more than anybody means."""

Cleanable: TypeAlias = Literal["completed", "failed", "cancelled", "expired", "queued", "retrying"]
"""The statuses of jobs that can be cleared away."""

CLEANABLE: tuple[Cleanable, ...] = get_args(Cleanable)

_AT_WORK: tuple[JobState, ...] = ("waiting", "prioritized", "active")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStanding:
    """What the server says of a queue.

    workers: those that are connected now; None where the server does not let us ask.
    """

    counts: Mapping[JobState, int]
    paused: bool
    workers: Sequence[WorkerInfo] | None
    concurrency: int | None
    rate_limit: RateLimit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One queue. declared: True where a job type of this application goes to it.

    records: how many records of each status; see `Count.exact`. oldest_waiting: seconds that the first job has been due
    which waits for its first start; None for none.
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


async def _merged(listeners: Mapping[str, QueueEvents]) -> AsyncGenerator[tuple[str, Event]]:
    """What any of them hears. No event is asked for before the last one was taken, as with one listener."""
    coming = {asyncio.ensure_future(anext(listener)): name for name, listener in listeners.items()}
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                name = coming.pop(future)
                event = future.result()
                coming[asyncio.ensure_future(anext(listeners[name]))] = name
                yield name, event
    finally:
        for future in coming:
            future.cancel()
        await asyncio.gather(*coming, return_exceptions=True)


def _require_at_most(value: int, name: str) -> None:
    if value > _LARGEST:
        raise InvalidOption(f"expected {name} to be at most {_LARGEST:,}, got {value:,}")


class Queues:
    """The queues of an application: `Taurine.queues`."""

    def __init__(self, backend: Callable[[], Backend], authorize: Authorize | None) -> None:
        self._backend_here = backend
        self._authorize = authorize

    # Looking ------------------------------------------------------------------------------------------------------------------------

    async def list(self) -> builtins.list[QueueView]:
        """All queues that job types go to, and those of which there are records, by name.

        Its cost does not grow with the number of records. A server of queues that does not answer within 2 s leaves
        `standing` None. Raises LedgerUnavailable.
        """
        backend = self._backend_here()
        now = now_ms(backend.clock)
        found = await self._read(lambda connection: count_by_queue(connection, now))
        dead = await self._read(depth)
        names = sorted({*backend.catalog.queues, *found, *dead})
        return list(await asyncio.gather(*(self._view(name, found.get(name), dead.get(name, 0)) for name in names)))

    async def get(self, name: str) -> QueueView:
        """One of them. Raises UnknownName, with the near miss, and LedgerUnavailable."""
        views = await self.list()
        for view in views:
            if view.name == name:
                return view
        raise self._unknown(name, [view.name for view in views])

    async def has_work(self, names: Collection[str]) -> bool:
        """True while jobs of these queues are due or running, or have begun and are to go on; one that was accepted for
        a later time is no work yet.

        Jobs that others have added to the queues count as well. Raises LedgerUnavailable, StoreUnavailable,
        StoreRefused.
        """
        now = now_ms(self._backend_here().clock)
        if await self._read(lambda connection: has_work(connection, names, now)):
            return True
        backend = self._backend_here()
        for name in names:
            if any((await (await backend.queue(name)).counts(*_AT_WORK)).values()):
                return True
        return False

    @asynccontextmanager
    async def events(
        self, *names: str, since: Seconds | None = None
    ) -> AsyncGenerator[AsyncIterator[tuple[str, Event]]]:
        """Listen to what happens in these queues: `async with app.queues.events() as events: async for queue, event in
        events: …`; see `taurine.queue.events`. It goes on until it is left.

        names: Default: all queues that job types go to. since: seconds; begin so long ago, as far as the queues still
        know, which keep some 10,000 events each. Default: now. Of one queue they are in order.

        Raises UnknownName, with the near miss, InvalidOption, StoreUnavailable; and StoreRefused while listening. An
        outage is waited out.
        """
        backend = self._backend_here()
        for name in names:
            if not backend.catalog.has_queue(name):
                await self.get(name)
        last_id = (
            "$" if since is None else str(max(0, now_ms(backend.clock) - round(to_seconds(since, "since") * 1000)))
        )
        connection = await backend.connection()
        async with AsyncExitStack() as open_ones:
            listeners = {
                name: await open_ones.enter_async_context(
                    QueueEvents(name, connection, prefix=backend.settings.prefix, last_id=last_id, clock=backend.clock)
                )
                for name in names or backend.catalog.queues
            }
            # Closed before the listeners: who leaves the loop early leaves reads behind that are under way.
            yield await open_ones.enter_async_context(aclosing(_merged(listeners)))

    # Running their affairs ------------------------------------------------------------------------------------------------------------

    async def pause(self, name: str, *, user: str | None = None) -> None:
        """Let no worker start jobs of this queue, wherever it is; running jobs go on, and jobs are accepted.

        It holds until `resume`, or until the server loses its data.

        Repeating it changes nothing. user: who asks for it; the audit says so. Raises UnknownName, NotAuthorized,
        StoreUnavailable, StoreRefused, LedgerUnavailable (for the audit: it is paused then).
        """
        await self._change(name, "pause_queue", user)
        await (await self._backend_here().queue(name)).pause()
        await self._note("pause_queue", name, user)

    async def resume(self, name: str, *, user: str | None = None) -> None:
        """Let workers start its jobs again. Repeating it changes nothing. Raises as `pause` does."""
        await self._change(name, "resume_queue", user)
        await (await self._backend_here().queue(name)).resume()
        await self._note("resume_queue", name, user)

    async def drain(
        self,
        name: str,
        *,
        delayed: bool = False,
        reason: str = "the queue was drained",
        limit: int | None = None,
        user: str | None = None,
    ) -> int:
        """Cancel what waits in this queue; returns how many jobs that were. Running ones go on.

        delayed: also those that were accepted for a later time, and those that wait for their next attempt. Default:
        False.
        limit: at most so many; where that many were cancelled there may be more. Default: all.
        Up to 100 are cancelled in one transaction, each as by `Taurine.cancel`, so that a call that is cut short can be
        repeated; jobs that are accepted meanwhile may stay.
        Raises as `pause` does.
        """
        most = _NO_LIMIT if limit is None else require_count(limit, "limit", minimum=1)
        await self._change(name, "drain_queue", user)
        statuses: tuple[Status, ...] = ("queued", "retrying") if delayed else ("queued",)
        due_by = None if delayed else now_ms(self._backend_here().clock)
        cancelled, after = 0, ""
        while cancelled < most and (ids := await self._page(name, statuses, after, due_by, most - cancelled)):
            after = ids[-1]
            cancelled += await self._cancel(ids, reason, user)
        await self._note("drain_queue", name, user, cancelled=cancelled)
        return cancelled

    async def clean(
        self,
        name: str,
        status: Cleanable,
        *,
        older_than: Seconds = 0.0,
        limit: int | None = None,
        user: str | None = None,
    ) -> int:
        """Clear away jobs of one status that have had it for long enough; returns how many that were.

        status: "completed", "failed", "cancelled" or "expired" jobs are removed, their records and what the server
        still has of them; their dead letters and audit rows stay. "queued" jobs, and those that are "retrying", are
        cancelled.
        older_than: seconds since the job has ended, or, for one that is cancelled, since it was accepted. Default: 0.
        limit: at most so many. Default: all.
        Each transaction is of at most 500, so that a call that was cut short can be repeated. Raises as `pause` does.
        """
        if status not in CLEANABLE:
            raise InvalidOption(
                f"expected status to be one of {', '.join(CLEANABLE)}, got {status!r:.40}{did_you_mean(status, CLEANABLE)}"
            )
        seconds = to_seconds(older_than, "older_than")
        most = _NO_LIMIT if limit is None else require_count(limit, "limit", minimum=1)
        await self._change(name, "clean_queue", user)
        before = now_ms(self._backend_here().clock) - round(seconds * 1000)
        if status in ("queued", "retrying"):
            cleaned = await self._cancel_older(name, status, before, most, user)
        else:
            cleaned = await self._remove_older(name, status, before, most)
        await self._note("clean_queue", name, user, status=status, older_than=seconds, cleaned=cleaned)
        return cleaned

    async def set_concurrency(self, name: str, concurrency: int | None, *, user: str | None = None) -> None:
        """Let at most so many jobs of a queue run at once, over all workers; None lifts the limit. Running jobs go on.

        Where `Taurine.queue` declares one, None brings that back within seconds. It holds until it is set anew, or the
        server loses its data. Raises InvalidOption below 1, and as `pause` does.
        """
        if concurrency is not None:
            _require_at_most(require_count(concurrency, "concurrency", minimum=1), "concurrency")
        await self._change(name, "limit_queue", user)
        await (await self._backend_here().queue(name)).set_concurrency(concurrency)
        await self._note("limit_queue", name, user, concurrency=concurrency)

    async def set_rate_limit(self, name: str, limit: RateLimit | None, *, user: str | None = None) -> None:
        """Let at most so many jobs of a queue start in each window, over all workers; None lifts the limit.

        It holds, and is declared, as with `set_concurrency`.

        Raises InvalidOption, and as `pause` does.
        """
        if limit is not None:
            _require_at_most(limit.max, "RateLimit.max")
        await self._change(name, "limit_queue", user)
        await (await self._backend_here().queue(name)).set_rate_limit(limit)
        words = None if limit is None else {"max": limit.max, "duration": to_seconds(limit.duration, "duration")}
        await self._note("limit_queue", name, user, rate_limit=words)

    async def remove(self, name: str, *, user: str | None = None) -> int:
        """Remove a queue with all that it holds: its jobs from the server, running or not, and the records of its
        declared types that have ended; returns how many records.

        What has not ended is cancelled first. Dead letters and audit rows stay. For queues that were made to be thrown
        away. Raises as `pause` does.
        """
        await self._change(name, "remove_queue", user)
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
        await self._note("remove_queue", name, user, records=removed)
        return removed

    async def _cancel_older(self, name: str, status: Status, before: int, most: int, user: str | None) -> int:
        cancelled, after = 0, ""
        while cancelled < most and (ids := await self._page(name, (status,), after)):
            after = ids[-1]
            old = await self._read(lambda connection, ids=ids: created_before(connection, ids, before))
            cancelled += await self._cancel(old[: most - cancelled], "the queue was cleaned", user)
        return cancelled

    async def _remove_older(self, name: str, status: Status, before: int, most: int) -> int:
        backend, removed, after = self._backend_here(), 0, ""
        while removed < most:
            step = min(_CLEANED_AT_ONCE, most - removed)
            records = await backend.database.write(
                lambda connection, after=after, step=step: remove_ended_before(
                    connection, name, status, before, after=after, limit=step
                )
            )
            await take_out_in_time(backend, records)
            removed += len(records)
            if len(records) < step:
                break
            after = records[-1].id
        return removed

    # One queue ------------------------------------------------------------------------------------------------------------------------

    async def _view(self, name: str, records: QueueRecords | None, dead_letters: int) -> QueueView:
        now = now_ms(self._backend_here().clock)
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

    async def _page(
        self, name: str, statuses: Sequence[Status], after: str, due_by: int | None = None, most: int = _STEP
    ) -> builtins.list[str]:
        step = min(_STEP, most)
        return await self._read(
            lambda connection: records_of_queue(connection, name, statuses, after, step, due_by=due_by)
        )

    async def _cancel(self, ids: Sequence[str], reason: str, user: str | None) -> int:
        """Cancel these jobs together; returns how many were cancelled at once."""
        outcome = await cancel_together(self._backend_here(), ids, reason=reason, user=user)
        return len(outcome.at_once)

    async def _change(self, name: str, action: str, user: str | None) -> None:
        backend = self._backend_here()
        await backend.ready()
        if not backend.catalog.has_queue(name):
            await self.get(name)
        await authorized(self._authorize, AccessRequest(action=action, job_type="", tenant=None, user=user))

    async def _note(self, action: str, name: str, user: str | None, **words: Any) -> None:
        detail = json.dumps({"queue": name, **words})
        entry = AuditEntry(now_ms(self._backend_here().clock), user, action, None, None, detail)
        await self._backend_here().database.write(lambda connection: record_actions(connection, [entry]))

    def _unknown(self, name: str, known: Sequence[str]) -> UnknownName:
        return UnknownName(
            f"no job type goes to a queue {name!r:.80}, and there is no record of it{did_you_mean(name, known)}"
        )

    async def _read(self, work: Callable[[Connection], ResultT]) -> ResultT:
        backend = self._backend_here()
        await backend.ready()
        return await backend.database.read(work)
