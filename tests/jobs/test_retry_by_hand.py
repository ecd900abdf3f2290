"""`Taurine.retry`: running a job again that has ended, and at once one that waits for its next attempt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from jobs.operated import Order, declare_orders, ended
from support.eventually import eventually
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.errors import (
    NotAuthorized,
    PayloadInvalid,
    RecordNotFound,
    StoreUnavailable,
    TenantMismatch,
    TransitionRefused,
)
from taurine.jobs.enqueue.access import AccessRequest
from taurine.queue import Queue
from taurine.retry import Fixed, Retry


async def test_a_failed_job_runs_again_as_a_new_generation(ledger_url: str, app: Taurine) -> None:
    """SEED-217: with an edited payload it completes; the earlier attempts stay, and its dead letter counts as redriven."""
    await app.migrate()
    orders = declare_orders(app)
    async with app.worker():
        handle = await orders.enqueue(Order(number=1, fail="broken"), tenant="acme")
        await ended(lambda: app.get(handle.id), "failed")

        record = await app.retry(handle.id, payload={"number": 4}, user="ann")
        again = await ended(lambda: app.get(handle.id), "completed")

    assert (record.status, record.generation, record.attempts, record.error) == ("queued", 1, 0, None)
    assert (again.output, again.payload, again.attempts) == ({"price": 8}, {"number": 4, "fail": None}, 1)
    assert [(one.generation, one.outcome) for one in await app.attempts(handle.id)] == [
        (0, "retried"),
        (0, "failed"),
        (1, "completed"),
    ]
    (entry,) = await app.dead_letters.list(status=None)
    assert (entry.status, entry.resolved_by, entry.redriven_as) == ("redriven", "ann", f"{handle.id}#1")
    (action,) = [action for action in await app.audit(handle.id) if action.action == "retry"]
    assert (action.actor, action.tenant, json.loads(action.detail or "")) == ("ann", "acme", {"generation": 1})


@pytest.mark.parametrize("how", ["completed", "cancelled"])
async def test_any_ended_job_can_run_again(app: Taurine, how: str) -> None:
    orders = declare_orders(app)
    handle = await orders.enqueue(Order(number=1))
    if how == "cancelled":
        await handle.cancel()
    async with app.worker():
        await ended(lambda: app.get(handle.id), how)
        await app.retry(handle.id)
        record = await ended(lambda: app.get(handle.id), "completed")

    assert record.generation == 1


async def test_a_job_that_waits_for_its_next_attempt_runs_at_once(app: Taurine) -> None:
    """The delay is dropped, in the record and in the queue; no attempt is charged for it."""
    attempts: list[int] = []

    @app.job("flaky", queue="flaky", retry=Retry(attempts=3, backoff=Fixed(600)))
    async def flaky(payload: Order) -> None:
        attempts.append(payload.number)
        if len(attempts) == 1:
            raise ConnectionError("no route")

    async with app.worker():
        handle = await flaky.enqueue(Order(number=1))
        before = await ended(lambda: app.get(handle.id), "retrying")
        assert before.next_attempt_at is not None
        record = await app.retry(handle.id, user="ann")
        after = await ended(lambda: app.get(handle.id), "completed")

    assert (record.status, record.next_attempt_at, record.generation) == ("retrying", None, 0)
    assert (after.attempts, len(attempts)) == (2, 2)
    (action,) = await app.audit(handle.id)
    assert (action.action, action.actor, json.loads(action.detail or "")) == ("retry", "ann", {"attempt": 2})


async def test_no_other_open_job_can_be_retried(app: Taurine) -> None:
    orders = declare_orders(app)
    handle = await orders.enqueue(Order(number=1))

    with pytest.raises(TransitionRefused, match="is queued"):
        await app.retry(handle.id)
    with pytest.raises(TransitionRefused, match="cancel it first"):
        await app.retry(handle.id, payload={"number": 2})
    with pytest.raises(RecordNotFound):
        await app.retry("nobody")

    assert await app.audit(handle.id) == []


async def test_two_who_retry_at_once_start_one_generation(app: Taurine) -> None:
    orders = declare_orders(app)
    handle = await orders.enqueue(Order(number=1))
    await handle.cancel()

    answers = await asyncio.gather(*(app.retry(handle.id) for _ in range(5)), return_exceptions=True)

    assert sorted(type(answer).__name__ for answer in answers) == ["JobRecord", *["TransitionRefused"] * 4]
    record = await app.get(handle.id)
    assert record is not None
    assert record.generation == 1


async def test_an_edited_payload_is_checked(app: Taurine) -> None:
    orders = declare_orders(app, tenant="shop-{number}")
    handle = await orders.enqueue(Order(number=1))
    await handle.cancel()

    with pytest.raises(PayloadInvalid, match="number"):
        await app.retry(handle.id, payload={"number": "many"})
    with pytest.raises(TenantMismatch):
        await app.retry(handle.id, payload={"number": 2})

    record = await app.get(handle.id)
    assert record is not None
    assert (record.status, record.generation) == ("cancelled", 0)


async def test_the_hook_is_asked(app_factory: Callable[..., Taurine]) -> None:
    asked: list[AccessRequest] = []

    def authorize(request: AccessRequest) -> bool:
        asked.append(request)
        return request.action != "retry" or request.user == "ann"

    app = app_factory(authorize=authorize)
    orders = declare_orders(app)
    handle = await orders.enqueue(Order(number=1), tenant="acme")
    await handle.cancel()

    with pytest.raises(NotAuthorized, match="bob may not retry 'order'"):
        await app.retry(handle.id, payload={"number": 3}, user="bob")
    with pytest.raises(NotAuthorized):  # who may not do it learns nothing of what a payload has to be
        await app.retry(handle.id, payload={"number": "none"}, user="bob")
    await app.retry(handle.id, user="ann")

    refused = next(request for request in asked if request.user == "bob")
    assert (refused.action, refused.job_type, refused.tenant) == ("retry", "order", "acme")
    record = await app.get(handle.id)
    assert record is not None
    assert record.generation == 1


async def test_while_the_server_of_queues_is_down(
    app_factory: Callable[..., Taurine], server_factory: Callable[..., ValkeyServer]
) -> None:
    """A new generation is accepted and delivered later; a job that waits in the queue cannot be moved, and the call may
    be repeated.
    """
    server = server_factory(appendonly="yes")
    app = app_factory(redis_url=server.url)
    orders = declare_orders(app, retry=Retry(attempts=2, backoff=Fixed(600)))
    ended_one = await orders.enqueue(Order(number=1))
    await ended_one.cancel()
    waiting = await orders.enqueue(Order(number=2, fail="once"))
    async with app.worker():
        await ended(lambda: app.get(waiting.id), "retrying")
    server.stop()
    await app.close()  # and with it the outbox that its worker has started

    web = app_factory("web", redis_url=server.url)  # which runs no worker
    declare_orders(web)
    record = await web.retry(ended_one.id)
    with pytest.raises(StoreUnavailable):
        await web.retry(waiting.id)
    server.start()
    await eventually(lambda: is_handed_over(web, ended_one.id), 20, "the job was not handed over")
    async with app.worker():
        completed = await ended(lambda: app.get(ended_one.id), "completed", within=20)
        await app.retry(waiting.id)
        await ended(lambda: app.get(waiting.id), "failed", within=20)

    assert (record.status, completed.generation) == ("queued", 1)


async def is_handed_over(app: Taurine, job_id: str) -> bool:
    record = await app.get(job_id)
    return record is not None and record.dispatched_at is not None


async def test_a_lost_job_runs_at_once_when_it_is_put_back(app: Taurine, redis_socket_url: str, prefix: str) -> None:
    """What the queue no longer has cannot be moved there; the record says that it need not wait any more."""
    orders = declare_orders(app, retry=Retry(attempts=2, backoff=Fixed(600)))
    async with app.worker():
        handle = await orders.enqueue(Order(number=2, fail="once"))
        await ended(lambda: app.get(handle.id), "retrying")
    async with Queue("orders", redis_socket_url, prefix=prefix) as queue:

        async def removed() -> Any:
            return await queue.remove(handle.id)

        await eventually(removed, message="the job was not in the queue")

    record = await app.retry(handle.id)

    assert record.next_attempt_at is None
