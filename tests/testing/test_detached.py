"""A context that stands alone keeps what it is told, and `once` keeps its promises in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from taurine import Cancel, Context, EffectInProgress, EffectUnknown, InvalidOption, Release
from taurine.jobs.handler.effects import Ask
from taurine.ledger.database import Database, open_database
from taurine.ledger.effects import (
    EffectClaim,
    EffectState,
    begin_effect,
    finish_effect,
    forget_effect,
    resolve_effect,
    retake_effect,
)
from taurine.ledger.migrate import migrate
from taurine.testing import DetachedContext, MemoryEffects


async def test_what_a_handler_says_can_be_read() -> None:
    """SEED-076: a handler is tested alone, and what it tells is there."""
    context = DetachedContext(deps="mailer", tenant="acme", attempt=2, state={"cursor": 1})

    async def handle(ctx: Context) -> None:
        assert (ctx.deps, ctx.tenant, ctx.attempt, ctx.state) == ("mailer", "acme", 2, {"cursor": 1})
        for row in ctx.track(range(4)):
            ctx.state["cursor"] = row
        ctx.log.warning("done", password="secret")

    await handle(context)

    assert [told["done"] for told in context.told] == [1, 2, 3, 4]
    assert context.progress_value is not None
    assert context.progress_value["percentage"] == 100
    assert context.state == {"cursor": 3}
    assert context.saved_state == {"cursor": 1}, "nobody has saved since"
    assert [(line.level, line.message) for line in context.lines] == [("warning", "done")]
    assert "secret" not in str(context.lines)
    await context.save()
    assert context.saved_state == {"cursor": 3}


def test_it_can_be_told_to_stop() -> None:
    context = DetachedContext()
    assert not context.cancelled
    context.cancel("no longer needed")

    assert context.cancelled
    with pytest.raises(Cancel, match="no longer needed"):
        context.raise_if_cancelled()


async def test_an_operation_is_done_once_over_all_attempts() -> None:
    calls: list[int] = []

    async def charge(cents: int) -> str:
        calls.append(cents)
        return f"charge-{len(calls)}"

    first = DetachedContext()
    second = DetachedContext(attempt=2, effects=first.effects)
    await_first = await DetachedContext(effects=MemoryEffects()).once("c", charge, 1)
    assert (await_first, calls) == ("charge-1", [1])

    assert await second.once("charge:1", charge, 250) == "charge-2"
    assert await second.once("charge:1", charge, 250) == "charge-2"

    assert calls == [1, 250]
    assert second.effects.results == {"charge:1": "charge-2"}
    with pytest.raises(Release):
        await first.once("charge:2", charge, 250)


async def test_an_attempt_that_breaks_off_leaves_the_question_open() -> None:
    effects = MemoryEffects()

    def broken() -> None:
        raise TimeoutError("perhaps it got through")

    with pytest.raises(TimeoutError):
        await DetachedContext(effects=effects).once("k", broken)
    assert effects.unknown == ["k"]

    with pytest.raises(EffectUnknown):
        await DetachedContext(effects=effects).once("k", broken)
    assert await DetachedContext(effects=effects).once("k", broken, look_up=lambda: "it did") == "it did"
    assert effects.results == {"k": "it did"}


async def test_another_job_waits_while_the_first_is_at_it_and_asks_when_it_is_gone() -> None:
    effects = MemoryEffects()
    first, other = DetachedContext(job_id="a", effects=effects), DetachedContext(job_id="b", effects=effects)

    async def doing() -> str:
        with pytest.raises(EffectInProgress):
            await other.once("k", lambda: None)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await first.once("k", doing)
    first.ended = True
    with pytest.raises(EffectUnknown):
        await other.once("k", lambda: None)
    assert await other.once("k", lambda: "again", look_up=lambda: None) == "again"


async def test_the_sync_forms_are_refused_on_the_loop_as_in_a_worker() -> None:
    context = DetachedContext()
    with pytest.raises(InvalidOption, match="block the event loop"):
        context.once_sync("k", lambda: 1)
    with pytest.raises(InvalidOption, match="block the event loop"):
        context.save_sync()
    assert await asyncio.to_thread(context.once_sync, "k", lambda: 1) == 1


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = open_database(f"sqlite:///{tmp_path / 'taurine.db'}")
    await migrate(database)
    yield database
    await database.close()


@pytest.mark.parametrize("run", range(3))
async def test_effects_in_memory_answer_as_the_ledger_does(database: Database, seed: int, run: int) -> None:
    """Random steps of the attempts of one job that has no record, one after the other."""
    random, effects = Random(seed + run), MemoryEffects()
    seen: dict[str, tuple[EffectState, EffectState]] = {}
    job_id = f"job-{run}"
    context = DetachedContext(job_id=job_id, effects=effects)
    for _ in range(60):
        if random.random() < 0.2:
            context = DetachedContext(job_id=job_id, effects=effects)
        key = f"{run}-{random.choice('ab')}"
        step: Any = random.choice(["begin", "begin", "finish", "forget", "retake", "resolve"])
        looked_up = seen.get(key)
        if step in ("retake", "resolve") and looked_up is None:
            continue
        ask = Ask(step, key, '"done"', None if looked_up is None else looked_up[0])
        in_memory = effects.answer(context, ask)
        claim = EffectClaim("", key, job_id, context.fence)
        in_ledger = await database.write(_asked(claim, ask, None if looked_up is None else looked_up[1]))

        if isinstance(in_memory, EffectState):
            assert (in_memory.status, in_memory.result) == (in_ledger.status, in_ledger.result), ask
            if in_memory.status == "unknown":
                seen[key] = (in_memory, in_ledger)
        else:
            assert in_memory == in_ledger, ask


def _asked(claim: EffectClaim, ask: Ask, seen: EffectState | None) -> Callable[[Any], Any]:
    def work(connection: Any) -> Any:
        match ask.step:
            case "begin":
                return begin_effect(connection, claim, 1)
            case "finish":
                return finish_effect(connection, claim, 1, ask.result)
            case "forget":
                return forget_effect(connection, claim)
            case "retake":
                assert seen is not None
                return retake_effect(connection, claim, seen, 1)
            case "resolve":
                assert seen is not None
                return resolve_effect(connection, claim, seen, 1, ask.result)

    return work
