"""`app.bulk`: many jobs or dead letters changed by a durable job, on a snapshot. On both databases."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from jobs.operated import Order, declare_orders, ended
from jobs.reconciling import backend_of
from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import InvalidOption, MoreThanExpected, NotAuthorized
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.enqueue.access import AccessRequest
from taurine.jobs.handler.context import Context
from taurine.jobs.operations.bulk_orders import BulkFilter, BulkOrder, BulkResult
from taurine.jobs.operations.bulk_steps import BulkStep
from taurine.jobs.runtime.saving import Saver


@pytest.fixture
def app(app_factory: Callable[..., Taurine], ledger_url: str) -> Taurine:
    """On each of the two databases."""
    return app_factory()


async def fail(app: Taurine, number: int, **options: Any) -> list[str]:
    """So many orders that have failed for good; the ids of their jobs."""
    orders: JobType[Any, Any] = app.catalog.get("order")
    handles = await orders.enqueue_many([Order(number=each, fail="permanent") for each in range(number)], **options)
    async with app.worker(queues=["orders"], concurrency=50):
        await eventually(lambda: all_have(app, "failed", number), 30, "not all have failed")
    return [handle.id for handle in handles]


async def all_have(app: Taurine, status: Any, number: int) -> bool:
    counts = await app.counts(queue="orders")
    assert counts[status].number == number, counts
    return True


async def after(app: Taurine, job_id: str, status: str = "completed", within: float = 30.0) -> BulkResult:
    """What an operation came to, once it has this status."""
    record = await ended(lambda: app.get(job_id), status, within)
    return BulkResult.model_validate(record.output)


async def test_a_worker_without_queues_by_name_carries_it_out(app: Taurine) -> None:
    """TRG-70: it tells how far it is, and each of its jobs has a row in the audit with the name of who asked."""
    declare_orders(app)
    await fail(app, 3)
    seen = await app.bulk.count("redrive", BulkFilter(queue="orders"))

    handle = await app.bulk.start(
        "redrive", where=BulkFilter(queue="orders"), expected=seen.number, at=seen.at, user="ada"
    )
    async with app.worker() as worker:
        result = await after(app, handle.id)
        queues = worker.queues

    record = await app.bulk.get(handle.id)
    actions = [entry async for entry in app.actions(actor="ada")]
    assert (result.done, result.skipped, result.refused) == (3, 0, 0)
    assert record is not None
    assert record.progress["percentage"] == 100
    assert sorted(action.action for action in actions) == ["bulk_redrive", "enqueue", *["redrive"] * 3]
    assert json.loads(next(one.detail or "" for one in actions if one.action == "bulk_redrive"))["number"] == 3
    assert queues == ["orders"], "Taurine's own queue is not listed"


async def test_a_worker_of_named_queues_leaves_it_to_others(app: Taurine) -> None:
    """`operations_worker` is for processes that run nothing else."""
    declare_orders(app)
    await fail(app, 2)
    handle = await app.bulk.start("discard", where=BulkFilter())

    async with app.worker(queues=["orders"]) as worker:
        await eventually(lambda: worker.is_ready or None, 20)
        waiting = await app.get(handle.id)
    async with app.operations_worker():
        result = await after(app, handle.id)

    assert waiting is not None
    assert waiting.status == "queued"
    assert result.done == 2
    assert await app.dead_letters.depth() == {}


@pytest.mark.timeout(120)
async def test_a_thousand_aborted_half_way(app: Taurine) -> None:
    """TRG-70: 1,000 jobs, cancelled in the middle: what was done is counted and kept, the rest is untouched."""
    declare_orders(app)
    orders = app.catalog.get("order")
    await orders.enqueue_many([Order(number=number) for number in range(1000)])
    handle = await app.bulk.start("cancel", where=BulkFilter(type="order"), expected=1000, rate=250)

    async with app.operations_worker():
        await eventually(lambda: has_done(app, handle.id, 200), 30, "it has not got so far")
        await handle.cancel(user="ada")
        partial = await after(app, handle.id, "cancelled")
    counts = await app.counts(queue="orders")

    assert 200 <= partial.done < 1000
    assert (counts["cancelled"].number, counts["queued"].number) == (partial.done, 1000 - partial.done)


async def has_done(app: Taurine, job_id: str, number: int) -> bool:
    record = await app.get(job_id)
    return record is not None and record.progress is not None and record.progress["done"] >= number


async def test_it_goes_on_where_its_worker_stopped(app: Taurine) -> None:
    """Nothing is done twice and nothing is left out when the worker goes away in the middle."""
    declare_orders(app)
    await fail(app, 40)
    handle = await app.bulk.start("retry", where=BulkFilter(type="order"), rate=20)

    async with app.operations_worker() as worker:
        await eventually(lambda: has_done(app, handle.id, 20), 30, "it has not begun")
        await worker.stop(grace=0)
    halfway = await app.counts(queue="orders")
    async with app.operations_worker():
        result = await after(app, handle.id)
    generations = [each.generation async for each in app.list(type="order")]

    assert 20 <= halfway["queued"].number < 40
    assert (result.done, result.skipped) == (40, 0)
    assert generations == [1] * 40


async def test_a_step_that_is_repeated_changes_nothing(app: Taurine) -> None:
    """After a crash between its commit and the saving of its place: what was run again, and has failed anew meanwhile,
    is not run a third time.
    """
    declare_orders(app)
    (job_id,) = await fail(app, 1)
    seen = await app.bulk.count("retry")
    order = BulkOrder(
        action="retry", ids=(job_id,), before=round(seen.at.timestamp() * 1000), limit=1, reason="not cancelled"
    )
    step = BulkStep(order, backend=backend_of(app), authorize=None, user="ada")

    reach = await step.choose(None, 1)
    first = await step.take(reach)
    await eventually(lambda: time.time() > seen.at.timestamp(), 5)
    async with app.worker(queues=["orders"]):
        await eventually(lambda: all_have(app, "failed", 1), 20, "it has not failed again")
    again = await step.take(reach)
    record = await app.get(job_id)

    assert (first.done, first.skipped, first.place) == (1, 0, None)
    assert (again.done, again.skipped) == (0, 1)
    assert record is not None
    assert record.generation == 1


@pytest.mark.parametrize("filtered", [BulkFilter(queue="orders"), None])
async def test_a_worker_that_dies_before_it_has_counted_a_step_reaches_no_more(
    app: Taurine, monkeypatch: pytest.MonkeyPatch, filtered: BulkFilter | None
) -> None:
    """The repeat takes the same ones again, which it finds done, and no others above the limit."""
    declare_orders(app)
    await fail(app, 15)
    entries = [entry.id async for entry in app.dead_letters.list()]
    saves, save_progress = 0, Saver.save_progress

    async def dies_once(self: Saver, context: Context) -> Any:
        """Of the first attempt nothing is saved once it has changed something, not at its end either."""
        nonlocal saves
        if context.type == "taurine.bulk" and context.attempt == 1 and context.progress_value is not None:
            saves += 1
            raise ConnectionError("died between the commit and the saving")
        return await save_progress(self, context)

    monkeypatch.setattr(Saver, "save_progress", dies_once)
    handle = await app.bulk.start("redrive", where=filtered, ids=None if filtered else entries, limit=5)
    async with app.operations_worker():
        result = await after(app, handle.id)
    redriven = [entry.id async for entry in app.dead_letters.list(status="redriven")]

    assert saves > 0
    assert result.seen == len(redriven) == 5


async def test_long_ids_are_changed_in_shorter_steps(app: Taurine) -> None:
    """What a step is about to change is kept in the job's state, which has a limit."""
    orders = declare_orders(app)
    for number in range(80):
        await orders.enqueue(Order(number=number), job_id=f"{number}-{'x' * 1000}")

    handle = await app.bulk.start("cancel", where=BulkFilter(type="order"))
    async with app.operations_worker():
        result = await after(app, handle.id)

    assert (result.done, result.skipped) == (80, 0)


async def test_a_snapshot(app_factory: Callable[..., Taurine], ledger_url: str) -> None:
    """A39: what fails after the count is not reached, and more than was shown is refused."""
    app = app_factory()
    declare_orders(app)
    first = await fail(app, 2)
    seen = await app.bulk.count("redrive")
    await eventually(lambda: time.time() > seen.at.timestamp(), 5)
    orders = app.catalog.get("order")
    late = await orders.enqueue(Order(number=9, fail="permanent"))
    async with app.worker(queues=["orders"]):
        await ended(lambda: app.get(late.id), "failed")

    with pytest.raises(MoreThanExpected, match="3 are like that by now, and 2 were expected") as raised:
        await app.bulk.start("redrive", where=BulkFilter(), expected=seen.number)
    handle = await app.bulk.start("redrive", where=BulkFilter(), expected=seen.number, at=seen.at)
    async with app.operations_worker():
        result = await after(app, handle.id)
    generations = {each.id: each.generation async for each in app.list(type="order")}

    assert (raised.value.expected, raised.value.found) == (2, 3)
    assert result.done == 2
    assert generations == {**dict.fromkeys(first, 1), late.id: 0}


async def test_what_is_accepted_after_the_count_is_not_cancelled(app: Taurine) -> None:
    """A39."""
    orders = declare_orders(app)
    early = await orders.enqueue(Order(number=1))
    seen = await app.bulk.count("cancel", BulkFilter(type="order"))
    await eventually(lambda: time.time() > seen.at.timestamp(), 5)
    late = await orders.enqueue(Order(number=2))

    handle = await app.bulk.start("cancel", where=BulkFilter(type="order"), expected=5, limit=5, at=seen.at)
    async with app.operations_worker():
        result = await after(app, handle.id)
    again = await app.bulk.count("cancel", BulkFilter(type="order"))

    assert (seen.number, result.done, again.number) == (1, 1, 1)
    assert [(await early.record()).status, (await late.record()).status] == ["cancelled", "queued"]


async def test_a_cap(app: Taurine) -> None:
    """A39: never more than the limit; jobs the oldest first, so that a cure is tried on a few."""
    orders = declare_orders(app)
    ids = [(await orders.enqueue(Order(number=number))).id for number in range(5)]

    handle = await app.bulk.start("cancel", where=BulkFilter(type="order"), limit=2, reason="not needed")
    async with app.operations_worker():
        result = await after(app, handle.id)
    cancelled = [record.id async for record in app.list(status="cancelled")]

    assert result.done == 2
    assert sorted(cancelled) == sorted(ids[:2])


async def test_by_ids(app: Taurine) -> None:
    """Ids that are not there, that name jobs of another status, or another tenant's, are skipped and counted."""
    orders = declare_orders(app)
    failed = await fail(app, 2, tenant="acme")
    (other,) = [(await orders.enqueue(Order(number=1), tenant="globex")).id]

    handle = await app.bulk.start("retry", ids=[*failed, other, "gone"], tenant="acme", user="ada")
    async with app.operations_worker():
        result = await after(app, handle.id)

    assert (result.done, result.skipped) == (2, 2)
    assert await app.bulk.get(handle.id, tenant="globex") is None
    assert await app.bulk.get(failed[0]) is None, "a job of another type"
    assert [one.id for one in await app.bulk.list(tenant="acme")] == [handle.id]


async def test_dead_letters_by_their_ids(app: Taurine) -> None:
    """A37: another tenant's is skipped, as one that is not there."""
    declare_orders(app)
    await fail(app, 3, tenant="acme")
    entries = [entry.id async for entry in app.dead_letters.list()]

    foreign = await app.bulk.start("discard", ids=entries, tenant="globex")
    handle = await app.bulk.start("discard", ids=[*entries[:2], "none"], tenant="acme")
    async with app.operations_worker():
        nothing, result = await after(app, foreign.id), await after(app, handle.id)
    left = [entry.id async for entry in app.dead_letters.list()]

    assert (nothing.done, nothing.skipped) == (0, 3)
    assert (result.done, result.skipped) == (2, 1)
    assert left == entries[2:]


async def test_a_tenant_reaches_its_own_jobs_alone(app: Taurine) -> None:
    """A37: neither the count nor the operation knows of another tenant's."""
    orders = declare_orders(app)
    mine = await orders.enqueue(Order(number=1), tenant="acme")
    other = await orders.enqueue(Order(number=2), tenant="globex")

    count = await app.bulk.count("cancel", tenant="acme")
    handle = await app.bulk.start("cancel", where=BulkFilter(), tenant="acme")
    async with app.operations_worker():
        result = await after(app, handle.id)

    assert (count.number, result.done) == (1, 1)
    assert [(await app.get(one.id)).status for one in (mine, other)] == ["cancelled", "queued"]  # pyright: ignore[reportOptionalMemberAccess]


async def test_the_hook_is_asked_for_each(app_factory: Callable[..., Taurine], ledger_url: str) -> None:
    """What it refuses is counted and explained, and the others go on."""

    def authorize(request: AccessRequest) -> bool:
        return request.user == "ada" if request.action == "enqueue" else request.tenant != "globex"

    app = app_factory(authorize=authorize)
    orders = declare_orders(app)
    await orders.enqueue(Order(number=1), tenant="acme", user="ada")
    other = await orders.enqueue(Order(number=2), tenant="globex", user="ada")

    with pytest.raises(NotAuthorized):
        await app.bulk.start("cancel", where=BulkFilter(), user="bob")
    handle = await app.bulk.start("cancel", where=BulkFilter(), user="ada")
    async with app.operations_worker():
        result = await after(app, handle.id)

    assert (result.done, result.refused) == (1, 1)
    assert [(one.id, one.error) for one in result.errors] == [(other.id, "NotAuthorized")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "drop", "where": BulkFilter()}, "one of redrive, discard, retry, cancel, got 'drop'"),
        ({"action": "cancel"}, "ids or a filter, got neither"),
        ({"action": "cancel", "ids": ["a"], "where": BulkFilter()}, "ids or a filter, got both"),
        ({"action": "cancel", "ids": []}, "1 to 10,000 ids, got 0"),
        ({"action": "cancel", "where": BulkFilter(status="completed")}, "one of queued, running, retrying, waiting"),
        ({"action": "retry", "where": BulkFilter(status="queued")}, "one of cancelled, completed, expired, failed"),
        ({"action": "redrive", "where": BulkFilter(tag="x")}, "tag is asked of jobs"),
        ({"action": "cancel", "where": BulkFilter(), "limit": 0}, "limit"),
        ({"action": "cancel", "where": BulkFilter(), "rate": 1e9}, "rate"),
        ({"action": "cancel", "where": BulkFilter(), "expected": -1}, "expected"),
        ({"action": "cancel", "where": BulkFilter(), "at": 2.1e9}, "a moment of the past"),
    ],
)
async def test_what_cannot_be_asked(app_factory: Callable[..., Taurine], options: dict[str, Any], message: str) -> None:
    """A12, A32."""
    app = app_factory()

    with pytest.raises(InvalidOption, match=message):
        await app.bulk.start(**options)
