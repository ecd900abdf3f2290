"""A handler alone, and what a worker would make of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from taurine import (
    Cancel,
    Context,
    Fixed,
    InvalidOption,
    PayloadInvalid,
    Permanent,
    Release,
    Retry,
    RetryAfter,
    Snooze,
    Taurine,
    TenantMismatch,
)
from taurine.errors import TimeLimitExceeded
from taurine.testing import (
    AppFactory,
    DetachedContext,
    TestClock,
    attempt_job,
    attempt_job_sync,
    drain,
    run_job,
    run_job_sync,
)

pytest_plugins = ["taurine.testing.fixtures"]


class Order(BaseModel):
    order_id: UUID
    cents: int = Field(gt=0)


ORDER_ID = UUID("0b5f7d8e-6ad5-4a5c-9b0e-5d8f3f0c1a11")


@pytest.fixture
def app() -> Taurine:
    return Taurine("test")


async def test_the_payload_is_checked_and_goes_through_json(app: Taurine) -> None:
    """PEER-24, SEED-076: the helper checks the argument's round trip and the result."""

    @app.job("order.pay")
    async def pay(order: Order) -> Order:
        assert isinstance(order, Order)  # pyright: ignore[reportUnnecessaryIsInstance] - not the dict that it was made of
        assert isinstance(order.order_id, UUID)  # pyright: ignore[reportUnnecessaryIsInstance] - as above
        return order

    order = Order(order_id=ORDER_ID, cents=5)
    await run_job(pay, {"order_id": str(ORDER_ID), "cents": 5})  # pyright: ignore[reportArgumentType] - as JSON would have it
    result = await run_job(pay, order)
    assert result == order
    assert result is not order
    with pytest.raises(PayloadInvalid, match="cents"):
        await run_job(pay, {"order_id": str(ORDER_ID), "cents": 0})  # pyright: ignore[reportArgumentType] - that it is refused is the point
    with pytest.raises(PayloadInvalid):
        await run_job(pay, order.model_copy(update={"cents": -1}))


async def test_a_result_that_cannot_be_kept_is_permanent(app: Taurine) -> None:
    """PEER-24: the helper checks what is returned."""

    @app.job("order.count")
    async def count(order: int) -> int:
        return "many"  # pyright: ignore[reportReturnType] - the mistake that is to be found

    with pytest.raises(Permanent, match="result cannot be kept"):
        await run_job(count, 1)


def test_plain_functions_and_tests_without_a_loop(app: Taurine) -> None:
    """SEED-076: works without a worker, sync and async."""

    @app.job("number.double")
    def double(number: int, ctx: Context) -> int:
        assert threading.current_thread() is not threading.main_thread()
        return ctx.once_sync("k", lambda: number * 2)

    @app.job("number.triple")
    async def triple(number: int) -> int:
        return number * 3

    assert run_job_sync(double, 4) == 8
    assert run_job_sync(triple, 4) == 12
    assert attempt_job_sync(double, 4).result == 8


async def test_the_sync_forms_are_refused_on_a_loop(app: Taurine) -> None:
    @app.job("number.double")
    async def double(number: int) -> int:
        return number * 2

    with pytest.raises(InvalidOption, match="block the event loop"):
        run_job_sync(double, 4)


async def test_the_context_says_what_it_was_told(app: Taurine) -> None:
    monday = datetime(2026, 3, 2, tzinfo=UTC)
    app = Taurine("test", deps="of the application")

    @app.job("invite.send", job_id="invite:{user}", tenant="{tenant}", timeout=60)
    async def send(invite: dict[str, str], ctx: Context) -> list[Any]:
        assert ctx.deadline is not None
        return [ctx.job_id, ctx.tenant, ctx.attempt, ctx.max_attempts, str(ctx.scheduled_for), ctx.deps]

    payload = {"user": "ada", "tenant": "acme"}
    found = await run_job(send, payload, attempt=2, scheduled_for=monday)
    assert found == ["invite:ada", "acme", 2, 3, "2026-03-02 00:00:00+00:00", "of the application"]
    assert (await run_job(send, payload, deps="of the test"))[-1] == "of the test"
    with pytest.raises(TenantMismatch):
        await run_job(send, payload, tenant="globex")
    with pytest.raises(InvalidOption, match="did you mean 'attempt'"):
        await run_job(send, payload, atempt=2)  # pyright: ignore[reportCallIssue] - the near miss is the point
    with pytest.raises(InvalidOption, match="a context is given"):
        await run_job(send, payload, context=DetachedContext(), attempt=2)


async def test_errors_come_up_as_they_are_and_the_time_limit_holds(app: Taurine) -> None:
    @app.job("word.say", timeout=0.05)
    async def say(word: str) -> None:
        if word == "slow":
            await asyncio.sleep(30)
        raise Snooze(5)

    with pytest.raises(Snooze):
        await run_job(say, "no")
    with pytest.raises(TimeLimitExceeded):
        await run_job(say, "slow")
    attempt = await attempt_job(say, "slow")
    assert (attempt.status, attempt.pause) == ("retrying", 1.0)


async def test_a_handler_that_is_told_to_stop(app: Taurine) -> None:
    context = DetachedContext()

    @app.job("rows.count")
    async def count(rows: int, ctx: Context) -> int:
        for row in range(rows):
            if ctx.cancelled:
                return row
            if row == 2:
                context.cancel("enough")
        return rows

    attempt = await attempt_job(count, 10, context=context)
    assert (attempt.status, attempt.result, str(attempt.error)) == ("cancelled", 3, "enough")


async def test_a_date_to_wait_for_is_seen_from_the_test_s_clock(app: Taurine) -> None:
    clock = TestClock(datetime(2030, 1, 1, tzinfo=UTC))

    class Overloaded(Exception):
        status_code = 503
        headers = {"Retry-After": "Tue, 01 Jan 2030 00:01:30 GMT"}  # noqa: RUF012 - an error of somebody's library

    @app.job("word.say")
    async def say(_: str) -> None:
        raise Overloaded

    assert (await attempt_job(say, "x", clock=clock)).pause == 90
    assert (await attempt_job(say, "x", context=DetachedContext(clock=clock))).pause == 90


def _raise(error: Exception) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


ENDS: dict[str, Callable[[], Any]] = {
    "returns": lambda: None,
    "transient": _raise(ConnectionError("busy")),
    "permanent": _raise(Permanent("never")),
    "denied": _raise(PermissionError("no")),
    "retry after": _raise(RetryAfter(3600)),
    "snooze": _raise(Snooze(3600)),
    "cancel": _raise(Cancel("on purpose")),
    "not the result": object,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("attempts", [1, 3])
async def test_what_a_worker_makes_of_it_is_what_is_said(
    taurine_app_factory: AppFactory, end: str, attempts: int
) -> None:
    """PEER-24: the same handler by a real worker: its record, its dead letter, and its next start."""
    app = taurine_app_factory(on_alert=None)

    @app.job("end.come", retry=Retry(attempts=attempts, backoff=Fixed(60)))
    async def come(_: int) -> None:
        return ENDS[end]()

    said = await attempt_job(come, 1)
    handle = await come.enqueue(1)
    record = (await drain(app, timeout=20))[handle.id]

    assert record.status == said.status
    assert record.attempts == said.charged
    letters = [letter.reason for letter in await app.dead_letters.list()]
    assert letters == ([said.dead_letter] if said.dead_letter else [])
    if said.pause is not None:
        assert record.next_attempt_at is not None
        assert (record.next_attempt_at - record.updated_at).total_seconds() == pytest.approx(said.pause, abs=0.1)


async def test_what_is_handed_back_runs_again_at_once(app: Taurine) -> None:
    @app.job("word.say")
    async def say(_: str) -> None:
        raise Release("not now")

    attempt = await attempt_job(say, "x")
    assert (attempt.status, attempt.charged, attempt.ended) == ("queued", False, False)
    assert "handed back" in str(attempt)
