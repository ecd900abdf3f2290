"""`Taurine.why`: every reason why a job is not running, on real servers, and in bounded time without them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import make_url

from jobs.operated import Order, declare_orders, ended
from support.eventually import eventually
from support.ledger import put_in
from support.postgres import PostgresServer
from support.proxy import FaultProxy
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.errors import Snooze
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.handler.context import Context
from taurine.jobs.operations.why import Why
from taurine.ledger.database import open_database
from taurine.options import Parent, RateLimit
from taurine.queue import Connection, Job, Queue, Worker
from taurine.retry import Fixed, Retry


@pytest.fixture
async def queue(redis_socket_url: str, prefix: str) -> AsyncIterator[Queue]:
    """The queue `orders` as an operator has it."""
    async with Queue("orders", redis_socket_url, prefix=prefix) as queue:
        yield queue


@pytest.fixture
async def hand(redis_socket_url: str, prefix: str) -> AsyncIterator[Worker]:
    """A worker of the queue `orders` without a handler: the test claims and settles."""
    connection = Connection(redis_socket_url)
    yield Worker("orders", None, connection, prefix=prefix, name="by-hand")
    await connection.close()


def codes(why: Why) -> list[str]:
    return [reason.code for reason in why.reasons]


async def has_code(app: Taurine, job_id: str, code: str) -> bool:
    return (await app.why(job_id)).code == code


async def is_connected(queue: Queue) -> bool:
    return bool(await queue.workers())


# It has ended, or never was -------------------------------------------------------------------------------------------------------


async def test_not_found(app: Taurine) -> None:
    why = await app.why("nobody")
    assert (why.code, why.record, why.next_event) == ("not_found", None, None)
    assert why.sentence == "The job has no record: it was never accepted, or its record is no longer kept."


async def test_finished(app: Taurine) -> None:
    orders = declare_orders(app)
    async with app.worker():
        completed = await orders.enqueue(Order(number=1))
        await completed.result(timeout=10)
        failed = await orders.enqueue(Order(number=1, fail="broken"))
        await ended(lambda: app.get(failed.id), "failed")
    cancelled = await orders.enqueue(Order(number=1))
    await cancelled.cancel(reason="not wanted")
    expired = await orders.enqueue(Order(number=1), expires_in=0.001)
    await eventually(lambda: time.time() > expired.created_at.timestamp() + 0.01)
    async with app.worker():
        await ended(lambda: app.get(expired.id), "expired")
    (entry,) = await app.dead_letters.list()

    of = {
        name: await app.why(job.id) for name, job in (("c", completed), ("f", failed), ("x", cancelled), ("e", expired))
    }

    assert {why.code for why in of.values()} == {"finished"}
    assert "completed" in of["c"].sentence
    assert "after 2 of 2 attempts: RuntimeError: broken; its dead letter is " + entry.id in of["f"].sentence
    assert (of["f"].details["dead_letter"], of["f"].next_event) == (entry.id, "somebody redrives or retries it")
    assert "cancelled" in of["x"].sentence
    assert "not wanted" in of["x"].sentence
    assert "expired" in of["e"].sentence


# It runs --------------------------------------------------------------------------------------------------------------------------


async def test_running_and_cancelling(app: Taurine) -> None:
    """Who runs it, since when, how far it is, and when its worker was last heard of; then, that it is to stop."""
    release = asyncio.Event()

    @app.job("slow", queue="orders")
    async def slow(payload: Order, ctx: Context) -> None:
        ctx.progress(3, 10, "baking")
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue  # a handler that does not listen

    async with app.worker(name="oven-1"):
        handle = await slow.enqueue(Order(number=1))
        await ended(lambda: app.get(handle.id), "running")
        running = await app.why(handle.id)
        await handle.cancel(reason="burnt")
        cancelling = await app.why(handle.id)
        release.set()
        await eventually(lambda: has_code(app, handle.id, "finished"))

    assert running.code == "running"
    assert "runs on oven-1 since " in running.sentence
    assert running.details["worker"] == "oven-1"
    assert (running.details["attempt"], running.details["max_attempts"]) == (1, 3)
    assert running.details["progress"]["done"] == 3
    assert 0 < running.details["lease_left"] <= 30
    assert running.details["renewed_at"] is not None
    assert codes(cancelling) == ["cancelling", "running"]
    assert cancelling.details["reason"] == "burnt"
    assert cancelling.next_at is not None


async def test_claimed_a_moment_ago(app: Taurine, hand: Worker) -> None:
    """The record does not say so yet; the queue does."""
    handle = await declare_orders(app).enqueue(Order(number=1))
    job = await hand.fetch()
    assert job is not None

    why = await app.why(handle.id)

    assert (why.code, why.details["worker"]) == ("running", "by-hand")


async def test_its_worker_is_gone(app: Taurine, hand: Worker, raw: Redis, prefix: str) -> None:
    handle = await declare_orders(app).enqueue(Order(number=1))
    job = await hand.fetch()
    assert job is not None
    await raw.delete(f"{prefix}:orders:{handle.id}:lock")

    why = await app.why(handle.id)

    assert why.code == "stalled"
    assert (
        "a lease that has run out: its worker by-hand has not renewed it for 30 s or more; it is gone." in why.sentence
    )
    assert "puts it back" in str(why.next_event)


async def test_its_worker_does_not_renew_the_lease_and_is_connected(app: Taurine, raw: Redis, prefix: str) -> None:
    """As one whose event loop is blocked."""
    release = asyncio.Event()
    held = await hold(app, release)
    async with app.worker(name="oven-1"):
        await eventually(app.workers.list, message="the worker did not tell of itself")
        handle = await held.enqueue(Order(number=1))
        await ended(lambda: app.get(handle.id), "running")
        await raw.delete(f"{prefix}:orders:{handle.id}:lock")
        why = await app.why(handle.id)
        release.set()

    assert why.code == "stalled"
    assert "its worker oven-1 has not renewed it for 30 s or more, and last told of itself " in why.sentence
    assert why.sentence.endswith(" ago; it is gone, or its event loop is blocked.")
    assert (why.details["worker"], why.details["late_loops"]) == ("oven-1", [])


# It has not reached the queue -----------------------------------------------------------------------------------------------------


async def recorded_only(app: Taurine, job_id: str, **values: Any) -> None:
    """A record that the queue was not told of."""
    assert app.settings.database_url is not None
    await app.counts()  # which makes the tables
    database = open_database(app.settings.database_url)
    await put_in(database, job_id, **{"type": "order", "queue": "orders", "payload": '{"number":1}'} | values)
    await database.close()


async def test_in_the_outbox(app: Taurine) -> None:
    declare_orders(app)
    now = round(time.time() * 1000)
    await recorded_only(app, "fresh", created_at=now)
    fresh = await app.why("fresh")
    await recorded_only(app, "old", created_at=now - 60_000)
    late = await app.why("fresh")

    assert (fresh.code, fresh.next_event) == ("outbox", "the outbox hands it over")
    assert fresh.details["waiting"] == 1
    assert fresh.next_at is not None
    assert late.details["waiting"] == 2
    assert late.details["lag"] >= 60
    assert "no outbox seems to run: start a worker" in late.sentence
    assert "no_worker" in codes(late)


async def test_the_server_of_queues_is_down(
    app_factory: Callable[..., Taurine], server_factory: Callable[..., ValkeyServer]
) -> None:
    """What the record knows is told: waiting in the outbox, retrying, running; and that the queue could not be seen."""
    server = server_factory()
    app = app_factory(redis_url=server.url)
    orders = declare_orders(app, retry=Retry(attempts=2, backoff=Fixed(600)))
    async with app.worker():
        retrying = await orders.enqueue(Order(number=1, fail="once"))
        await ended(lambda: app.get(retrying.id), "retrying")
    there = await orders.enqueue(Order(number=1))
    await eventually(lambda: is_stamped(app, there.id))
    server.stop()
    started = time.monotonic()
    handle = await orders.enqueue(Order(number=1))

    undelivered, later, unseen = [await app.why(job.id) for job in (handle, retrying, there)]

    assert codes(undelivered) == ["outbox", "store_unavailable"]
    assert "the server of queues does not answer" in undelivered.sentence
    assert undelivered.next_event == "the outbox hands it over when the server is back"
    assert codes(later) == ["retrying", "store_unavailable"]
    assert codes(unseen) == ["store_unavailable"]
    assert time.monotonic() - started < 15


async def is_stamped(app: Taurine, job_id: str) -> bool:
    record = await app.get(job_id)
    return record is not None and record.dispatched_at is not None


async def test_the_server_of_queues_does_not_answer(app_factory: Callable[..., Taurine], valkey: ValkeyServer) -> None:
    """A connection that stays open and mute is given up after a while: the answer comes, with what the record says."""
    async with FaultProxy(valkey.port) as proxy:
        app = app_factory(redis_url=proxy.url)
        handle = await declare_orders(app).enqueue(Order(number=1))
        await eventually(lambda: is_stamped(app, handle.id))
        proxy.black_hole()
        started = time.monotonic()
        why = await app.why(handle.id)
        took = time.monotonic() - started
        await proxy.heal()
        await app.close()

    assert codes(why) == ["store_unavailable"]
    assert took < 5


# Its time has not come --------------------------------------------------------------------------------------------------------------


async def test_delayed(app: Taurine) -> None:
    handle = await declare_orders(app).enqueue(Order(number=1), delay=600)

    why = await app.why(handle.id)

    assert codes(why) == ["delayed", "no_worker"]
    assert why.next_at is not None
    assert abs(why.next_at.timestamp() - handle.created_at.timestamp() - 600) < 1
    assert "is not to start before 20" in why.sentence
    assert why.sentence.endswith(("(in 10 min).", "(in 9 min)."))
    assert why.next_event == "it is due"


async def test_retrying(app: Taurine) -> None:
    orders = declare_orders(app, retry=Retry(attempts=3, backoff=Fixed(600)))
    async with app.worker():
        handle = await orders.enqueue(Order(number=1, fail="no stock"))
        await ended(lambda: app.get(handle.id), "retrying")
        await eventually(lambda: has_code(app, handle.id, "retrying"))
        why = await app.why(handle.id)

    assert codes(why) == ["retrying"]
    assert "waits for attempt 2 of 3 until " in why.sentence
    assert why.sentence.endswith("the last one failed: RuntimeError: no stock.")
    assert (why.details["attempt"], why.details["error"]["message"]) == (2, "no stock")
    assert why.next_at is not None


async def test_asleep(app: Taurine) -> None:
    @app.job("sleepy", queue="orders")
    async def sleepy(payload: Order) -> None:
        raise Snooze(600)

    async with app.worker():
        handle = await sleepy.enqueue(Order(number=1))
        await ended(lambda: app.get(handle.id), "waiting")
        await eventually(lambda: has_code(app, handle.id, "snoozed"))
        why = await app.why(handle.id)

    assert "has put itself to sleep until " in why.sentence
    assert why.next_at is not None


async def test_waits_for_children(app: Taurine, queue: Queue, hand: Worker) -> None:
    handle = await declare_orders(app).enqueue(Order(number=1))
    job = await hand.fetch()
    assert job is not None
    await queue.add("child", {}, parent=Parent(job.id, "orders", queue.prefix))
    with pytest.raises(Exception, match="waits for its children"):
        await job.wait_for_children()

    why = await app.why(handle.id)

    assert why.code == "children"
    assert why.sentence == "The job waits for 1 of its children; 0 have completed."
    assert why.details["unprocessed"] == 1
    assert why.next_event == "its last child ends"


async def test_expired_and_not_swept(app: Taurine) -> None:
    handle = await declare_orders(app).enqueue(Order(number=1), expires_in=0.001)
    await eventually(lambda: time.time() > handle.created_at.timestamp() + 0.01)

    why = await app.why(handle.id)

    assert codes(why) == ["expired", "no_worker", "in_line"]


# Something holds the whole queue ----------------------------------------------------------------------------------------------------


async def test_no_worker(app: Taurine) -> None:
    orders = declare_orders(app)
    await orders.enqueue(Order(number=1))
    handle = await orders.enqueue(Order(number=2))

    why = await app.why(handle.id)

    assert codes(why) == ["no_worker", "in_line"]
    assert why.sentence == "The job cannot start: no worker of queue 'orders' is connected."
    assert why.reasons[1].details["ahead"] == 1
    assert why.next_event == "a worker of the queue starts"


async def test_paused(app: Taurine, queue: Queue) -> None:
    orders = declare_orders(app)
    await queue.pause()
    async with app.worker():
        await eventually(lambda: is_connected(queue))
        handle = await orders.enqueue(Order(number=2))
        why = await app.why(handle.id)
    delayed = await orders.enqueue(Order(number=2), delay=60)

    assert codes(why) == ["paused", "in_line"]
    assert "queue 'orders' is paused" in why.sentence
    assert codes(await app.why(delayed.id)) == ["delayed", "paused", "no_worker"]


async def hold(app: Taurine, release: asyncio.Event) -> JobType[Order, None]:
    """A job type whose handlers wait for the test."""

    @app.job("held", queue="orders")
    async def held(payload: Order) -> None:
        await release.wait()

    return held


async def test_at_the_limit_of_the_queue(app: Taurine, queue: Queue) -> None:
    release = asyncio.Event()
    held = await hold(app, release)
    await queue.set_concurrency(1)
    async with app.worker():
        first = await held.enqueue(Order(number=1))
        await ended(lambda: app.get(first.id), "running")
        second = await held.enqueue(Order(number=2))
        why = await app.why(second.id)
        release.set()
        await second.result(timeout=10)

    assert codes(why) == ["concurrency", "in_line"]
    assert (why.details["active"], why.details["concurrency"]) == (1, 1)
    assert "1 job of queue 'orders' runs, and no more than 1 may" in why.sentence


@pytest.mark.parametrize("how", ["limit", "by hand"])
async def test_at_the_rate_limit(app: Taurine, queue: Queue, how: str) -> None:
    orders = declare_orders(app)
    async with app.worker():
        if how == "limit":
            await queue.set_rate_limit(RateLimit(1, 60))
            await (await orders.enqueue(Order(number=1))).result(timeout=10)
        else:
            await queue.limit_for(60)
        await eventually(lambda: is_connected(queue))
        handle = await orders.enqueue(Order(number=2))
        why = await app.why(handle.id)
        await queue.lift_limit()

    assert codes(why) == ["rate_limit", "in_line"]
    assert why.next_at is not None
    assert 50 < why.next_at.timestamp() - time.time() <= 60


async def test_a_limit_that_only_workers_know(app: Taurine, queue: Queue) -> None:
    """Whether it is reached cannot be seen; when it ends can."""
    orders = declare_orders(app)
    async with app.worker(rate_limits={"orders": RateLimit(1, 60)}):
        await (await orders.enqueue(Order(number=1))).result(timeout=10)
        handle = await orders.enqueue(Order(number=2))
        why = await app.why(handle.id)

    assert codes(why) == ["in_line"]
    assert 50 < why.details["window_left"] <= 60
    assert "a worker's own rate limit" in why.sentence


async def test_the_workers_have_no_slot_left(app: Taurine) -> None:
    """Who holds the slots is named, and no start is foretold from jobs that ended before."""
    release = asyncio.Event()
    held = await hold(app, release)
    orders = declare_orders(app)
    async with app.worker(concurrency=2, name="one"), app.worker(concurrency=2, name="two"):

        async def both() -> bool:
            return len(await app.workers.list()) == 2

        await eventually(both, message="the workers did not tell of themselves")
        for number in range(2):
            await (await orders.enqueue(Order(number=number))).result(timeout=10)
        running = [await held.enqueue(Order(number=number)) for number in range(4)]
        for handle in running:
            await ended(lambda handle=handle: app.get(handle.id), "running")
        handle = await held.enqueue(Order(number=9))
        await eventually(lambda: is_stamped(app, handle.id))
        why, tenants = await app.why(handle.id), await app.why(handle.id, whole=False)
        release.set()
        await handle.result(timeout=10)

    assert codes(why) == codes(tenants) == ["slots_taken", "in_line"]
    assert why.sentence.startswith("The job cannot start: all 4 slots of queue 'orders' at its 2 workers are taken; ")
    assert "cancel those that hang, give their types a `timeout=`, or raise the concurrency" in why.sentence
    assert (why.details["slots"], sorted(why.details["workers"])) == (4, ["one", "two"])
    longest = why.details["longest"]
    assert len(longest) == 3
    assert {one["id"] for one in longest} < {handle.id for handle in running}
    assert all(f"{one['id']} since 20" in why.sentence and one["worker"] in ("one", "two") for one in longest)
    assert why.reasons[1].details["rate"] > 0
    assert (why.reasons[1].text, why.reasons[1].at) == ("is next in line", None)
    assert [reason.details for reason in tenants.reasons] == [{}, {}]


# In line --------------------------------------------------------------------------------------------------------------------------


async def test_in_line_with_rate_and_expected_start(app: Taurine, queue: Queue) -> None:
    """Position, the rate of the last minute, and when it follows that the job starts."""
    release = asyncio.Event()
    held = await hold(app, release)
    orders = declare_orders(app)
    async with app.worker(concurrency=1):
        await eventually(app.workers.list, message="the worker did not tell of itself")
        for number in range(4):
            await (await orders.enqueue(Order(number=number))).result(timeout=10)
        first = await held.enqueue(Order(number=1))
        await ended(lambda: app.get(first.id), "running")
        waiting = [await held.enqueue(Order(number=number)) for number in range(3)]
        urgent = await orders.enqueue(Order(number=9), priority=5)
        whys = [await app.why(job.id) for job in (*waiting, urgent)]
        release.set()
        await urgent.result(timeout=10)

    assert {tuple(codes(why)) for why in whys} == {("in_line", "slots_taken")}
    assert [why.details["ahead"] for why in whys] == [0, 1, 2, 3]
    assert "is next in line" in whys[0].sentence
    assert "is in line behind 2 others" in whys[2].sentence
    rate = whys[2].details["rate"]
    assert rate > 0
    assert whys[2].next_at is not None
    assert whys[2].next_at.timestamp() > time.time() - 30
    assert " end here, so it starts about 20" in whys[2].sentence
    assert len(whys[0].details["workers"]) == 1


async def test_a_long_line_costs_no_more(app: Taurine, raw: Redis, prefix: str) -> None:
    """The search passes over a bounded number of entries: of a job further back only that is told."""
    orders = declare_orders(app)
    handle = await orders.enqueue(Order(number=1))
    for _ in range(11):
        await raw.rpush(f"{prefix}:orders:wait", *("x" for _ in range(10_000)))  # pyright: ignore[reportGeneralTypeIssues]

    why = await app.why(handle.id)

    assert codes(why) == ["no_worker", "in_line"]
    assert why.reasons[1].text == "is in line, further back than is counted"
    assert why.reasons[1].details["waiting"] == 110_001


async def test_a_type_that_nobody_declares_here(app_factory: Callable[..., Taurine]) -> None:
    producer, operator = app_factory(), app_factory("operator")
    handle = await declare_orders(producer).enqueue(Order(number=1))
    unknown = await operator.why(handle.id)
    operator.declare("other", Order, queue="others")

    why = await operator.why(handle.id)

    assert "unknown_type" not in codes(
        unknown
    )  # an operator without a catalog knows of no type, and so nothing of this one
    assert codes(why) == ["no_worker", "in_line", "unknown_type"]
    assert "'order', which is not declared in this process" in why.reasons[2].text


@pytest.mark.parametrize("scheduled", [False, True], ids=["at once", "later"])
async def test_a_type_that_the_worker_does_not_declare(
    app_factory: Callable[..., Taurine], queue: Queue, *, scheduled: bool
) -> None:
    """It is handed back again and again: nobody wished for a later time, wherever it is asked."""
    newer, older, bare = app_factory(), app_factory(), app_factory()
    declare_orders(newer)

    @older.job("other", queue="orders")
    async def other(payload: Order) -> None: ...

    later = await newer.enqueue("order", Order(number=1), delay=600)
    handle = await newer.enqueue("order", Order(number=2), delay=0.001 if scheduled else 0)

    async def left() -> bool:
        job = await queue.get_job(handle.id)
        return job is not None and job.attempts_started > 0 and await queue.state(handle.id) == "delayed"

    async with older.worker():
        await eventually(left, message="it was not handed back")
    whys = [await app.why(handle.id) for app in (newer, older, bare)]
    waits = await older.why(later.id)

    for why in whys:
        assert codes(why) == ["unknown_type", "no_worker"]
        assert "is of type 'order', and was handed back by a worker that has no handler for it" in why.sentence
        assert "a worker that declares the type starts" in str(why.next_event)
        assert why.details["handed_back"] >= 1
        assert why.next_at is not None
        assert 600 <= why.next_at.timestamp() - handle.created_at.timestamp() < 602
        assert "; where none declares it, it becomes a dead letter about 20" in why.sentence
    assert ["nor is it declared in this process" in why.sentence for why in whys] == [False, True, False]
    assert codes(waits) == ["delayed", "no_worker", "unknown_type"]


async def test_a_time_that_is_past(app: Taurine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due is not put off: it waits for whatever holds its queue."""
    handle = await declare_orders(app).enqueue(Order(number=1), delay=600)
    await eventually(lambda: is_stamped(app, handle.id))
    now = time.time()
    monkeypatch.setattr(app._backend().clock, "now", lambda: now + 600 + 489)

    why = await app.why(handle.id)

    assert codes(why) == ["no_worker", "delayed"]
    assert "was due at 20" in why.reasons[1].text
    assert why.reasons[1].text.endswith("(8 min ago), and is not handed out yet")
    assert why.reasons[1].at is None


async def test_nobody_knows_when_a_held_job_starts(app: Taurine, queue: Queue) -> None:
    orders = declare_orders(app)
    async with app.worker():
        await (await orders.enqueue(Order(number=1))).result(timeout=10)
    await orders.enqueue(Order(number=2))
    handle = await orders.enqueue(Order(number=3))

    why = await app.why(handle.id)
    await queue.pause()
    paused = await app.why(handle.id)

    assert codes(why) == ["no_worker", "in_line"]
    assert codes(paused) == ["paused", "no_worker", "in_line"]
    for line in (why.reasons[-1], paused.reasons[-1]):
        assert line.details["rate"] > 0
        assert (line.text, line.at) == ("is in line behind 1 other", None)


# The two disagree -------------------------------------------------------------------------------------------------------------------


async def test_lost(app: Taurine, queue: Queue) -> None:
    handle = await declare_orders(app).enqueue(Order(number=1))
    await eventually(lambda: is_stamped(app, handle.id))
    await queue.obliterate()

    why = await app.why(handle.id)

    assert why.code == "lost"
    assert why.sentence.startswith("The job is no longer in queue 'orders'")
    assert why.next_event == "the reconciler puts it back"


async def test_stands_in_no_line(app: Taurine, raw: Redis, prefix: str) -> None:
    handle = await declare_orders(app).enqueue(Order(number=1))
    await raw.delete(f"{prefix}:orders:wait")

    why = await app.why(handle.id)

    assert why.code == "lost"
    assert "stands in no line of queue 'orders'" in why.sentence


async def test_the_queue_knows_of_its_end_first(app: Taurine, hand: Worker) -> None:
    """A worker that keeps no records, as on Node, has run it."""
    handle = await declare_orders(app).enqueue(Order(number=1))
    job = await hand.fetch()
    assert job is not None
    await hand.complete(job, 1)

    why = await app.why(handle.id)

    assert why.code == "settling"
    assert "has completed as the queue knows it" in why.sentence


# The database is down -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def failing_ledger(
    app_factory: Callable[..., Taurine], postgres_factory: Callable[..., PostgresServer]
) -> AsyncIterator[tuple[Taurine, FaultProxy]]:
    """An application whose PostgreSQL is behind a faulty network."""
    server = postgres_factory()
    url = make_url(server.url_of(await server.create_database()))
    assert url.port is not None
    async with FaultProxy(url.port) as proxy:
        app = app_factory(database_url=url.set(port=proxy.port).render_as_string(hide_password=False))
        await app.migrate()
        yield app, proxy
        await proxy.heal()
        await app.close()


@pytest.mark.parametrize("how", ["down", "mute"])
async def test_the_database_is_down(
    failing_ledger: tuple[Taurine, FaultProxy], queue: Queue, hand: Worker, how: str
) -> None:
    """What the queues know is told, and that the record could not be read."""
    app, proxy = failing_ledger
    orders = declare_orders(app)
    waiting, delayed = await orders.enqueue(Order(number=1)), await orders.enqueue(Order(number=2), delay=60)
    proxy.down() if how == "down" else proxy.black_hole()
    started = time.monotonic()

    whys = [await app.why(job_id) for job_id in (waiting.id, delayed.id, "nobody")]
    of_a_tenant = await app.why(waiting.id, tenant="acme")
    took = time.monotonic() - started

    assert codes(whys[0]) == ["no_worker", "in_line", "ledger_unavailable"]
    assert codes(whys[1]) == ["delayed", "no_worker", "ledger_unavailable"]
    assert codes(whys[2]) == ["ledger_unavailable"]
    assert codes(of_a_tenant) == ["ledger_unavailable"]  # nobody knows whose it is
    assert took < 4 * 6


async def test_both_are_down(
    failing_ledger: tuple[Taurine, FaultProxy],
    app_factory: Callable[..., Taurine],
    server_factory: Callable[..., ValkeyServer],
) -> None:
    app, proxy = failing_ledger
    server = server_factory()
    blind = app_factory(database_url=app.settings.database_url, redis_url=server.url)
    declare_orders(blind)
    server.stop()
    proxy.down()
    started = time.monotonic()

    why = await blind.why("a")

    assert codes(why) == ["ledger_unavailable", "store_unavailable"]
    assert time.monotonic() - started < 10
    await blind.close()


async def test_all_of_it_is_json(app: Taurine) -> None:
    orders = declare_orders(app, retry=Retry(attempts=3, backoff=Fixed(600)))
    async with app.worker():
        handle = await orders.enqueue(Order(number=1, fail="x"))
        await ended(lambda: app.get(handle.id), "retrying")
        why = await app.why(handle.id)

    told = json.loads(json.dumps(why.to_json()))

    assert (told["job_id"], told["code"], told["sentence"]) == (handle.id, why.code, str(why))
    assert [reason["code"] for reason in told["reasons"]] == codes(why)
    assert told["next_at"] == (None if why.next_at is None else why.next_at.isoformat())


async def test_a_job_that_ends_while_it_is_looked_at(app_factory: Callable[..., Taurine], valkey: ValkeyServer) -> None:
    """The record is read before the queue is asked; when the queue does not have the job any more, the record is read
    anew.
    """
    app = app_factory()
    orders = declare_orders(app, keep_completed=False)
    handle = await orders.enqueue(Order(number=1))
    await eventually(lambda: is_stamped(app, handle.id))
    async with FaultProxy(valkey.port) as proxy:
        slow = app_factory("slow", redis_url=proxy.url)
        proxy.black_hole()
        asking = asyncio.create_task(slow.why(handle.id))
        await eventually(lambda: proxy.connections, message="the queue was not asked")
        async with app.worker():
            await handle.result(timeout=10)
        await proxy.heal()
        why = await asking
        await slow.close()

    assert (why.code, why.record is not None and why.record.status) == ("finished", "completed")


async def test_a_new_process_and_a_mute_server(app_factory: Callable[..., Taurine], valkey: ValkeyServer) -> None:
    """The first connection is bounded too."""
    handle = await declare_orders(app_factory()).enqueue(Order(number=1))
    async with FaultProxy(valkey.port) as proxy:
        blind = app_factory("blind", redis_url=proxy.url)
        proxy.black_hole()
        started = time.monotonic()
        why = await blind.why(handle.id)
        took = time.monotonic() - started
        await proxy.heal()
        await blind.close()

    assert "store_unavailable" in codes(why)
    assert took < 4


async def test_jobs_that_others_put_in_are_not_shown(app: Taurine, queue: Queue) -> None:
    """What has no record is not this application's to tell of."""
    declare_orders(app)
    job: Job = await queue.add("order", {"number": 1})
    assert (await app.why(job.id)).code == "not_found"


async def test_a_job_that_others_added(app: Taurine, queue: Queue) -> None:
    """On a shared queue it has a number there, and a record under an id of its own: it is found all the same, and can
    be retried.
    """
    app.queue("orders", shared=True)
    declare_orders(app, retry=Retry(attempts=2, backoff=Fixed(600)))
    async with app.worker():
        job = await queue.add("order", {"number": 1, "fail": "once"}, attempts=2)

        async def adopted() -> Any:
            return list(await app.list(status="retrying"))

        (record,) = await eventually(adopted, 10, "the job was not adopted")
        await eventually(lambda: has_code(app, record.id, "retrying"))
        await app.retry(record.id)
        await ended(lambda: app.get(record.id), "failed")

    assert record.id != job.id
