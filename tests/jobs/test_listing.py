"""Looking at records: lists, counts, attempts, lines and audit, scoped to a tenant, whatever the queue still has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from jobs.operated import Order, declare_orders, ended
from taurine.app import Taurine
from taurine.errors import InvalidOption, RecordNotFound, UnknownJobType
from taurine.jobs.handler.context import Context
from taurine.queue import Queue
from taurine.testing import TestClock


async def test_a_page_and_all_pages(ledger_url: str, app: Taurine) -> None:
    """Awaited, a list is one page; iterated over, it is everything, newest first."""
    await app.migrate()
    orders = declare_orders(app)
    ids = [(await orders.enqueue(Order(number=number))).id for number in range(7)]

    page = await app.list(limit=3)
    following = await app.list(limit=3, cursor=page.next_cursor)
    whole = [record.id async for record in app.list(limit=3)]
    rest = [record.id async for record in following]

    assert len(page) == 3
    assert [record.id for record in page] == whole[:3]
    assert [record.id for record in following] == whole[3:6]
    assert rest == whole[3:]
    assert sorted(whole) == sorted(ids)
    assert [record.created_at async for record in app.list()] == sorted(
        [record.created_at async for record in app.list()], reverse=True
    )
    assert [record.id async for record in app.list(cursor=page.next_cursor, limit=2)] == whole[3:]


async def test_filters(app_factory: Callable[..., Taurine]) -> None:
    clock = TestClock(1_800_000_000.0)
    app = app_factory(clock=clock)
    orders = declare_orders(app)
    other = app.declare("other", Order, queue="others")
    first = await orders.enqueue(Order(number=1), tenant="acme", tags=["red"], user="ann")
    clock.advance(10)
    second = await orders.enqueue(Order(number=2), tenant="globex", user="bob")
    clock.advance(10)
    third = await other.enqueue(Order(number=3), tenant="acme")
    await app.cancel(third.id)

    async def found(**filters: object) -> set[str]:
        return {record.id async for record in app.list(**filters)}  # pyright: ignore[reportArgumentType]

    assert await found(tenant="acme") == {first.id, third.id}
    assert await found(tenant="acme", status="queued") == {first.id}
    assert await found(phase="failed") == {third.id}
    assert await found(type="other") == {third.id}
    assert await found(queue="orders") == {first.id, second.id}
    assert await found(tag="red") == {first.id}
    assert await found(user="bob") == {second.id}
    assert await found(since=1_800_000_005.0) == {second.id, third.id}
    assert await found(until=datetime.fromtimestamp(1_800_000_005, UTC)) == {first.id}
    with pytest.raises(InvalidOption, match="did you mean 'queued'"):
        await found(status="queud")
    with pytest.raises(InvalidOption, match="aware"):
        await found(since=datetime(2027, 1, 1))  # noqa: DTZ001 - a naive one is the point


async def test_a_misspelt_type_or_queue_is_refused_with_the_near_miss(
    ledger_url: str, app: Taurine, app_factory: Callable[..., Taurine]
) -> None:
    """An empty page would be taken for an answer."""
    await app.migrate()
    declare_orders(app)
    app.queue("parcels")
    with pytest.raises(UnknownJobType, match=r"no job type 'ordr' is declared, .* did you mean 'order'"):
        await app.list(type="ordr")
    for ask in (app.list(queue="order"), app.counts(queue="order")):
        with pytest.raises(InvalidOption, match=r"no job type goes to a queue 'order', .* did you mean 'orders'"):
            await ask
    assert list(await app.list(type="order", queue="orders")) == []
    assert list(await app.list(queue="parcels")) == []
    assert list(await app_factory("looks only").list(type="ordr")) == []


async def test_a_type_that_is_no_longer_declared_is_listed_while_there_are_records_of_it(
    app: Taurine, app_factory: Callable[..., Taurine]
) -> None:
    before = app_factory("last year's").declare("order.old", Order, queue="olds")
    handle = await before.enqueue(Order(number=1))
    declare_orders(app)
    assert [record.id for record in await app.list(type="order.old", queue="olds")] == [handle.id]
    assert list(await app.list(type="order.old", status="failed")) == []
    assert (await app.counts(queue="olds"))["queued"].number == 1


async def test_record_has_the_fields_of_the_contract(app: Taurine) -> None:
    """`design.md` section 7 names them."""
    orders = declare_orders(app)
    async with app.worker():
        handle = await orders.enqueue(Order(number=4), tenant="acme", tags=["x"], metadata={"cart": 7})
        await handle.result(timeout=10)

    record = await app.get(handle.id)

    assert record is not None
    assert (record.id, record.type, record.queue, record.tenant) == (handle.id, "order", "orders", "acme")
    assert (record.status, record.phase, record.payload) == ("completed", "completed", {"number": 4, "fail": None})
    assert (record.output, record.error, record.attempts) == ({"price": 8}, None, 1)
    assert (record.tags, record.metadata, record.scheduled_for) == (["x"], {"cart": 7}, None)
    assert record.progress is None
    assert record.started_at is not None
    assert record.finished_at is not None
    assert record.created_at <= record.started_at <= record.finished_at <= record.updated_at


async def test_another_tenant_finds_nothing(app: Taurine) -> None:
    """SEED-234, SEED-275: a job of another tenant is no job."""
    orders = declare_orders(app)
    handle = await orders.enqueue(Order(number=1), tenant="acme", user="ann")

    assert await app.get(handle.id, tenant="acme") is not None
    assert await app.get(handle.id, tenant="globex") is None
    assert await app.get(handle.id, tenant="") is None
    assert await app.wait(handle.id, 60, tenant="globex") is None  # at once
    assert await app.wait(handle.id, 0, tenant="acme") is not None
    for ask in (app.attempts, app.logs, app.retry, app.cancel):
        with pytest.raises(RecordNotFound):
            await ask(handle.id, tenant="globex")
    assert (await handle.record()).status == "queued"
    assert len(await app.audit(handle.id, tenant="acme")) == 1
    assert await app.audit(handle.id, tenant="globex") == []
    why = await app.why(handle.id, tenant="globex")
    assert (why.code, why.record) == ("not_found", None)
    assert handle.id not in why.sentence


@pytest.mark.parametrize("how", ["clean", "obliterate"])
async def test_record_survives_the_queue(app: Taurine, redis_socket_url: str, prefix: str, how: str) -> None:
    """SEED-026, SEED-038, SEED-276: after the queue was swept, status and result are still there."""
    orders = declare_orders(app)
    async with app.worker():
        handle = await orders.enqueue(Order(number=21))
        await handle.result(timeout=10)
    async with Queue("orders", redis_socket_url, prefix=prefix) as queue:
        if how == "clean":
            assert await queue.clean(0) == [handle.id]
        else:
            await queue.obliterate(force=True)
        assert await queue.get_job(handle.id) is None

    record = await app.get(handle.id)

    assert record is not None
    assert (record.status, record.output) == ("completed", {"price": 42})
    assert [one.id async for one in app.list(status="completed")] == [handle.id]


async def test_counts(app: Taurine) -> None:
    orders = declare_orders(app)
    first = await orders.enqueue(Order(number=1), tenant="acme")
    await orders.enqueue(Order(number=2), tenant="acme")
    await orders.enqueue(Order(number=3))
    await app.cancel(first.id)

    counts = await app.counts()
    of_tenant = await app.counts(tenant="acme")

    assert (counts["queued"].number, counts["cancelled"].number, counts["completed"].number) == (2, 1, 0)
    assert counts["queued"].exact
    assert (of_tenant["queued"].number, of_tenant["cancelled"].number) == (1, 1)


async def test_attempts_lines_and_audit(ledger_url: str, app: Taurine) -> None:
    """Each attempt with its error and times, and the one that completed; the lines that the handler wrote; who did
    what.
    """
    await app.migrate()

    @app.job("flaky", queue="flaky", retry=declare_orders(app).options.retry)
    async def flaky(payload: Order, ctx: Context) -> int:
        ctx.log(f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise ConnectionError("no route")
        return ctx.attempt

    async with app.worker(queues=["flaky"]):
        handle = await flaky.enqueue(Order(number=1), user="ann")
        assert await handle.result(timeout=10) == 2
    attempts = await app.attempts(handle.id)
    lines = await app.logs(handle.id)
    actions = await app.audit(handle.id)

    assert [(attempt.number, attempt.outcome) for attempt in attempts] == [(1, "retried"), (2, "completed")]
    assert attempts[0].error is not None
    assert (attempts[0].error["type"], attempts[0].error["message"]) == ("ConnectionError", "no route")
    assert attempts[0].started_at is not None
    assert attempts[0].finished_at is not None
    assert attempts[1].started_at is not None
    assert attempts[0].started_at <= attempts[0].finished_at <= attempts[1].started_at
    assert attempts[0].worker == attempts[1].worker
    assert [line.message for line in lines] == ["attempt 1", "attempt 2"]
    assert [(action.action, action.actor) for action in actions] == [("enqueue", "ann")]


async def test_attempts_show_the_one_that_runs(app: Taurine) -> None:
    release = asyncio.Event()

    @app.job("slow", queue="slow")
    async def slow(payload: Order) -> None:
        await release.wait()

    async with app.worker():
        handle = await slow.enqueue(Order(number=1))
        await ended(lambda: app.get(handle.id), "running")
        attempts = await app.attempts(handle.id)
        release.set()
        await handle.result(timeout=10)

    assert [(attempt.number, attempt.outcome, attempt.finished_at) for attempt in attempts] == [(1, "running", None)]


async def test_lists_and_pages_are_plain_json_on_demand(app: Taurine) -> None:
    """What a record holds of the caller's is JSON as it came."""

    class Deep(BaseModel):
        numbers: list[float]

    deep = app.declare("deep", Deep, queue="deep")
    await deep.enqueue(Deep(numbers=[0.1, 1e300]))

    (record,) = await app.list()

    assert json.loads(record.payload_json) == record.payload == {"numbers": [0.1, 1e300]}
