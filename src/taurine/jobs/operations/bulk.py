"""Bulk operations: dead letters that are redriven or discarded, jobs that are retried or cancelled, thousands at a
time, by a job.

The job is durable as any other: it tells how far it is, can be cancelled in the middle, which keeps what was done until
then, and goes on where it was when its worker dies. It reaches a snapshot: what was there, and what had ended, at the
moment of the count that its caller has seen, and never more than that count.

It runs on a queue of its own, which every worker that is given no queues by name works on too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection

from taurine.clock import Clock, now_ms
from taurine.errors import InvalidOption, MoreThanExpected, TenantMismatch
from taurine.ids import sortable_id
from taurine.jobs.backend import Backend
from taurine.jobs.catalog.declaring import JobOptions
from taurine.jobs.catalog.job_type import JobType, Producer
from taurine.jobs.enqueue.access import Authorize
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.handler.context import Context
from taurine.jobs.operations.bulk_orders import (
    BULK,
    BulkAction,
    BulkFilter,
    BulkOrder,
    BulkRefusal,
    BulkResult,
    Matching,
    check_action,
)
from taurine.jobs.operations.bulk_steps import STEP, BulkStep, Reach, Taken
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.listing import Count, RecordFilter, list_records
from taurine.ledger.records import JobRecord, get_record
from taurine.ledger.selecting import count_chosen, count_entries
from taurine.options import require_count, to_seconds
from taurine.paging import Listing
from taurine.queue.stored_options import timestamp_ms
from taurine.retry import Exponential, Retry

__all__ = ["MOST", "MOST_IDS", "OPERATIONS_QUEUE", "Bulk"]

ResultT = TypeVar("ResultT")

OPERATIONS_QUEUE = "taurine-operations"
"""Where bulk operations go."""

MOST = 100_000
"""Jobs or dead letters that one operation may reach."""

MOST_IDS = 10_000
"""Of those, how many may be named by their ids."""

_ERRORS = 20
"""Refusals that a result explains."""

_LONGEST_REASON = 1000


class Bulk:
    """Bulk operations of one application: `Taurine.bulk`."""

    def __init__(
        self, producer: Producer, *, backend: Callable[[], Backend], authorize: Authorize | None, clock: Clock
    ) -> None:
        self._backend_here = backend
        self._authorize = authorize
        self._clock = clock
        self.job_type: JobType[BulkOrder, BulkResult] = JobType(
            BULK,
            payload=BulkOrder,
            result=BulkResult,
            options=JobOptions(
                queue=OPERATIONS_QUEUE,
                retry=Retry(attempts=10, backoff=Exponential(1.0, cap=60.0, jitter=0.5)),
                description="changes many jobs or dead letters, for an operator",
            ),
            producer=producer,
            handler=self._run,
        )
        """What carries them out."""

    # Asking -------------------------------------------------------------------------------------------------------------------------

    async def count(
        self, action: BulkAction, where: BulkFilter | None = None, *, tenant: str | None = None
    ) -> Matching:
        """How many an operation would reach now, exact up to 100,000.

        Show it, and give its `number` and `at` to `start`.

        Raises InvalidOption for an action that is none, and for a filter that does not fit it; LedgerUnavailable.
        """
        before = now_ms(self._clock) + 1  # what came in this very millisecond is counted
        count = await self._count(check_action(action), where or BulkFilter(), before, tenant)
        return Matching(number=count.number, exact=count.exact, at=datetime.fromtimestamp(before / 1000, UTC))

    async def start(
        self,
        action: BulkAction,
        *,
        ids: Sequence[str] | None = None,
        where: BulkFilter | None = None,
        expected: int | None = None,
        at: float | datetime | None = None,
        limit: int | None = None,
        rate: float | None = None,
        reason: str = "cancelled in bulk",
        user: str | None = None,
        tenant: str | None = None,
    ) -> JobHandle[BulkResult]:
        """Have something done to many, by a job that any worker runs; returns at once, with the job's handle.

        action: "redrive" or "discard" dead letters, "retry" or "cancel" jobs. ids: which, at most 10,000; or where:
        which, by a filter.
        expected: how many its caller has seen that a filter reaches. at: when that was, wall seconds or an aware
        datetime. Default: whatever number, now.
        limit: how many it may reach at most, so that a cure can be tried on a few first. Default: all that were
        counted. Of jobs the oldest come first, of dead letters those that failed last. rate: how many a second at most.
        Default: as fast as it goes.
        reason: of cancelled jobs, for their records. user: who asks; it is written into the audit here, and with each
        job. tenant: only this tenant's.

        The hook `authorize` is asked for an "enqueue" of the type "taurine.bulk" here, and then for each job; those
        that it refuses are counted, and the others go on.
        Raises MoreThanExpected when there are more than `expected` by now; InvalidOption, also for more than 100,000
        without a limit; NotAuthorized, QuotaExceeded (the job counts among the tenant's), LedgerUnavailable.
        """
        checked = check_action(action)
        if (ids is None) == (where is None):
            raise InvalidOption("expected ids or a filter, got " + ("neither" if ids is None else "both"))
        if limit is not None:
            require_count(limit, "limit", minimum=1)
        if rate is not None and not 0 < to_seconds(rate, "rate") <= MOST:
            raise InvalidOption(f"expected rate to be from above 0 to {MOST:,} a second, got {rate!r:.40}")
        if len(reason) > _LONGEST_REASON or not reason:
            raise InvalidOption(f"expected reason to have 1 to {_LONGEST_REASON} characters, got {len(reason)}")
        before = self._before(at)
        order = BulkOrder(
            action=checked,
            ids=None if ids is None else _checked_ids(ids),
            where=where or BulkFilter(),
            before=before,
            limit=0,
            tenant=tenant,
            rate=rate,
            reason=reason,
        )
        number = await self._reached(order, expected, limit)
        return await self._enqueue(order.model_copy(update={"limit": number}), user)

    def list(self, *, tenant: str | None = None, cursor: str | None = None, limit: int = 50) -> Listing[JobRecord]:
        """The operations, the newest first, each as its job's record: `await` gives one page, `async for` goes over
        all. Raises InvalidOption, LedgerUnavailable.
        """
        wanted = RecordFilter(type=BULK, tenant=tenant)

        async def fetch(position: str | None) -> tuple[Sequence[JobRecord], str | None]:
            return await self._read(lambda connection: list_records(connection, wanted, cursor=position, limit=limit))

        return Listing(fetch, cursor)

    async def get(self, job_id: str, *, tenant: str | None = None) -> JobRecord | None:
        """The record of one operation's job, or None: also where the job of this id is another one, or another
        tenant's. Raises LedgerUnavailable.
        """
        record = await self._read(lambda connection: get_record(connection, job_id))
        if record is None or record.type != BULK or (tenant is not None and record.tenant != tenant):
            return None
        return record

    # Checking -----------------------------------------------------------------------------------------------------------------------

    def _before(self, at: float | datetime | None) -> int:
        now = now_ms(self._clock) + 1
        if at is None:
            return now
        before = timestamp_ms(at)
        if not 0 < before <= now:
            raise InvalidOption("expected at to be a moment of the past, as `count` has given it")
        return before

    async def _reached(self, order: BulkOrder, expected: int | None, limit: int | None) -> int:
        """How many the order is to reach. Raises MoreThanExpected, InvalidOption."""
        if order.ids is not None:
            return len(order.ids) if limit is None else min(limit, len(order.ids))
        if expected is not None:
            require_count(expected, "expected", minimum=0)
        count = await self._count(order.action, order.where, order.before, order.tenant)
        if expected is not None and count.number > expected:
            found = f"{count.number:,}{'' if count.exact else ' or more'}"
            raise MoreThanExpected(
                f"{found} are like that by now, and {expected:,} were expected; look again, and ask with that number",
                expected=expected,
                found=count.number,
            )
        if not count.exact and limit is None:
            raise InvalidOption(f"more than {MOST:,} are like that; give a limit, or a narrower filter")
        return min(count.number, MOST if limit is None else limit)

    async def _count(self, action: BulkAction, where: BulkFilter, before: int, tenant: str | None) -> Count:
        if action in ("redrive", "discard"):
            entries = where.entries(before=before, tenant=tenant)
            return await self._read(lambda connection: count_entries(connection, entries, MOST + 1))
        selection = where.selection(action, before=before, tenant=tenant)
        return await self._read(lambda connection: count_chosen(connection, selection, MOST + 1))

    async def _enqueue(self, order: BulkOrder, user: str | None) -> JobHandle[BulkResult]:
        job_id = f"bulk-{sortable_id(self._clock.now())}"
        options: dict[str, Any] = {name: value for name, value in (("user", user), ("tenant", order.tenant)) if value}
        handle = await self.job_type.enqueue(order, job_id=job_id, **options)
        what = (
            {"ids": len(order.ids)} if order.ids is not None else {"where": order.where.model_dump(exclude_none=True)}
        )
        detail = json.dumps({**what, "number": order.limit, "before": order.before})
        entry = AuditEntry(now_ms(self._clock), user, f"bulk_{order.action}", handle.id, order.tenant, detail)
        await self._backend_here().database.write(lambda connection: record_actions(connection, [entry]))
        return handle

    async def _read(self, work: Callable[[Connection], ResultT]) -> ResultT:
        backend = self._backend_here()
        await backend.ready()
        return await backend.database.read(work)

    # Carrying out -------------------------------------------------------------------------------------------------------------------

    async def _run(self, order: BulkOrder, ctx: Context) -> BulkResult:
        """The job's handler: step by step, from where an earlier attempt has come to.

        What a step changes is saved before it is changed. An attempt that died after the change, and before it has
        saved the count, is followed by one that takes the same ones again, and does not go on to others in their place.
        """
        if order.tenant != ctx.tenant:
            raise TenantMismatch(f"the order is about the tenant {order.tenant!r:.80}, and its job belongs to another")
        steps = BulkStep(order, backend=self._backend_here(), authorize=self._authorize, user=ctx.user)
        result = BulkResult.model_validate(ctx.state.get("result", {}))
        place, is_first, chosen = ctx.state.get("place"), not ctx.state, ctx.state.get("chosen")
        size = STEP if order.rate is None else max(1, min(STEP, int(order.rate)))
        while (left := order.limit - result.seen) > 0 and not ctx.cancelled:
            started = ctx.clock.monotonic()
            try:
                if chosen is None:
                    if place is None and not is_first:
                        break
                    chosen = await steps.choose(place, min(left, size))
                    ctx.state = {"place": place, "result": result.model_dump(), "chosen": chosen}
                    await ctx.save()
                taken = await _to_its_end(steps.take(Reach(*chosen)))
                place, is_first, chosen, result = taken.place, False, None, _added(result, taken)
                ctx.state = {"place": place, "result": result.model_dump()}
                ctx.progress(result.seen, order.limit)
                await ctx.save()
                if order.rate is not None and place is not None:
                    await ctx.clock.sleep(max(0.0, size / order.rate - (ctx.clock.monotonic() - started)))
            except asyncio.CancelledError:
                if not ctx.cancelled:
                    raise
        return result


async def _to_its_end(step: Awaitable[Taken]) -> Taken:
    """What a step comes to, also when this task is cancelled meanwhile: what was committed must be counted."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        return await task


def _added(result: BulkResult, taken: Taken) -> BulkResult:
    errors = [BulkRefusal(id=one, error=type(error).__name__, message=str(error)) for one, error in taken.refused]
    return BulkResult(
        done=result.done + taken.done,
        skipped=result.skipped + taken.skipped,
        refused=result.refused + len(taken.refused),
        errors=[*result.errors, *errors][:_ERRORS],
    )


def _checked_ids(ids: Sequence[str]) -> tuple[str, ...]:
    distinct = tuple(dict.fromkeys(ids))
    if not 1 <= len(distinct) <= MOST_IDS:
        raise InvalidOption(f"expected 1 to {MOST_IDS:,} ids, got {len(distinct):,}; for more give a filter")
    return distinct
