"""Plain functions in threads: F05, SEED-219, CON-28."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from support.eventually import eventually
from support.executing import RecordingContext, call_of, descriptors, job_threads
from taurine.clock import SystemClock
from taurine.errors import HandlerExited, Release, TimeLimitExceeded
from taurine.jobs.executors import HandlerInterrupted, ThreadExecutor

variable: ContextVar[str] = ContextVar("variable")


@pytest.fixture(autouse=True)
async def no_thread_left() -> AsyncIterator[None]:
    yield
    await eventually(lambda: not job_threads(), 5, "the test left threads of jobs")


def spin(_: Any) -> None:
    while True:
        pass


async def test_a_function_runs_in_a_thread_with_the_callers_variables() -> None:
    def handler(payload: int, context: RecordingContext) -> tuple[int, str, str]:
        result = payload + 1, variable.get(), threading.current_thread().name
        variable.set("changed")
        return result

    executor = ThreadExecutor()
    variable.set("of the caller")
    result = await executor.run(call_of(handler, 1), timeout=5)
    assert result == (2, "of the caller", "taurine-job-1")
    assert variable.get() == "of the caller"
    await executor.stop()


async def test_threads_are_bounded_and_used_again() -> None:
    executor, most, running, lock = ThreadExecutor(max_threads=3), 0, 0, threading.Lock()

    def handler(_: Any) -> str:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return threading.current_thread().name

    names = await asyncio.gather(*(executor.run(call_of(handler), timeout=5) for _ in range(30)))
    assert most <= 3
    assert len(set(names)) <= 3
    await executor.stop()


async def test_errors_and_exits_are_the_attempts_own() -> None:
    executor = ThreadExecutor()

    def fail(_: Any) -> None:
        raise KeyError("missing")

    def leave(_: Any) -> None:
        sys.exit(3)

    with pytest.raises(KeyError, match="missing"):
        await executor.run(call_of(fail), timeout=5)
    with pytest.raises(HandlerExited, match=r"sys\.exit\(3\)"):
        await executor.run(call_of(leave), timeout=5)
    await executor.stop()


async def test_code_that_looks_at_the_flag_ends_by_itself() -> None:
    """SEED-219: the flag comes first, so that a function can put its things in order."""
    executor, context, ended = ThreadExecutor(grace=20), RecordingContext(), threading.Event()

    def polite(_: Any, context: RecordingContext) -> None:
        context.cancel_seen.wait()
        ended.set()

    with pytest.raises(TimeLimitExceeded) as raised:
        await executor.run(call_of(polite, None, context), timeout=0.01)
    assert ended.is_set()
    assert context.reason == "time limit of 0.01 s"
    assert raised.value.__cause__ is None
    assert len(job_threads()) == 1  # it was not interrupted and is used again
    await executor.stop()


async def test_a_loop_in_python_is_interrupted() -> None:
    """SEED-219, CON-28: a function that never looks up ends nevertheless."""
    executor, cleaned = ThreadExecutor(), threading.Event()

    def busy(_: Any) -> None:
        try:
            while True:
                try:
                    sum(range(10))
                except Exception:  # noqa: BLE001 - what it is about
                    continue
        finally:
            cleaned.set()

    with pytest.raises(TimeLimitExceeded) as raised:
        await executor.run(call_of(busy), timeout=0.05)
    assert isinstance(raised.value.__cause__, HandlerInterrupted)
    assert cleaned.is_set()
    assert executor.abandoned == 0
    await executor.stop()


async def test_a_blocking_call_is_given_up_and_its_slot_comes_back(
    caplog: pytest.LogCaptureFixture, figure: Callable[[str], None]
) -> None:
    """F05: a thread in C cannot be ended; the slot does not wait for it."""
    caplog.set_level(logging.INFO, "taurine.jobs")
    executor, enough = ThreadExecutor(max_threads=1, grace=0.1), threading.Event()

    def hang(_: Any) -> None:
        enough.wait()

    began = time.monotonic()
    for number in range(1, 6):
        with pytest.raises(TimeLimitExceeded):
            await executor.run(call_of(hang), timeout=0.02)
        assert executor.abandoned == number
    over = (time.monotonic() - began) / 5 - 0.02
    figure(f"F05 in a thread that blocks in C: slots freed 5 of 5, {over:.2f} s over the limit with a grace of 0.1 s")
    assert await executor.run(call_of(lambda payload: payload, "the next"), timeout=5) == "the next"
    assert "hang was told to stop and goes on, at" in caplog.text
    assert "threading.py" in caplog.text  # where it hangs
    enough.set()
    await eventually(lambda: executor.abandoned == 0)
    await eventually(lambda: "given up before, has ended" in caplog.text)
    await executor.stop()


async def test_sleep_in_a_thread_frees_the_slot() -> None:
    """CON-28: `time.sleep` is the common case of a call that cannot be interrupted."""
    executor = ThreadExecutor(max_threads=1, grace=0.04)

    def doze(_: Any) -> None:
        time.sleep(0.5)

    began = time.monotonic()
    with pytest.raises(TimeLimitExceeded):
        await executor.run(call_of(doze), timeout=0.01)
    assert executor.abandoned == 1, f"it was waited for: {time.monotonic() - began:.2f} s"
    await executor.stop()


async def test_an_interruption_never_hits_another_job() -> None:
    """Limits that pass just when the function ends are the race: whatever wins, the next job of the thread is
    untouched.
    """
    executor, hits, limited = ThreadExecutor(max_threads=2, grace=0.0004), 0, 0

    def brief(_: Any) -> None:
        end = time.monotonic() + 0.001
        while time.monotonic() < end:
            pass

    def untouched(_: Any) -> int:
        return sum(range(2000))

    async def racing() -> None:
        nonlocal limited
        try:
            await executor.run(call_of(brief), timeout=0.001)
        except TimeLimitExceeded:
            limited += 1

    async def following() -> None:
        nonlocal hits
        try:
            assert await executor.run(call_of(untouched), timeout=None) == sum(range(2000))
        except (HandlerInterrupted, HandlerExited):
            hits += 1

    for _ in range(300):
        await asyncio.gather(racing(), following(), racing(), following())
    assert hits == 0
    assert limited > 0
    await executor.stop()
    await eventually(lambda: executor.abandoned == 0)


async def test_an_interruption_that_comes_after_the_end_of_its_job_hits_no_other() -> None:
    """The same race, held open: the function has ended and its thread waits for work when the interruption is put in."""
    ran = threading.Event()

    class LimitPassesAsTheFunctionEnds(SystemClock):
        waits = 0

        async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
            self.waits += 1
            if self.waits == 2:  # the loop does not get to see the end
                assert ran.wait(5)
                (thread,) = executor._busy
                while not thread.where().endswith("in _run"):
                    time.sleep(0)  # noqa: ASYNC251 - holding the loop is the point
            return await super().wait(event, seconds) if self.waits > 2 else False

    executor = ThreadExecutor(max_threads=1, clock=LimitPassesAsTheFunctionEnds())
    with pytest.raises(TimeLimitExceeded):
        await executor.run(call_of(lambda _: ran.set()), timeout=1)
    assert await executor.run(call_of(lambda payload: payload, "untouched"), timeout=None) == "untouched"
    assert executor.abandoned == 0
    await executor.stop()


async def test_cancelling_the_run_interrupts_the_function() -> None:
    executor, context, started = ThreadExecutor(), RecordingContext(), threading.Event()

    def busy(_: Any) -> None:
        started.set()
        while True:
            pass

    run = asyncio.create_task(executor.run(call_of(busy, None, context), timeout=None))
    await eventually(started.is_set)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert context.reason == "cancelled"
    assert executor.abandoned == 0
    await executor.stop()


async def test_stopping_hands_back_what_runs_and_leaves_nothing() -> None:
    before = descriptors()
    executor, enough = ThreadExecutor(grace=0.1), threading.Event()

    def hang(_: Any) -> None:
        enough.wait()

    runs = [asyncio.create_task(executor.run(call_of(handler), timeout=None)) for handler in (spin, hang)]
    await executor.run(call_of(lambda _: None), timeout=None)
    await executor.stop()
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Release, Release]
    with pytest.raises(Release):
        await executor.run(call_of(spin), timeout=None)
    await executor.stop()
    enough.set()
    await eventually(lambda: not job_threads())
    assert descriptors() == before


def test_a_hanging_thread_does_not_keep_the_process_alive() -> None:
    program = """
        import asyncio, time
        from support.executing import call_of
        from taurine.jobs.executors import ThreadExecutor
        async def main():
            try:
                await ThreadExecutor(grace=0.01).run(call_of(lambda _: time.sleep(600)), timeout=0.01)
            except TimeoutError:
                print("limited")
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "limited\n"), done.stderr
