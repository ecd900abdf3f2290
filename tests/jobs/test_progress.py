"""Progress and saved state: monotone, clamped, cheap, and given to the next attempt (A18)."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, event

from support.eventually import eventually
from support.executed import Task
from support.programs import Program, run_worker
from taurine.app import Taurine
from taurine.clock import SystemClock
from taurine.jobs.handler.context import Context
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.runtime.attendant import Attendant
from taurine.jobs.runtime.saving import Saver
from taurine.queue import Queue
from taurine.retry import Fixed, Retry


class NoSignal:
    cancel_reason: str | None = None


@pytest.fixture
def make_context() -> Callable[..., Context]:
    """A context with nothing behind it."""

    def make(**members: Any) -> Context:
        usual: dict[str, Any] = {
            "job_id": "j",
            "type": "t",
            "queue": "q",
            "attempt": 1,
            "max_attempts": 1,
            "tenant": None,
            "created_at_ms": 0,
            "scheduled_for_ms": None,
            "deadline_ms": None,
            "user": None,
            "trace": None,
            "deps": None,
            "fence": 1,
            "state": None,
            "progress": None,
            "backing": None,
            "signal": NoSignal(),
            "redact": Redact.NONE,
            "clock": SystemClock(),
        }
        return Context(**{**usual, **members})

    return make


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every SQL statement of this process."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        pytest.param([(1, 3)], (1, 3, 33), id="SEED-148 rounds down"),
        pytest.param([(2, 3)], (2, 3, 67), id="SEED-148 rounds up"),
        pytest.param([(1, 200)], (1, 200, 1), id="SEED-148 a half rounds up"),
        pytest.param([(0, 0)], (0, 0, 100), id="SEED-148 a total of zero is done"),
        pytest.param([(5, 4)], (4, 4, 100), id="SEED-265 above the total"),
        pytest.param([(50, 100), (20, 100)], (50, 100, 50), id="SEED-265 going back"),
        pytest.param([(50, 100), (60, 200)], (50, 200, 50), id="SEED-265 a total that grows"),
        pytest.param([(50, 100), (60, 60)], (60, 60, 100), id="SEED-265 a total that shrinks"),
        pytest.param([(0.5, None)], (0.5, None, 50), id="a share"),
        pytest.param([(-3, 10)], (0, 10, 0), id="below zero"),
        pytest.param([(math.nan, 10)], (0, 10, 0), id="no number"),
        pytest.param([(5, math.inf)], (5, None, 0), id="an endless total"),
    ],
)
def test_what_is_shown(make_context: Callable[..., Context], told: list[Any], shown: tuple[Any, ...]) -> None:
    context = make_context()
    for done, total in told:
        context.progress(done, total)
    value = context.progress_value
    assert value is not None
    assert (value["done"], value["total"], value["percentage"]) == shown
    json.dumps(value, allow_nan=False)


def test_whatever_is_told_it_never_goes_back_and_never_leaves_the_range(
    make_context: Callable[..., Context], seed: int
) -> None:
    """SEED-265."""
    random, context, before = Random(seed), make_context(), 0.0
    for _ in range(2000):
        context.progress(random.uniform(-5, 50), random.choice([None, 0, random.uniform(0, 40)]))
        value = context.progress_value
        assert value is not None
        assert before <= value["share"] <= 1
        before = value["share"]


def test_a_later_attempt_goes_on_from_the_progress_of_the_earlier_one(make_context: Callable[..., Context]) -> None:
    first = make_context()
    first.progress(50, 100, "half")
    second = make_context(progress=json.dumps(first.progress_value))
    second.progress(10, 100)
    value = second.progress_value
    assert value is not None
    assert (value["percentage"], value["message"]) == (50, "half")


async def test_a_thousand_reports_cost_a_few_statements_and_the_last_one_counts(
    app: Taurine, statements: list[str], prefix: str, redis_socket_url: str
) -> None:
    """Writes are coalesced; the record and the queue, for BullMQ's dashboards, show the end."""

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> None:
        for number in range(1, 1001):
            await ctx.progress(number, 1000)

    handle = await task.enqueue(Task())
    async with app.worker():
        statements.clear()
        await handle.result(timeout=10)
    record = await handle.record()
    assert record.progress["percentage"] == 100
    assert len([statement for statement in statements if "progress" in statement and "UPDATE" in statement]) < 10
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue:
        job = await queue.get_job(handle.id)
        assert job is not None
        assert job.progress["done"] == 1000


async def test_what_a_pass_costs_does_not_grow_with_the_jobs_that_run(app: Taurine, statements: list[str]) -> None:
    """With 1,000 jobs that have nothing new, a pass is two queries (500 ids each) and no write."""
    go = asyncio.Event()

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> None:
        await go.wait()

    handles = await task.enqueue_many([Task(number=number) for number in range(1000)])
    worker = app.worker(concurrency=1000)
    attendant: Attendant = worker._attendant
    async with worker:

        def all_shown() -> bool:
            return len(attendant._runs) == 1000 and all(run.shown for run in attendant._runs)

        await eventually(all_shown, 60, "not all jobs are shown as running")
        backend = app._backend()
        for service in (
            *worker._services,
            backend.outbox,
        ):  # a pass of theirs, or of a stamp that is late, would be counted too
            await service.stop()
        await backend.group.close()
        statements.clear()
        assert await attendant.run_once() == 1000
        mine = [statement for statement in statements if "cancel_requested_at" in statement or "UPDATE" in statement]
        assert len(mine) == 2
        go.set()
        await handles[-1].result(timeout=60)


async def test_a_retry_goes_on_where_the_failed_attempt_left_its_cursor(app: Taurine) -> None:
    """SEED-146: counted first, in batches with a cursor; no item twice, none missing."""
    items: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=3, backoff=Fixed(0)))
    async def task(_: Task, ctx: Context) -> int:
        start = ctx.state.get("cursor", 0)
        for first in range(start, 100, 10):
            if first == 30 and ctx.attempt == 1:
                raise ConnectionError("in between")
            items.extend(range(first, first + 10))
            ctx.state["cursor"] = first + 10
            ctx.progress(first + 10, 100)
        return ctx.attempt

    handle = await task.enqueue(Task())
    async with app.worker():
        assert await handle.result(timeout=10) == 2
    assert items == list(range(100))


async def test_a_state_that_is_no_json_does_not_fail_the_job_but_saving_it_does(app: Taurine) -> None:
    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(_: Task, ctx: Context) -> str:
        ctx.state["client"] = object()
        try:
            await ctx.save()
        except ValueError as error:
            return str(error)
        return "saved"

    handle = await task.enqueue(Task())
    async with app.worker():
        assert "ctx.state cannot be stored as JSON" in await handle.result(timeout=10)


async def test_nothing_is_forgotten_while_the_ledger_is_away(
    app: Taurine, make_context: Callable[..., Context]
) -> None:
    """What could not be saved is saved by the next pass."""

    class Away:
        async def submit(self, *_: object) -> Any:
            raise ConnectionError("away")

    context = make_context()
    context.progress(1, 2)
    context.state["cursor"] = 1
    context.log("a line")
    saver = Saver(group=Away(), clock=SystemClock())  # pyright: ignore[reportArgumentType] - a group that only fails
    for save in (saver.save_progress, saver.save_lines):
        with pytest.raises(ConnectionError):
            await save(context)
    assert context.progress_changed
    assert context.changed_state() == '{"cursor":1}'
    assert [line.message for line in context.lines] == ["a line"]


async def test_a_line_that_is_being_saved_as_its_attempt_ends_is_stored_once(
    app: Taurine, make_context: Callable[..., Context]
) -> None:
    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task) -> None: ...

    handle = await task.enqueue(Task())
    context, group = make_context(job_id=handle.id), app._backend().group
    saver = Saver(group=group, clock=SystemClock())
    context.log("a line")

    saving = asyncio.create_task(saver.save_lines(context))
    await asyncio.sleep(0)  # its commit is under way
    context.log("the last one")
    saver.post_lines(context)
    await saving
    await group.close()

    assert [line.message for line in await app.logs(handle.id)] == ["a line", "the last one"]


async def test_lines_that_could_not_be_saved_stand_before_later_ones_and_are_no_more_than_may_wait(
    make_context: Callable[..., Context],
) -> None:
    context = make_context()

    class Away:
        async def submit(self, *_: object) -> Any:
            for number in range(10):
                context.log(f"later {number}")
            raise ConnectionError("away")

    for number in range(995):
        context.log(f"{number}")
    saver = Saver(group=Away(), clock=SystemClock())  # pyright: ignore[reportArgumentType] - a group that only fails
    with pytest.raises(ConnectionError):
        await saver.save_lines(context)

    assert [line.message for line in context.lines[-7:]] == ["993", "994", *(f"later {number}" for number in range(5))]
    assert len(context.lines) == 1000


async def test_after_a_kill_no_batch_is_missing_and_none_is_done_twice(
    app: Taurine, worker_program: Callable[..., Program], tmp_path: Path
) -> None:
    """SEED-146 with kill -9 in the middle: the cursor was saved, and the batch that was cut off is guarded by once."""
    task, path = run_worker.declare(app, "batches"), tmp_path / "notes"
    handle = await task.enqueue(Task(path=str(path)))
    await worker_program("dying batches").died()
    async with app.worker(stalled_interval=0.2, lease=0.6):
        await handle.result(timeout=30)
    items = [line for line in path.read_text().splitlines() if line.startswith("item")]
    assert items == [f"item {number}" for number in range(50)]
    assert (await handle.record()).progress["percentage"] == 100
