"""Observers hear of every stage, and can neither break nor hold up the pipeline (SEED-238, SEED-239)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from pipeline.desk import Heard, Ticket, classify, load, route
from taurine import (
    Cancel,
    Context,
    InvalidOption,
    Pipeline,
    Snooze,
    StageEvent,
    StageFailure,
    StageObserver,
    StageProgress,
)
from taurine.jobs.handler.detached import DetachedContext

TICKET = Ticket(number=7, summary="The INVOICE is wrong")


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


async def test_each_stage_is_told_of_in_order() -> None:
    """SEED-238: start, progress, end."""

    async def weigh(ticket: Ticket, ctx: Context) -> Ticket:
        await ctx.progress(1, 4, "weighing")
        return ticket

    heard = Heard()
    await Pipeline("ticket-triage", (weigh, load, classify), observers=[heard]).run(TICKET)
    assert heard.story == [
        *["weigh started", "weigh progressed", "weigh completed"],
        *["load started", "load completed", "classify started", "classify completed"],
    ]
    told = heard.events[1][1]
    assert isinstance(told, StageProgress)
    assert (told.share, told.progress, told.message) == (0.25, 0.25 / 3, "weighing")


async def test_events_say_which_run_they_are_of() -> None:
    """SEED-239: the job's id and its trace context, for whoever writes traces."""
    heard = Heard()
    ctx = DetachedContext(job_id="triage:7", attempt=2, trace="00-abc-def-01")
    await Pipeline("ticket-triage", (load, classify), observers=[heard]).run(TICKET, ctx)
    assert {(e.pipeline, e.count, e.job_id, e.attempt, e.trace) for _, e in heard.events} == {
        ("ticket-triage", 2, "triage:7", 2, "00-abc-def-01")
    }
    assert [(event.stage, event.index) for _, event in heard.events] == [("load", 0)] * 2 + [("classify", 1)] * 2


async def test_a_failure_is_told_with_its_error() -> None:
    """SEED-238: error."""
    error = ConnectionError("the model is away")

    async def refuse(ticket: Ticket) -> Ticket:
        raise error

    heard = Heard()
    with pytest.raises(ConnectionError):
        await Pipeline("ticket-triage", (refuse, load), observers=[heard]).run(TICKET)
    assert heard.story == ["refuse started", "refuse failed"]
    failure = heard.events[-1][1]
    assert isinstance(failure, StageFailure)
    assert failure.error is error


@pytest.mark.parametrize("signal", [Snooze(5), Cancel("enough")])
async def test_a_stage_that_chooses_its_outcome_is_no_failure_in_the_log(signal: Exception) -> None:
    async def choose(ticket: Ticket) -> Ticket:
        raise signal

    heard, ctx = Heard(), DetachedContext()
    with pytest.raises(type(signal)):
        await Pipeline("ticket-triage", (choose,), observers=[heard]).run(TICKET, ctx)
    assert heard.story == ["choose started", "choose failed"]
    assert [line.level for line in ctx.lines] == ["info"]


async def test_a_stage_that_is_cut_off_is_told_of_too() -> None:
    begun = asyncio.Event()

    async def wait(ticket: Ticket) -> Ticket:
        begun.set()
        return await asyncio.get_running_loop().create_future()

    heard = Heard()
    run = asyncio.create_task(Pipeline("ticket-triage", (wait,), observers=[heard]).run(TICKET))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert heard.story == ["wait started", "wait failed"]


async def test_a_run_has_observers_of_its_own_after_those_of_the_pipeline() -> None:
    order: list[str] = []

    class Named(StageObserver):
        def __init__(self, name: str) -> None:
            self.name = name

        async def stage_started(self, event: StageEvent) -> None:
            order.append(self.name)

    pipeline = Pipeline("ticket-triage", (load,), observers=[Named("pipeline")])
    await pipeline.run(TICKET, observers=[Named("run")])
    await pipeline.run(TICKET)
    assert order == ["pipeline", "run", "pipeline"]


async def test_plain_methods_are_called_in_a_thread_so_that_they_may_block() -> None:
    loop_goes_on = threading.Event()

    class Blocking(StageObserver):
        blocked: bool | None = None

        def stage_started(self, event: StageEvent) -> None:
            self.blocked = not loop_goes_on.wait(10)

    observer = Blocking()
    asyncio.get_running_loop().call_later(0.01, loop_goes_on.set)
    await Pipeline("ticket-triage", (load,), observers=[observer], patience=20).run(TICKET)
    assert observer.blocked is False


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_one_that_raises_does_not_break_the_run_and_is_logged_once_for_each_stage(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """SEED-238."""

    class Broken(StageObserver):
        async def stage_started(self, event: StageEvent) -> None:
            raise RuntimeError("no metrics today")

        stage_completed = stage_started

    class BrokenPlainly(StageObserver):
        def stage_started(self, event: StageEvent) -> None:
            raise SystemExit(1)

        stage_completed = stage_started

    broken, heard = Broken() if kind == "async" else BrokenPlainly(), Heard()
    pipeline = Pipeline("ticket-triage", (load, classify, route), observers=[broken, heard])
    assert await pipeline.run(TICKET, DetachedContext(job_id="triage:7")) == "billing/7"
    assert len(heard.events) == 6
    assert [message.partition(" at stage ")[2] for message in errors_in(caplog)] == [
        f"{stage} of job triage:7; the job goes on" for stage in ("load", "classify", "route")
    ]
    assert all(record.__dict__["stage"] for record in caplog.records if record.levelname == "ERROR")


class _Hanging(StageObserver):
    """Waits for good, whatever is said to it."""

    def __init__(self) -> None:
        self.called = 0
        self.released = asyncio.Event()

    async def stage_started(self, event: StageEvent) -> None:
        self.called += 1
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                continue


class _HangingPlainly(StageObserver):
    def __init__(self) -> None:
        self.called = 0
        self.released = threading.Event()

    def stage_started(self, event: StageEvent) -> None:
        self.called += 1
        self.released.wait(60)


@pytest.mark.parametrize("make", [_Hanging, _HangingPlainly])
async def test_one_that_hangs_has_its_patience_once_and_hears_no_more_of_the_run(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """SEED-238."""
    hanging, heard = make(), Heard()
    pipeline = Pipeline("ticket-triage", (load, classify, route), observers=[hanging, heard], patience=0.05)
    async with asyncio.timeout(30):
        assert await pipeline.run(TICKET) == "billing/7"
    hanging.released.set()
    assert hanging.called == 1
    assert len(heard.events) == 6
    said = [message for message in errors_in(caplog) if "took longer than 0.05 s" in message]
    assert len(said) == 1


async def test_an_observer_that_cancels_itself_does_not_cancel_the_run(caplog: pytest.LogCaptureFixture) -> None:
    class Cancelling(StageObserver):
        async def stage_started(self, event: StageEvent) -> None:
            raise asyncio.CancelledError

    assert await Pipeline("ticket-triage", (load,), observers=[Cancelling()]).run(TICKET)
    assert "ended with CancelledError" in errors_in(caplog)[0]


async def test_a_stage_does_not_wait_for_who_hears_of_its_progress() -> None:
    """A tight loop in a thread tells a thousand times; the observer hears the last one, and only what it had time for."""
    first_heard, go_on = asyncio.Event(), asyncio.Event()

    class Slow(StageObserver):
        def __init__(self) -> None:
            self.shares: list[float] = []

        async def stage_progressed(self, event: StageProgress) -> None:
            self.shares.append(event.share)
            first_heard.set()
            await go_on.wait()

    def count(number: int, ctx: Context) -> int:
        for _ in ctx.track(range(1000)):
            pass
        return number

    async def release(number: int) -> int:
        return number

    slow = Slow()
    run = asyncio.create_task(Pipeline("numbers", (count, release), observers=[slow], patience=30).run(1))
    await first_heard.wait()
    go_on.set()
    await run
    assert slow.shares[-1] == 1.0
    assert slow.shares == sorted(slow.shares)
    assert len(slow.shares) < 1000


def test_what_is_no_observer_is_refused() -> None:
    class Half:
        def stage_started(self, event: StageEvent) -> None: ...

    with pytest.raises(InvalidOption, match="an observer with stage_progressed, stage_completed, stage_failed, got"):
        Pipeline("ticket-triage", [load], observers=[cast(StageObserver, Half())])
    with pytest.raises(InvalidOption, match="expected an observer with stage_started"):
        Pipeline("ticket-triage", [load], observers=[cast(StageObserver, Heard)])  # a class, not an object of it
