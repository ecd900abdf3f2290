"""A pipeline that is run right here, with no store, worker or application (SEED-048)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from functools import partial
from typing import Any

import pytest

from pipeline.desk import Loaded, Ticket, Triage, classify, load, route
from taurine import Cancel, CatalogError, Context, InvalidOption, Permanent, Pipeline, Stage
from taurine.errors import HandlerExited
from taurine.jobs.handler.detached import DetachedContext

TICKET = Ticket(number=7, summary="The INVOICE is wrong")


async def test_it_runs_without_any_store() -> None:
    """SEED-048."""
    triage = Pipeline("ticket-triage", [load, classify, route])
    assert await triage.run(TICKET) == "billing/7"


async def test_it_runs_again_and_beside_itself() -> None:
    triage = Pipeline("ticket-triage", (load, classify, route))
    tickets = [Ticket(number=number, summary="other") for number in range(20)]
    assert await asyncio.gather(*map(triage.run, tickets)) == [f"other/{number}" for number in range(20)]


async def test_stages_are_async_or_plain_with_the_context_or_without() -> None:
    threads: list[str] = []

    def double(number: int) -> int:
        threads.append(threading.current_thread().name)
        return number * 2

    def add(number: int, ctx: Context) -> int:
        threads.append(threading.current_thread().name)
        return number + ctx.attempt

    async def text(number: int, ctx: Context) -> str:
        threads.append(threading.current_thread().name)
        return f"{ctx.type} {number}"

    def later(word: str) -> Awaitable[str]:
        return asyncio.sleep(0, word.upper())

    assert await Pipeline("numbers", (double, add, text, later)).run(4) == "NUMBERS 9"
    assert [name == threading.main_thread().name for name in threads] == [False, False, True]


async def test_no_thread_outlives_its_run() -> None:
    def double(number: int) -> int:
        return number * 2

    pipeline = Pipeline("numbers", (double, route_number))
    before = set(threading.enumerate())
    assert await asyncio.gather(*map(pipeline.run, range(5))) == ["0", "2", "4", "6", "8"]
    assert set(threading.enumerate()) <= before


async def route_number(number: int) -> str:
    return str(number)


async def test_all_stages_share_the_context_that_is_given() -> None:
    async def first(number: int, ctx: Context) -> int:
        ctx.state["seen"] = [number]
        return number + 1

    def second(number: int, ctx: Context) -> int:
        ctx.state = {"seen": [*ctx.state["seen"], number]}
        return number

    ctx = DetachedContext(job_id="j-1")
    assert await Pipeline("numbers", (first, second)).run(1, ctx) == 2
    assert ctx.state == {"seen": [1, 2]}


async def test_an_error_is_the_one_that_the_stage_raised_with_a_note_that_names_it() -> None:
    async def refuse(loaded: Loaded) -> Triage:
        raise ConnectionError("the model is away")

    ctx = DetachedContext()
    with pytest.raises(ConnectionError) as caught:
        await Pipeline("ticket-triage", (load, refuse, route)).run(TICKET, ctx)
    assert str(caught.value) == "the model is away"
    assert caught.value.__notes__ == ["in stage 'refuse' (2 of 3) of pipeline 'ticket-triage'"]
    assert ctx.progress_value is not None
    assert ctx.progress_value["stage"] == "refuse"
    assert list(ctx.progress_value["durations"]) == ["load"]
    line = ctx.lines[-1]
    assert line.level == "warning"
    assert line.message.startswith("stage 'refuse' failed after ")
    assert line.message.endswith("ConnectionError: the model is away")


async def test_an_error_that_is_raised_again_and_again_has_its_note_once() -> None:
    error = Permanent("always")

    async def refuse(number: int) -> int:
        raise error

    for _ in range(3):
        with pytest.raises(Permanent):
            await Pipeline("numbers", (refuse,)).run(1)
    assert len(error.__notes__) == 1


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_stage_that_exits_does_not_take_the_process_with_it(kind: str) -> None:
    async def leave(number: int) -> int:
        raise SystemExit(3)

    def leave_plainly(number: int) -> int:
        raise SystemExit(3)

    with pytest.raises(HandlerExited, match=r"sys\.exit\(3\)"):
        await Pipeline("numbers", (leave if kind == "async" else leave_plainly,)).run(1)


async def test_cancellation_is_looked_at_between_stages() -> None:
    ran: list[str] = []

    ctx = DetachedContext()

    async def first(number: int) -> int:
        ran.append("first")
        ctx.cancel("no longer needed")
        return number

    async def second(number: int) -> int:
        ran.append("second")
        return number

    with pytest.raises(Cancel, match="no longer needed"):
        await Pipeline("numbers", (first, second)).run(1, ctx)
    assert ran == ["first"]


async def test_a_plain_stage_is_interrupted_when_its_run_is_cancelled() -> None:
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def count(number: int, ctx: Context) -> int:
        loop.call_soon_threadsafe(begun.set)
        try:
            while not ctx.cancelled:
                number += 1
        finally:
            ended.set()
        return number

    run = asyncio.create_task(Pipeline("numbers", (count,)).run(1))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ended.is_set()


async def test_a_pipeline_may_be_a_stage_of_another() -> None:
    async def half(number: int, ctx: Context) -> int:
        await ctx.progress(1, 2)
        return number

    inner = Pipeline("inner", (Stage("a", half), Stage("b", half)))
    outer = Pipeline("outer", (Stage("first", half), Stage("inner", inner.run)))
    ctx = DetachedContext()
    await outer.run(1, ctx)
    shares = [(told["stage"], told["share"]) for told in ctx.told]
    assert shares == [
        *[("first", 0.0), ("first", 0.25), ("first", 0.5)],
        *[("inner", 0.5), ("a", 0.5), ("a", 0.625), ("a", 0.75), ("b", 0.75), ("b", 0.875), ("b", 1.0), ("inner", 1.0)],
    ]


def test_stages_are_named_by_their_functions_or_by_a_stage() -> None:
    def add(more: int, number: int) -> int:
        return number + more

    pipeline = Pipeline("numbers", [partial(add, 1), Stage("add two", partial(add, 2), weight=2)])
    assert [stage.name for stage in pipeline.stages] == ["add", "add two"]
    assert repr(pipeline) == "Pipeline('numbers', ['add', 'add two'])"


def _numbers(number: int):
    yield number


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "pipeline 'p': expected at least one stage"),
        ([load, load], "pipeline 'p': two stages are called 'load'; name one of them with Stage"),
        ([lambda number: number], "to have a name; write Stage"),
        ([3], "expected a stage to be a function of a value, got 3"),
        ([_numbers], "pipeline 'p', stage '_numbers': the handler _numbers is a generator"),
        ([Stage("untyped", lambda number: number)], "to say what type its payload 'number' is"),
    ],
)
def test_what_is_no_pipeline_is_refused(stages: list[Any], message: str) -> None:
    with pytest.raises(CatalogError) as caught:
        Pipeline("p", stages)
    assert message in str(caught.value)


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(InvalidOption, match="weight of stage 'load' to be above 0"):
        Stage("load", load, weight=weight)


@pytest.mark.parametrize("name", ["", "a\nb"])
def test_names_are_printable(name: str) -> None:
    with pytest.raises(InvalidOption, match="printable"):
        Pipeline(name, [load])
    with pytest.raises(InvalidOption, match="printable"):
        Stage(name, load)
