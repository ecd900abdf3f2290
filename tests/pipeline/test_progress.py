"""Stages move the progress of the whole, each over its own stretch (SEED-047)."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from pipeline.desk import Heard
from taurine import Context, Pipeline, Stage
from taurine.jobs.handler.context import Context as WorkersContext
from taurine.jobs.handler.detached import DetachedContext
from taurine.jobs.handler.part import Part
from taurine.testing import TestClock

WEIGHTS = st.floats(min_value=1e-300, max_value=1.7e308, allow_nan=False)
TOLD = st.lists(st.tuples(st.floats(), st.none() | st.floats()), max_size=5)


@given(st.lists(st.tuples(WEIGHTS, TOLD), min_size=1, max_size=8))
def test_it_only_grows_from_0_to_1_whatever_the_weights_and_whatever_stages_tell(
    stages: list[tuple[float, list[tuple[float, float | None]]]],
) -> None:
    """SEED-047."""

    def stage(index: int, weight: float, told: list[tuple[float, float | None]]) -> Stage[int, int]:
        async def tell(number: int, ctx: Context) -> int:
            for done, total in told:
                await ctx.progress(done, total)
            return number

        return Stage(f"stage {index}", tell, weight=weight)

    ctx, heard = DetachedContext(), Heard()
    pipeline = Pipeline("numbers", [stage(index, *one) for index, one in enumerate(stages)], observers=[heard])
    asyncio.run(pipeline.run(1, ctx))

    shares = [told["share"] for told in ctx.told]
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert all(before <= after for before, after in pairwise(shares))
    progress = [event.progress for _, event in heard.events]
    assert all(before <= after for before, after in pairwise([0.0, *progress, 1.0]))
    assert progress[-1] == 1.0


async def test_weights_are_shares_and_a_stage_tells_of_its_own() -> None:
    """SEED-047."""

    async def count(number: int, ctx: Context) -> int:
        for _ in ctx.track(range(2)):
            pass
        return number

    async def rest(number: int) -> int:
        return number

    ctx = DetachedContext()
    await Pipeline("numbers", (Stage("count", count, weight=3), rest)).run(1, ctx)
    assert [(told["stage"], told["index"], told["count"], told["percentage"]) for told in ctx.told] == [
        ("count", 0, 2, 0),
        ("count", 0, 2, 38),
        ("count", 0, 2, 75),
        ("count", 0, 2, 75),
        ("rest", 1, 2, 75),
        ("rest", 1, 2, 100),
    ]
    assert [told["message"] for told in ctx.told[-2:]] == ["rest", "rest"]


async def test_durations_are_those_of_the_monotonic_clock_without_the_observers() -> None:
    clock = TestClock(start=1_000_000.0)

    class Slow(Heard):
        async def stage_started(self, event: Any) -> None:
            clock.advance(100)

    async def first(number: int) -> int:
        clock.advance(2.5)
        return number

    async def second(number: int) -> int:
        clock.advance(0.5)
        return number

    ctx, slow = DetachedContext(clock=clock), Slow()
    await Pipeline("numbers", (first, second), observers=[slow]).run(1, ctx)
    assert ctx.told[-1]["durations"] == {"first": 2.5, "second": 0.5}
    assert [event.seconds for _, event in slow.events] == [2.5, 0.5]
    assert [json.loads(line.fields or "")["seconds"] for line in ctx.lines] == [2.5, 0.5]


async def test_what_was_told_does_not_change_any_more() -> None:
    async def rest(number: int) -> int:
        return number

    ctx = DetachedContext()
    await Pipeline("numbers", (Stage("a", rest), Stage("b", rest))).run(1, ctx)
    assert [list(told["durations"]) for told in ctx.told] == [[], ["a"], ["a"], ["a", "b"]]


async def test_lines_carry_their_stage_and_only_theirs() -> None:
    """SEED-040."""

    async def talk(number: int, ctx: Context) -> int:
        ctx.log.info("talking", number=number)
        return number

    ctx = DetachedContext()
    ctx.log("before")
    await Pipeline("numbers", (talk,)).run(1, ctx)
    ctx.log("after")
    fields = [json.loads(line.fields or "{}") for line in ctx.lines]
    assert [one.get("stage") for one in fields] == [None, "talk", "talk", None]
    assert fields[1] == {"stage": "talk", "number": 1}


async def test_the_progress_of_a_handler_in_a_process_of_its_own_shows_the_stage_too() -> None:
    """What `ProcessContext` sends is what the worker's context shows."""
    there, here = DetachedContext(), DetachedContext()
    with there.within(Part(name="b", start=0.5, end=1.0, shown={"stage": "b"})):
        there.progress(1, 2, "half")
    cast(WorkersContext, here).notify("progress", json.loads(json.dumps(there.progress_told)))
    assert here.progress_value == there.progress_value
