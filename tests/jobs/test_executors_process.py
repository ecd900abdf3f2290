"""Handlers in processes of their own: F05, F06, F07, SEED-219, CON-28."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from support import process_handlers as handlers
from support.eventually import eventually
from support.executing import RecordingContext, call_of, descriptors, is_alive, process_executor
from taurine.errors import (
    HandlerExited,
    HandlerFailed,
    InvalidOption,
    PayloadError,
    Permanent,
    Release,
    RetryAfter,
    Snooze,
    TimeLimitExceeded,
    WorkerProcessDied,
    WorkerProcessNotStarted,
)
from taurine.jobs.executors import ProcessExecutor, check_importable, check_named
from taurine.jobs.executors.frames import encode_frame

job: ContextVar[str] = ContextVar("job", default="none")

MIB = 1024 * 1024


@pytest.fixture
async def executor() -> AsyncIterator[ProcessExecutor]:
    """One process at most, so that a test sees whether it was replaced."""
    executor = process_executor(max_processes=1, grace=0.2)
    yield executor
    await executor.stop()


@pytest.fixture(autouse=True)
def nothing_but_memory_left() -> Any:
    """Every process is gone, with its descriptors and the threads that waited for it."""
    before, threads = descriptors(), set(threading.enumerate())
    yield
    gc.collect()
    left = {number: what for number, what in descriptors().items() if number not in before}
    assert not left, f"descriptors left open: {left}"
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if is_alive(int(pid)) and "executors.child" in _command(pid)]
    for thread in set(threading.enumerate()) - threads:
        if "waitpid" in thread.name:
            thread.join(5)
            assert not thread.is_alive(), f"thread left: {thread.name}"


def _command(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


# What a handler gets and gives


async def test_a_payload_is_checked_there_and_a_result_comes_back_as_json(executor: ProcessExecutor) -> None:
    ticket = handlers.Ticket(id=4)
    assert await executor.run(call_of(handlers.double, ticket), timeout=30) == {"doubled": 8, "kind": "Ticket"}
    assert await executor.run(call_of(handlers.double, {"id": 5}), timeout=30) == {"doubled": 10, "kind": "Ticket"}
    with pytest.raises(HandlerFailed, match="valid integer") as raised:
        await executor.run(call_of(handlers.double, {"id": "no number"}), timeout=30)
    assert raised.value.type_name.endswith("ValidationError")
    assert raised.value.verdict["kind"] == "permanent"


async def test_an_async_handler_runs_on_a_loop_there(executor: ProcessExecutor) -> None:
    context = RecordingContext()
    assert await executor.run(call_of(handlers.double_async, {"id": 2}, context), timeout=30) == 4
    assert context.noted("progress") == [{"done": 1, "total": 2, "message": "half"}]


async def test_the_context_reaches_the_worker(executor: ProcessExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """Progress, state, requests, log records and what is printed, in order, with the variables of the attempt."""
    caplog.set_level(logging.INFO)
    seen: list[str] = []
    caplog.handler.addFilter(lambda record: not seen.append(f"{record.getMessage()} [{job.get()}]"))
    context = RecordingContext(job_id="job-7")
    job.set("job-7")
    assert await executor.run(call_of(handlers.talk, None, context), timeout=30) == ["once", {"key": "job-7"}]
    assert context.notes == [
        ("progress", {"done": 3, "total": 4, "message": "three"}),
        ("once", {"key": "job-7"}),
    ]
    (pid,) = executor.pids
    for line in (f"stdout of process {pid}: printed", f"stderr of process {pid}: complained", "logged job-7"):
        await eventually(lambda line=line: f"{line} [job-7]" in seen, 5, f"{line!r} is not among {seen}")


async def test_a_bad_log_call_fails_nothing(executor: ProcessExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """As in the worker's own process: one that cannot be formatted is told of, one that is too long is cut."""
    assert await executor.run(call_of(handlers.log_badly), timeout=30) == "done"

    def said(start: str) -> bool:
        return any(record.getMessage().startswith(start) for record in caplog.records)

    (pid,) = executor.pids
    for start in (f"stderr of process {pid}: --- Logging error", "longlong", "fine"):
        await eventually(lambda start=start: said(start), 5, f"no line that starts with {start!r}")
    assert max(len(record.getMessage()) for record in caplog.records) <= MIB


async def test_what_the_worker_answers_with_an_error_is_raised_there(executor: ProcessExecutor) -> None:
    with pytest.raises(HandlerFailed, match="refused 5") as raised:
        await executor.run(call_of(handlers.refused), timeout=30)
    assert raised.value.verdict["kind"] == "permanent"


async def test_errors_come_back_with_what_tells_how_to_go_on(executor: ProcessExecutor) -> None:
    """Taurine's signals as themselves, others by name, with their traceback and how they were classified there."""

    async def error_of(kind: str) -> BaseException:
        with pytest.raises(Exception, match=r".") as raised:
            await executor.run(call_of(handlers.fail, kind), timeout=30)
        return raised.value

    plain = await error_of("value")
    assert isinstance(plain, HandlerFailed)
    assert (str(plain), plain.type_name) == ("no good", "ValueError")
    assert "in fail\n" in plain.traceback
    connection = await error_of("connection")
    assert isinstance(connection, HandlerFailed)
    assert connection.verdict["kind"] == "transient"
    assert isinstance(await error_of("permanent"), Permanent)
    later, snooze = await error_of("retry-after"), await error_of("snooze")
    assert isinstance(later, RetryAfter)
    assert (later.delay, str(later)) == (30, "later")
    assert isinstance(snooze, Snooze)
    assert snooze.delay == 5
    assert isinstance(await error_of("exit"), HandlerExited)
    assert len(executor.pids) == 1


async def test_what_is_no_json_fails_the_attempt_alone(executor: ProcessExecutor) -> None:
    first = await executor.run(call_of(handlers.pid), timeout=30)
    with pytest.raises(PayloadError, match="result cannot be stored as JSON"):
        await executor.run(call_of(handlers.not_json), timeout=30)
    with pytest.raises(Exception, match="serialize"):
        await executor.run(call_of(handlers.pid, object()), timeout=30)
    assert await executor.run(call_of(handlers.pid), timeout=30) == first


async def test_payloads_and_results_may_be_large(executor: ProcessExecutor) -> None:
    text = "é" * (3 * MIB)
    assert await executor.run(call_of(handlers.give_back, text), timeout=60) == text


async def test_a_binder_of_the_runtimes_own() -> None:
    executor = process_executor(max_processes=1, binder="support.process_binder:bind_and_tell")
    result = await executor.run(call_of(handlers.declared.__wrapped__, {"a": 1}), timeout=30)
    assert result == {"found": "Declared", "handler": "declared", "payload": '{"a":1}', "job_id": "job-1"}
    with pytest.raises(HandlerFailed) as raised:
        await executor.run(call_of(handlers.fail, "value"), timeout=30)
    assert raised.value.verdict["why"] == "the binder's own rule"
    await executor.stop()


# Time limits and cancellation


@pytest.mark.parametrize("handler", [handlers.spin, handlers.block, handlers.ignore_cancel, handlers.wait_async])
async def test_a_handler_over_its_limit_is_killed(
    executor: ProcessExecutor, handler: Any, figure: Callable[[str], None]
) -> None:
    """F05, SEED-219, CON-28: a loop, a call that blocks in C with the interpreter's lock, one that ignores all, one
    that waits.
    """
    victim = await executor.run(call_of(handlers.pid), timeout=30)
    context, began = RecordingContext(), time.monotonic()
    with pytest.raises(TimeLimitExceeded, match="its process was killed"):
        await executor.run(call_of(handler, None, context), timeout=0.1)
    figure(f"F05 in a process, {handler.__name__}: slot freed, {time.monotonic() - began - 0.1:.3f} s over the limit")
    assert context.cancelled
    await eventually(lambda: not is_alive(victim), 5, "the process lives")
    assert await executor.run(call_of(handlers.pid), timeout=30) != victim


async def test_a_kill_takes_along_what_the_handler_has_started(executor: ProcessExecutor, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    run = asyncio.create_task(executor.run(call_of(handlers.start_program_and_block, str(note)), timeout=None))
    program = int(await eventually(lambda: note.exists() and note.read_text(), 30))
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await eventually(lambda: not is_alive(program), 5, "the handler's program lives")


async def test_a_cancelled_handler_may_end_by_itself(executor: ProcessExecutor) -> None:
    for handler in (handlers.wait_for_cancel, handlers.wait_async):
        process = await executor.run(call_of(handlers.pid), timeout=30)
        context = RecordingContext()
        executor._grace = 30  # the process must not be killed for want of time
        run = asyncio.create_task(executor.run(call_of(handler, None, context), timeout=None))
        await eventually(lambda context=context: context.noted("progress"), 30)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert len(context.noted("progress")) == 2  # it has seen the flag
        assert context.reason == "cancelled"
        assert await executor.run(call_of(handlers.pid), timeout=30) == process


async def test_a_cancelled_handler_that_goes_on_is_killed(executor: ProcessExecutor) -> None:
    context = RecordingContext()
    run = asyncio.create_task(executor.run(call_of(handlers.ignore_cancel, None, context), timeout=None))
    await eventually(lambda: context.noted("progress"), 30)
    (victim,) = executor.pids
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await eventually(lambda: not is_alive(victim), 5, "the process lives")


# Death


@pytest.mark.parametrize(
    ("handler", "payload", "number", "code"),
    [
        (handlers.abort, None, signal.SIGABRT, None),
        (handlers.segfault, None, signal.SIGSEGV, None),
        (handlers.exit_hard, 7, None, 7),
        (handlers.exit_hard, 0, None, 0),
    ],
)
async def test_a_process_that_dies_fails_its_attempt_and_is_replaced(
    executor: ProcessExecutor, handler: Any, payload: Any, number: int | None, code: int | None
) -> None:
    """F06, F07: the signal or exit code is in the error; whoever comes next notices nothing; the worker is not touched."""
    for _ in range(2):
        with pytest.raises(WorkerProcessDied) as raised:
            await executor.run(call_of(handler, payload), timeout=30)
        assert (raised.value.signal, raised.value.exit_code) == (number, code)
        assert (f"signal {number}" if number else f"code {code}") in str(raised.value)
        assert await executor.run(call_of(handlers.double, {"id": 1}), timeout=30) == {"doubled": 2, "kind": "Ticket"}


async def test_poison_beside_good_jobs(figure: Callable[[str], None]) -> None:
    """F07: jobs in other processes end as if nothing were."""
    executor = process_executor(max_processes=2)
    outcomes = await asyncio.gather(
        *(executor.run(call_of(handlers.segfault if n % 4 == 0 else handlers.pid), timeout=60) for n in range(16)),
        return_exceptions=True,
    )
    died = [outcome for outcome in outcomes if isinstance(outcome, WorkerProcessDied)]
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, WorkerProcessDied)] == [0, 4, 8, 12]
    assert {death.signal for death in died} == {signal.SIGSEGV}
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 12
    figure(f"F07: {len(died)} segmentation faults, 12 of 12 other jobs done, worker restarts 0")
    await executor.stop()


async def test_a_process_that_a_handler_forks_does_not_garble_the_line(
    executor: ProcessExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    context = RecordingContext()
    assert await executor.run(call_of(handlers.fork, None, context), timeout=30) == "done"
    assert context.notes == []
    for line in ("support.fork: logged by the forked process", "cannot speak to the worker"):
        await eventually(lambda line=line: line in caplog.text, 5, f"no line {line!r}")


async def test_a_process_that_outlives_its_maker_does_not_hide_the_death(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    """Its maker's pipes and line stay open; that the maker has ended is what counts."""
    note = tmp_path / "pid"
    with pytest.raises(WorkerProcessDied) as raised:
        await executor.run(call_of(handlers.leave_a_fork_and_die, str(note)), timeout=30)
    assert raised.value.exit_code == 3
    os.kill(int(await eventually(lambda: note.exists() and note.read_text(), 5)), signal.SIGKILL)


async def test_an_attempt_that_had_not_begun_goes_to_another_process(executor: ProcessExecutor) -> None:
    """An idle process may be killed, for memory perhaps; the next job is not charged for it."""
    for _ in range(5):
        victim = await executor.run(call_of(handlers.pid), timeout=30)
        os.kill(victim, signal.SIGKILL)
        assert await executor.run(call_of(handlers.pid), timeout=30) != victim


async def test_signals_to_the_group_are_left_to_the_worker(executor: ProcessExecutor) -> None:
    """A service manager tells all processes of a service to end; the worker drains, and needs this one for it."""
    process = await executor.run(call_of(handlers.pid), timeout=30)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(process, number)
        assert await executor.run(call_of(handlers.pid), timeout=30) == process


async def test_the_processes_end_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    program = """
        import asyncio, sys
        from pathlib import Path
        from support import process_handlers as handlers
        from support.executing import call_of, process_executor
        async def main():
            executor = process_executor(max_processes=2)
            pids = [await executor.run(call_of(handlers.pid), timeout=None)]
            busy = asyncio.create_task(executor.run(call_of(handlers.block), timeout=None))
            while not executor._busy: await asyncio.sleep(0.01)
            pids.append(await executor.run(call_of(handlers.pid), timeout=None))
            print(*pids, flush=True)
            await busy
        asyncio.run(main())
    """
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=subprocess.PIPE, env=_environment()
    )
    assert worker.stdout is not None
    pids = [int(word) for word in (await asyncio.wait_for(worker.stdout.readline(), 30)).split()]
    assert len(set(pids)) == 2
    worker.kill()
    await worker.wait()
    await eventually(lambda: not any(map(is_alive, pids)), 10, "a process has outlived its worker")


# Replacing


async def test_a_process_is_replaced_after_so_many_jobs() -> None:
    executor = process_executor(max_processes=1, max_jobs_per_process=3)
    pids = [await executor.run(call_of(handlers.pid), timeout=30) for _ in range(7)]
    assert pids == [pids[0]] * 3 + [pids[3]] * 3 + [pids[6]]
    assert len(set(pids)) == 3
    await executor.stop()


async def test_a_process_above_its_memory_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "taurine.jobs")
    executor = process_executor(max_processes=1, max_memory=300 * MIB)
    small = [await executor.run(call_of(handlers.hold_memory, MIB), timeout=30) for _ in range(3)]
    large = await executor.run(call_of(handlers.hold_memory, 300 * MIB), timeout=30)
    after = await executor.run(call_of(handlers.pid), timeout=30)
    assert {*small, large} == {large}
    assert after != large
    assert f"above max_memory={300 * MIB}" in caplog.text
    await executor.stop()


async def test_processes_are_bounded_and_made_when_needed() -> None:
    executor = process_executor(max_processes=2)
    await executor.start()
    assert len(executor.pids) == 1
    pids = await asyncio.gather(*(executor.run(call_of(handlers.pid), timeout=30) for _ in range(12)))
    assert 1 <= len(set(pids)) <= 2
    await executor.stop()
    assert executor.pids == []


async def test_stopping_hands_back_what_runs() -> None:
    executor = process_executor(max_processes=2, grace=0.1)
    context = RecordingContext()
    runs = [
        asyncio.create_task(executor.run(call_of(handler, None, context), timeout=None))
        for handler in (handlers.block, handlers.ignore_cancel)
    ]
    await eventually(lambda: context.noted("progress"), 30)
    await executor.stop()
    assert [type(outcome) for outcome in await asyncio.gather(*runs, return_exceptions=True)] == [Release, Release]
    with pytest.raises(Release):
        await executor.run(call_of(handlers.pid), timeout=None)
    await executor.stop()


async def test_stopping_while_a_process_starts_leaves_nothing() -> None:
    executor = process_executor(max_processes=1)
    for steps in (1, 2, 3, 5, 8, 13, 40):
        await executor.stop()
        executor._stopping = False
        run = asyncio.create_task(executor.run(call_of(handlers.pid), timeout=None))
        for _ in range(steps):
            await asyncio.sleep(0)
        await executor.stop()
        assert not executor._burials
        with pytest.raises(Release):
            await asyncio.wait_for(run, 5)


async def test_a_run_cancelled_while_its_process_starts_leaves_nothing() -> None:
    executor = process_executor(max_processes=1)
    for steps in (1, 2, 3, 5, 8, 13, 40):
        run = asyncio.create_task(executor.run(call_of(handlers.pid), timeout=None))
        for _ in range(steps):
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    await executor.stop()


# Finding the handler


def test_what_cannot_be_found_is_refused_when_it_is_declared() -> None:
    def inner(_: Any) -> None: ...

    with pytest.raises(InvalidOption, match="it is a lambda"):
        check_named(lambda _: None)
    with pytest.raises(InvalidOption, match="defined inside a function"):
        check_named(inner)
    with pytest.raises(InvalidOption, match="it has no name"):
        check_named(functools.partial(handlers.exit_hard, 1))


def test_what_stands_under_another_name_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(check_importable(handlers.pid)) == "support.process_handlers:pid"
    assert check_importable(handlers.declared.__wrapped__).unwrap == 1
    found = handlers.pid
    monkeypatch.setattr(handlers, "pid", handlers.double)
    with pytest.raises(InvalidOption, match="another object stands there"):
        check_importable(found)
    monkeypatch.delattr(handlers, "pid")
    with pytest.raises(InvalidOption, match="has no attribute 'pid'"):
        check_importable(found)


async def test_what_cannot_be_imported_there_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that the worker has and its processes have not."""
    monkeypatch.setenv("TAURINE_TEST_IMPORTS", "1")
    from support import broken_import

    monkeypatch.delenv("TAURINE_TEST_IMPORTS")
    executor = process_executor(handlers=[broken_import.handler], max_processes=1)
    with pytest.raises(WorkerProcessNotStarted, match="RuntimeError: this library is not installed here") as raised:
        await executor.start()
    assert "broken_import.py" in raised.value.__notes__[0]
    with pytest.raises(WorkerProcessNotStarted):
        await executor.run(call_of(broken_import.handler), timeout=30)
    monkeypatch.setenv("TAURINE_TEST_IMPORTS", "1")
    assert await executor.run(call_of(broken_import.handler), timeout=30) is None
    await executor.stop()


async def test_a_process_that_takes_too_long_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = process_executor(max_processes=1, start_timeout=0.001)
    with pytest.raises(WorkerProcessNotStarted, match=r"not ready after 0\.001 s"):
        await executor.start()
    await executor.stop()


@pytest.mark.parametrize("as_module", [False, True])
async def test_handlers_of_the_main_file(tmp_path: Path, as_module: bool) -> None:
    """A script's own functions run in a process, where its guard keeps it from doing its work again."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, os, sys
        from support.executing import call_of, process_executor
        from support.process_handlers import pid
        CONSTANT = 42
        def work(payload):
            return [payload, CONSTANT, os.getpid()]
        async def main():
            executor = process_executor(max_processes=1, handlers=[work] if "declared" in sys.argv else [])
            other = await executor.run(call_of(pid), timeout=30)
            value, constant, own = await executor.run(call_of(work, "p"), timeout=30)
            await executor.stop()
            print(value, constant, own == other, own != os.getpid())
        if __name__ == "__main__":
            asyncio.run(main())
        """)
    )
    for arguments in (["declared"], []):
        command = ["-m", "script"] if as_module else [str(script)]
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, *command, *arguments], env=_environment(), cwd=tmp_path,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout == "p 42 True True\n", done.stderr


def test_code_without_a_file_says_so() -> None:
    program = "from taurine.jobs.executors import check_importable\ndef work(_): pass\ncheck_importable(work)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert "no file holds its code; put it into a module" in done.stderr


def test_a_message_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taurine.jobs.executors.frames.MAX_FRAME", 10)
    with pytest.raises(PayloadError, match="does not go between processes"):
        encode_frame({"type": "notify"})


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
