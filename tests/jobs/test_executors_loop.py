"""Async handlers on the worker's event loop: F05, SEED-219, CON-28."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from support.eventually import eventually
from support.executing import RecordingContext, call_of
from taurine.errors import HandlerExited, InvalidOption, Release, TimeLimitExceeded
from taurine.jobs.executors import Call, LoopExecutor, executor_for
from taurine.testing import TestClock

variable: ContextVar[str] = ContextVar("variable")


@pytest.fixture
async def executor() -> AsyncIterator[LoopExecutor]:
    executor = LoopExecutor()
    yield executor
    await executor.stop()


async def forever(_: Any) -> None:
    await asyncio.Event().wait()


async def test_a_handler_runs_with_its_payload_and_context(executor: LoopExecutor) -> None:
    async def handler(payload: int, context: RecordingContext) -> tuple[int, str]:
        return payload + 1, variable.get()

    variable.set("of the caller")
    assert await executor.run(call_of(handler, 1), timeout=None) == (2, "of the caller")


async def test_a_runtime_may_bind_further_arguments(executor: LoopExecutor) -> None:
    async def handler(payload: int, *, store: str) -> str:
        return f"{payload} {store}"

    call = Call(handler=handler, payload=1, context=RecordingContext(), bound=lambda: handler(1, store="injected"))
    assert await executor.run(call, timeout=None) == "1 injected"


async def test_the_handlers_error_is_raised(executor: LoopExecutor) -> None:
    async def handler(_: Any) -> None:
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        await executor.run(call_of(handler), timeout=5)


async def test_a_handler_over_its_limit_is_cancelled() -> None:
    """SEED-219, CON-28: the limit is the platform's, by its clock, and the handler hears of it."""
    clock, context = TestClock(), RecordingContext()
    run = asyncio.create_task(LoopExecutor(clock=clock).run(call_of(forever, None, context), timeout=60))
    await eventually(lambda: clock.sleepers == 1)
    clock.advance(59.9)
    await asyncio.sleep(0)
    assert not run.done()
    clock.advance(0.2)
    with pytest.raises(TimeLimitExceeded, match="time limit of 60 s") as raised:
        await run
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.limit == 60
    assert context.reason == "time limit of 60 s"


async def test_each_attempt_has_its_own_limit() -> None:
    """A limit that passes sooner than those before it is heard in time, and so are those after it."""
    clock = TestClock()
    executor = LoopExecutor(clock=clock)
    runs: dict[float, asyncio.Task[Any]] = {}
    for limit in (50, 10, 30, 10.5):
        runs[limit] = asyncio.create_task(executor.run(call_of(forever), timeout=limit))
        await eventually(lambda: clock.sleepers == 1 and len(executor._limits._due) == len(runs))
    untouched = asyncio.create_task(executor.run(call_of(forever), timeout=None))
    over: list[float] = []
    for limit, run in runs.items():
        run.add_done_callback(lambda _, limit=limit: over.append(limit))
    for _ in range(60):
        await eventually(lambda: clock.sleepers or not executor._limits._due)
        clock.advance(1)
        passed = [limit for limit in sorted(runs) if limit <= clock.monotonic()]
        await eventually(lambda passed=passed: over == passed, 5, f"{clock.monotonic()} s have passed")
    await asyncio.gather(*runs.values(), return_exceptions=True)
    assert not untouched.done()
    await executor.stop()
    with pytest.raises(Release):
        await untouched


async def test_what_a_handler_makes_of_its_cancellation_does_not_undo_the_limit(executor: LoopExecutor) -> None:
    async def stubborn(_: Any) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "a result all the same"
        return ""

    with pytest.raises(TimeLimitExceeded):
        await executor.run(call_of(stubborn), timeout=0.01)


async def test_an_error_of_the_clean_up_is_the_limits_cause(executor: LoopExecutor) -> None:
    async def clumsy(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("clean-up failed")

    with pytest.raises(TimeLimitExceeded) as raised:
        await executor.run(call_of(clumsy), timeout=0.01)
    assert isinstance(raised.value.__cause__, OSError)


async def test_a_handler_that_swallows_the_cancellation_is_given_up(
    caplog: pytest.LogCaptureFixture, figure: Callable[[str], None]
) -> None:
    """F05: the slot comes back whatever the code does."""
    caplog.set_level(logging.INFO, "taurine.jobs")
    enough, executor = asyncio.Event(), LoopExecutor(grace=0.05)

    async def swallow(_: Any) -> None:
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue

    began = time.monotonic()
    outcomes = await asyncio.gather(
        *(executor.run(call_of(swallow), timeout=0.05) for _ in range(20)), return_exceptions=True
    )
    over = time.monotonic() - began - 0.05
    freed = sum(isinstance(outcome, TimeLimitExceeded) for outcome in outcomes)
    figure(f"F05 on the loop: slots freed {freed} of 20, {over:.2f} s over the limit with a grace of 0.05 s")
    assert freed == 20
    assert executor.abandoned == 20
    assert "swallow was told to stop (time limit of 0.05 s) and goes on" in caplog.text
    enough.set()
    await eventually(lambda: executor.abandoned == 0)


async def test_cancelling_the_run_cancels_the_handler_and_waits_for_its_clean_up(executor: LoopExecutor) -> None:
    started, cleaned, context = asyncio.Event(), False, RecordingContext()

    async def tidy(_: Any) -> None:
        nonlocal cleaned
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned = True

    run = asyncio.create_task(executor.run(call_of(tidy, None, context), timeout=None))
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert cleaned
    assert context.reason == "cancelled"


async def test_a_second_cancellation_does_not_wait_for_the_grace() -> None:
    enough, started, executor = asyncio.Event(), asyncio.Event(), LoopExecutor(grace=60)

    async def swallow(_: Any) -> None:
        started.set()
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue

    run = asyncio.create_task(executor.run(call_of(swallow), timeout=None))
    await started.wait()
    run.cancel()
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(run, 5)
    assert executor.abandoned == 1
    enough.set()
    await eventually(lambda: executor.abandoned == 0)


async def test_a_handler_cannot_end_the_worker(executor: LoopExecutor) -> None:
    async def leave(_: Any) -> None:
        sys.exit(3)

    with pytest.raises(HandlerExited, match=r"sys\.exit\(3\)"):
        await executor.run(call_of(leave), timeout=5)


async def test_a_handlers_own_cancelled_error_is_not_taken_for_one_of_the_run(executor: LoopExecutor) -> None:
    async def confused(_: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(HandlerExited, match="nobody had cancelled"):
        await executor.run(call_of(confused), timeout=5)


async def test_stopping_hands_back_what_runs() -> None:
    executor, enough = LoopExecutor(grace=0.02), asyncio.Event()

    async def swallow(_: Any) -> None:
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue

    runs = [asyncio.create_task(executor.run(call_of(handler), timeout=None)) for handler in (forever, swallow)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await executor.stop()
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Release, Release]
    with pytest.raises(Release):
        await executor.run(call_of(forever), timeout=None)
    enough.set()
    await eventually(lambda: executor.abandoned == 0)


def test_where_a_handler_runs() -> None:
    def plain(_: Any) -> None: ...

    class Handler:
        async def __call__(self, _: Any) -> None: ...

    assert executor_for(forever) == "loop"
    assert executor_for(plain) == "thread"
    assert executor_for(Handler()) == "loop"
    assert executor_for(plain, "process") == executor_for(forever, "process") == "process"
    with pytest.raises(InvalidOption, match="would block the event loop"):
        executor_for(plain, "loop")
    with pytest.raises(InvalidOption, match="a thread has no event loop"):
        executor_for(forever, "thread")
    with pytest.raises(InvalidOption, match="did you mean 'thread'"):
        executor_for(plain, "threads")  # pyright: ignore[reportArgumentType] - untyped callers
