"""Copies of dead letters in BullMQ queues: made by the option, once each, and gone when the entry was dealt with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.operated import Order, declare_orders, ended
from support.eventually import eventually
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.errors import InvalidName, InvalidOption
from taurine.jobs.operations.mirror import DeadLetterMirror, MirrorReport, mirror_queues
from taurine.ledger.dead_letters import DeadLetterFilter
from taurine.queue import Job, Queue, Worker


async def fail_orders(app: Taurine, number: int, **options: Any) -> list[str]:
    orders = app.catalog.get("order")
    handles = [await orders.enqueue(Order(number=each, fail="broken"), **options) for each in range(number)]
    async with app.worker():
        for handle in handles:
            await ended(lambda handle=handle: app.get(handle.id), "failed")
    return [handle.id for handle in handles]


def mirror_of(app: Taurine) -> DeadLetterMirror:
    # In steps of one entry, so that few do for several.
    return DeadLetterMirror(app._backend(), mirror_queues(app.catalog), random=Random(1), batch=1)


async def test_a_copy_in_the_queue_of_ones_own(app: Taurine, redis_socket_url: str, prefix: str) -> None:
    """SEED-194, SEED-136, SEED-138, SEED-198: in `email-dlq`, with all the names that hand-written dead letter queues
    use, and the payload as it travelled.
    """
    app.queue("email", dead_letter_queue="email-dlq")
    declare_orders(app, queue="email")
    (job_id,) = await fail_orders(app, 1, tenant="acme")
    await mirror_of(app).run_once()
    (entry,) = await app.dead_letters.list()

    async with Queue("email-dlq", redis_socket_url, prefix=prefix) as queue:
        (copy,) = await queue.get_jobs("waiting")

    assert (copy.id, copy.name) == (entry.id, "order")
    assert copy.data == {
        "deadLetterId": entry.id,
        "originalJobId": job_id,
        "originalQueue": "email",
        "queue": "email",
        "originalJob": "order",
        "tenant": "acme",
        "error": "broken",
        "errorType": "RuntimeError",
        "stacktrace": entry.error["traceback"],
        "failedAt": entry.failed_at.isoformat(),
        "attempts": 2,
        "totalAttempts": 2,
        "reason": "exhausted",
        "jobData": {"number": 0, "fail": "broken"},
    }
    assert copy.created_at == entry.failed_at.timestamp()
    assert entry.mirrored_at is not None


async def test_workers_make_copies(app: Taurine, redis_socket_url: str, prefix: str) -> None:
    """True is `<queue>-dlq`; a redrive and a discard take the copy away again."""
    app.queue("orders", dead_letter_queue=True)
    declare_orders(app)
    async with Queue("orders-dlq", redis_socket_url, prefix=prefix) as queue:
        await fail_orders(app, 2)
        async with app.worker():
            await eventually(queue.count, message="no copy was made")
        await mirror_of(app).run_once()
        assert await queue.count() == 2
        one, other = await app.dead_letters.list()

        await app.dead_letters.discard(one)
        assert [copy.id for copy in await queue.get_jobs()] == [other.id]
        await app.dead_letters.redrive(other)
        assert await queue.get_jobs() == []

    assert [entry.mirrored_at async for entry in app.dead_letters.list(status=None)] == [None, None]


async def test_copying_twice_makes_one_copy(app: Taurine, redis_socket_url: str, prefix: str) -> None:
    """Two mirrors at once, and one that died before it could note what it had copied: each entry has one copy."""
    app.queue("orders", dead_letter_queue=True)
    declare_orders(app)
    await fail_orders(app, 3)
    ids = sorted([entry.id async for entry in app.dead_letters.list()])
    async with Queue("orders-dlq", redis_socket_url, prefix=prefix) as queue:
        await queue.add("order", {"made": "before"}, job_id=ids[0])

        await asyncio.gather(mirror_of(app).run_once(), mirror_of(app).run_once())
        again = await mirror_of(app).run_once()

        assert sorted(copy.id for copy in await queue.get_jobs()) == ids
        assert again == MirrorReport(0, 0)


async def test_it_catches_up(
    app_factory: Callable[..., Taurine], server_factory: Callable[..., ValkeyServer], prefix: str
) -> None:
    """What was dealt with by other ways, or while the server was away, loses its copy at the next pass."""
    server = server_factory(appendonly="yes")
    app = app_factory(redis_url=server.url)
    app.queue("orders", dead_letter_queue=True)
    declare_orders(app)
    retried, discarded, kept = await fail_orders(app, 3)
    mirror = mirror_of(app)
    assert (await mirror.run_once()).copied <= 3  # the worker may have made some
    entries = {entry.job_id: entry async for entry in app.dead_letters.list()}

    await app.retry(retried)
    server.stop()
    await app.dead_letters.discard(entries[discarded])
    server.start()
    report, then = await mirror.run_once(), await mirror.run_once()
    async with Queue("orders-dlq", server.url, prefix=prefix) as queue:
        copies = [copy.id for copy in await queue.get_jobs()]

    assert (report, then) == (MirrorReport(copied=0, removed=2), MirrorReport(0, 0))
    assert copies == [entries[kept].id]


async def test_a_copy_that_somebody_works_on_stays(app: Taurine, redis_socket_url: str, prefix: str) -> None:
    """The entry is dealt with all the same, and the pass ends; the copy goes at a later one."""
    app.queue("orders", dead_letter_queue=True)
    declare_orders(app)
    await fail_orders(app, 1)
    mirror = mirror_of(app)
    await mirror.run_once()
    begun, release = asyncio.Event(), asyncio.Event()

    async def hold(job: Job) -> None:
        begun.set()
        await release.wait()

    async with Worker("orders-dlq", hold, redis_socket_url, prefix=prefix):
        await begun.wait()
        await app.dead_letters.discard(DeadLetterFilter())
        held = await mirror.run_once()
        release.set()
        async with Queue("orders-dlq", redis_socket_url, prefix=prefix) as queue:
            await eventually(lambda: queue.count("completed"), message="the copy was not let go")
        freed = await mirror.run_once()

    assert (held.removed, freed.removed) == (0, 1)


async def test_numbers_of_the_payload_stay_exact(app: Taurine, raw: Redis, prefix: str) -> None:
    """The payload is copied as text: no number is rounded on the way."""
    app.queue("exact", dead_letter_queue=True)

    @app.job("exact", queue="exact")
    async def exact(payload: dict[str, int]) -> None:
        raise AssertionError("never")

    async with app.worker():
        handle = await exact.enqueue({"big": 2**63 + 1})
        await ended(lambda: app.get(handle.id), "failed", within=20)
    await mirror_of(app).run_once()
    (entry,) = await app.dead_letters.list()

    stored: Any = await raw.hget(f"{prefix}:exact-dlq:{entry.id}", "data")  # pyright: ignore[reportGeneralTypeIssues]

    assert json.loads(stored)["jobData"] == {"big": 2**63 + 1}
    assert str(2**63 + 1) in stored


async def test_without_the_option_there_is_none(app: Taurine, raw: Redis, prefix: str) -> None:
    declare_orders(app)
    await fail_orders(app, 1)

    assert mirror_queues(app.catalog) == {}
    assert await raw.keys(f"{prefix}:orders-dlq*") == []


async def test_which_queues_have_a_mirror(app: Taurine) -> None:
    """Several queues may share one; a queue that jobs go to is none, since its workers would run the copies."""
    app.queue("a", dead_letter_queue="dead")
    app.queue("b", dead_letter_queue="dead")
    app.queue("c", dead_letter_queue=False)
    for name in "abcd":
        app.declare(name, Order, queue=name)
    assert mirror_queues(app.catalog) == {"a": "dead", "b": "dead"}

    app.queue("d", dead_letter_queue="a")
    with pytest.raises(InvalidOption, match="the dead letter queue 'a' of 'd' is a queue that jobs go to"):
        mirror_queues(app.catalog)
    with pytest.raises(InvalidName):
        app.queue("e", dead_letter_queue="e:dead")
