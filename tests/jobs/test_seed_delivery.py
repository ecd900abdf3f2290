"""Queue and record are two things: what is not in the queue is put there, and what the queue tells is not the state
(SEED-021, 026 to 028, 039, 226).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from jobs.operated import Order, declare_orders, ended
from jobs.reconciling import NO_UPKEEP
from support.eventually import eventually
from support.proxy import FaultProxy
from support.server import ValkeyServer
from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import StoreUnavailable
from taurine.queue import Queue
from taurine.queue.events import Completed, Failed, QueueEvents


@pytest.fixture
def broken_add(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The fault between the record and the add: no job gets into a queue until it is undone."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the connection was cut")

    monkeypatch.setattr(Queue, "add", refuse)
    monkeypatch.setattr(Queue, "add_many", refuse)
    return monkeypatch


async def test_a_job_that_was_recorded_and_not_added_is_repaired(
    app_factory: Callable[..., Taurine], broken_add: pytest.MonkeyPatch
) -> None:
    """SEED-226: nobody is told that it waits for ever: `why` says where it is, and the outbox adds it as soon as it
    can.
    """
    app = app_factory()
    handle = await declare_orders(app).enqueue(Order(number=21))
    record = await handle.record()
    assert (record.status, record.dispatched_at) == ("queued", None)
    assert "outbox" in {reason.code for reason in (await app.why(handle.id)).reasons}

    broken_add.undo()

    async def added() -> bool:
        return (await handle.record()).dispatched_at is not None

    await eventually(added, 10, "it was not added")
    async with app.worker():
        assert (await handle.result(timeout=10)).price == 42


async def test_a_job_whose_producer_died_before_the_add_is_repaired_by_a_worker(
    app_factory: Callable[..., Taurine], broken_add: pytest.MonkeyPatch
) -> None:
    """SEED-226: the producer is gone with its fault, and any worker of the application finds the record."""
    producer = app_factory()
    handle = await declare_orders(producer).enqueue(Order(number=21))
    await producer.close()
    broken_add.undo()
    broken_add.setattr("taurine.jobs.handover.outbox.YOUNG_MS", 300)  # scaled

    app = app_factory()
    declare_orders(app)
    async with app.worker():
        record = await ended(lambda: app.get(handle.id), "completed")

    assert record.output == {"price": 42}


async def test_the_application_owns_what_the_queue_does_not_know(app: Taurine, raw: RawStore, prefix: str) -> None:
    """SEED-021, SEED-026: who asked, for whom, by which key, what came of it, and who did what; also when the queue has
    lost it all.
    """
    orders = declare_orders(app, tenant=None)
    given: dict[str, Any] = {"tenant": "acme", "user": "ada", "idempotency_key": "req-1"}
    handle = await orders.enqueue(Order(number=1), **given)
    async with app.worker():
        await handle.result(timeout=10)
    stored = await raw.hgetall(f"{prefix}:orders:{handle.id}")
    assert "req-1" not in str(stored)
    await raw.delete(*await raw.keys(f"{prefix}:orders:*"))

    record = await app.get(handle.id, tenant="acme")
    assert record is not None
    assert (record.status, record.output, record.created_by) == ("completed", {"price": 2}, "ada")
    assert await app.get(handle.id, tenant="globex") is None
    again = await orders.enqueue(Order(number=1), **given)
    assert (again.id, again.duplicate, again.status) == (handle.id, True, "completed")
    await app.retry(handle.id, user="operator")
    assert [(entry.actor, entry.action) for entry in await app.audit(handle.id)] == [
        ("ada", "enqueue"),
        ("operator", "retry"),
    ]


# The event stream -----------------------------------------------------------------------------------------------------------------


async def test_listeners_hear_of_both_ends_with_the_id_and_the_reason(
    app: Taurine, redis_socket_url: str, prefix: str
) -> None:
    """SEED-027: the events of the queue, for logs and metrics of any process."""
    orders = declare_orders(app)
    good = await orders.enqueue(Order(number=1))
    bad = await orders.enqueue(Order(number=2, fail="permanent"))
    heard: dict[str, str] = {}
    async with app.worker(), QueueEvents("orders", redis_socket_url, prefix=prefix, last_id="0") as events:
        async with asyncio.timeout(10):
            async for event in events:
                match event:
                    case Completed(job_id=job_id, result=result):
                        heard[job_id] = f"completed with {result}"
                    case Failed(job_id=job_id, reason=reason):
                        heard[job_id] = f"failed: {reason}"
                    case _:
                        pass
                if len(heard) == 2:
                    break

    assert heard == {good.id: "completed with {'price': 2}", bad.id: "failed: never"}


async def test_both_ends_are_in_the_log_without_a_listener(app: Taurine, caplog: pytest.LogCaptureFixture) -> None:
    """SEED-027: the worker's own lines have the job's id, and the reason."""
    caplog.set_level(logging.INFO, "taurine.jobs")
    orders = declare_orders(app)
    good = await orders.enqueue(Order(number=1))
    bad = await orders.enqueue(Order(number=2, fail="permanent"))
    async with app.worker():
        await ended(good.record, "completed")
        await ended(bad.record, "failed")

    lines = {vars(record).get("job_id"): record.getMessage() for record in caplog.records}
    assert "completed" in lines[good.id]
    assert "is dead after 1 of 2 attempts (permanent): Permanent: never" in lines[bad.id]


async def test_no_state_comes_from_the_event_stream(app: Taurine, raw: RawStore, prefix: str) -> None:
    """SEED-028: nobody can read it here, and every record is right."""
    orders = declare_orders(app)
    await raw.xadd(f"{prefix}:orders:events", {"event": "noise"})
    await raw.xgroup_create(f"{prefix}:orders:events", "none")
    good = await orders.enqueue(Order(number=1))
    bad = await orders.enqueue(Order(number=2, fail="broken"))
    async with app.worker(upkeep=NO_UPKEEP):
        await raw.delete(f"{prefix}:orders:events")
        for handle, status in ((good, "completed"), (bad, "failed")):
            await ended(handle.record, status)
            await raw.delete(f"{prefix}:orders:events")
        assert not [client for client in await raw.client_list() if client["cmd"].startswith("xread")]

    assert (await good.record()).output == {"price": 2}
    assert (await bad.record()).attempts == 2


# Errors of the worker itself ------------------------------------------------------------------------------------------------------


async def test_a_workers_own_trouble_is_logged_and_it_lives(
    app_factory: Callable[..., Taurine], valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """SEED-039: nobody listens for its errors; an outage of the queues is in the log, and the worker goes on after it."""
    async with FaultProxy(valkey.socket) as proxy:
        app = app_factory(redis_url=proxy.url)
        orders = declare_orders(app)
        async with app.worker() as worker:
            assert (await (await orders.enqueue(Order(number=1))).result(timeout=10)).price == 2
            proxy.down()
            await eventually(lambda: "it goes on trying" in caplog.text, 10, "nothing was logged")
            assert worker.is_ready, "it runs"
            await proxy.heal()
            assert (await (await orders.enqueue(Order(number=2))).result(timeout=20)).price == 4
        await app.close()

    assert {record.levelname for record in caplog.records if "it goes on trying" in record.getMessage()} <= {
        "WARNING",
        "ERROR",
    }
