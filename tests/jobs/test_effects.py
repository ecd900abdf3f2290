"""`ctx.once`: an effect happens once, whatever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.executed import Task, charge_once
from support.programs import Program, run_worker
from taurine.app import Taurine
from taurine.errors import JobFailed
from taurine.jobs.handler.context import Context
from taurine.retry import Fixed, Retry

QUICK = Retry(attempts=10, backoff=Fixed(0.02))


def charges(path: Path) -> int:
    return path.read_text().splitlines().count("charged")


async def test_a_later_attempt_gets_the_stored_result(app: Taurine) -> None:
    """SEED-033, SEED-037, SEED-046, SEED-131."""
    charged: list[int] = []

    async def charge(amount: int) -> dict[str, int]:
        charged.append(amount)
        return {"receipt": len(charged)}

    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    async def task(_: Task, ctx: Context) -> dict[str, int]:
        receipt = await ctx.once("charge:42", charge, 12)
        if ctx.attempt < 3:
            raise ConnectionError("after the charge")
        return receipt

    handle = await task.enqueue(Task())
    async with app.worker():
        assert await handle.result(timeout=10) == {"receipt": 1}
    assert charged == [12]


async def test_keys_are_the_tenants_own(app: Taurine) -> None:
    charged: list[str] = []

    @app.job("ticket.triage", queue="tasks", tenant="{tenant_id}")
    async def task(task: Task, ctx: Context) -> None:
        await ctx.once("charge:1", lambda: charged.append(task.tenant_id))

    handles = [await task.enqueue(Task(tenant_id=tenant)) for tenant in ("acme", "globex", "acme")]
    async with app.worker():
        await asyncio.gather(*(handle.result(timeout=10) for handle in handles))
    assert sorted(charged) == ["acme", "globex"]


async def test_of_two_at_once_one_does_it_and_the_other_gets_its_result(app: Taurine) -> None:
    """SEED-035, SEED-258: the loser is tried again and finds it done."""
    charged: list[int] = []
    starts = 0

    async def charge() -> str:
        charged.append(1)
        await eventually(lambda: starts > 10, 30, "nobody was tried again meanwhile")
        return "receipt"

    # As often as it takes: the winner may have to wait for its disk.
    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=1000, backoff=Fixed(0.02)))
    async def task(_: Task, ctx: Context) -> str:
        nonlocal starts
        starts += 1
        return await ctx.once("charge:1", charge)

    handles = [await task.enqueue(Task(number=number)) for number in range(10)]
    async with app.worker(concurrency=10):
        results = await asyncio.gather(*(handle.result(timeout=30) for handle in handles))
    assert results == ["receipt"] * 10
    assert charged == [1]


class Declined(Exception):
    """An error of which only the application knows that nothing happened."""


class Refused(Exception):
    status_code = 429


@pytest.mark.parametrize("error", [ConnectionRefusedError(), Refused(), Declined()])
@pytest.mark.parametrize("runs_in", ["loop", "thread"])
async def test_an_error_that_proves_that_nothing_happened_frees_the_key(
    app: Taurine, error: Exception, runs_in: str
) -> None:
    tries: list[int] = []

    def charge() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise error
        return "receipt"

    if runs_in == "loop":

        @app.job("ticket.triage", queue="tasks", retry=QUICK)
        async def task(_: Task, ctx: Context) -> str:
            return await ctx.once("charge:1", charge, not_done=(Declined,))
    else:

        @app.job("ticket.triage", queue="tasks", retry=QUICK)
        def task(_: Task, ctx: Context) -> str:
            return ctx.once_sync("charge:1", charge, not_done=(Declined,))

    handle = await task.enqueue(Task())
    async with app.worker():
        assert await handle.result(timeout=10) == "receipt"
    assert len(tries) == 2


@pytest.mark.parametrize("error", [ValueError("the answer has no id"), OSError(113, "no route"), Declined()])
async def test_an_error_that_proves_nothing_leaves_the_intent(app: Taurine, error: Exception) -> None:
    """SEED-236: the card may have been charged before the error came up."""
    charged: list[int] = []

    def charge() -> None:
        charged.append(1)
        raise error

    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    async def task(_: Task, ctx: Context) -> None:
        await ctx.once("charge:1", charge)

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="ended before it said whether it did"):
            await handle.result(timeout=10)
    assert charged == [1]


async def test_a_time_out_of_the_provider_is_not_taken_for_nothing_happened(app: Taurine) -> None:
    """SEED-236, SEED-257: the card may have been charged, so nobody charges it again without a look."""
    charged: list[int] = []

    async def charge() -> str:
        charged.append(1)
        raise TimeoutError("no answer from the provider")

    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    async def blind(_: Task, ctx: Context) -> str:
        return await ctx.once("charge:1", charge)

    @app.job("ticket.refund", queue="tasks", retry=QUICK)
    async def seeing(_: Task, ctx: Context) -> str:
        return await ctx.once("charge:2", charge, look_up=lambda: "found at the provider")

    async with app.worker():
        with pytest.raises(JobFailed, match="ended before it said whether it did"):
            await (await blind.enqueue(Task())).result(timeout=10)
        assert await (await seeing.enqueue(Task())).result(timeout=10) == "found at the provider"
    assert charged == [1, 1]


async def test_what_was_cut_off_is_not_known_and_not_repeated(app: Taurine) -> None:
    """SEED-236: a time limit in the middle of the call."""
    tries: list[int] = []

    async def charge() -> None:
        tries.append(1)
        await asyncio.Event().wait()

    @app.job("ticket.triage", queue="tasks", timeout=0.1, retry=QUICK)
    async def task(_: Task, ctx: Context) -> None:
        await ctx.once("charge:1", charge)

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed, match="look_up"):
            await handle.result(timeout=10)
    assert len(tries) == 1
    assert (await handle.record()).attempts == 2, "the question answers itself at no later attempt"


async def test_a_killed_worker_leaves_unknown_and_nobody_charges_again(
    app: Taurine, worker_program: Callable[..., Program], tmp_path: Path
) -> None:
    """SEED-034, SEED-236, SEED-257: kill -9 between the effect and its result."""
    task, path = run_worker.declare(app, "effect"), tmp_path / "notes"
    handle = await task.enqueue(Task(path=str(path)))
    await worker_program("kill in effect").died()
    async with app.worker(stalled_interval=0.2, lease=0.6):
        with pytest.raises(JobFailed, match="ended before it said"):
            await handle.result(timeout=30)
    assert charges(path) == 1


async def test_after_a_kill_the_look_up_finds_out(
    app: Taurine, worker_program: Callable[..., Program], tmp_path: Path
) -> None:
    """SEED-236, SEED-257."""
    task, path = run_worker.declare(app, "look up"), tmp_path / "notes"
    handle = await task.enqueue(Task(path=str(path)))
    await worker_program("kill in effect").died()
    async with app.worker(stalled_interval=0.2, lease=0.6):
        assert await handle.result(timeout=30) == "found receipt"
    assert charges(path) == 1


async def test_a_look_up_that_finds_nothing_lets_it_be_done(app: Taurine) -> None:
    tries: list[int] = []

    async def charge() -> str:
        tries.append(1)
        if len(tries) == 1:
            await asyncio.Event().wait()
        return "receipt"

    @app.job("ticket.triage", queue="tasks", timeout=0.2, retry=QUICK)
    async def task(_: Task, ctx: Context) -> str:
        return await ctx.once("charge:1", charge, look_up=lambda: None)

    handle = await task.enqueue(Task())
    async with app.worker():
        assert await handle.result(timeout=10) == "receipt"
    assert len(tries) == 2


async def test_in_a_thread(app: Taurine, tmp_path: Path) -> None:
    """`once_sync`: the function runs in the handler's own thread."""
    tries: list[int] = []

    @app.job("ticket.triage", queue="tasks", retry=QUICK)
    def task(task: Task, ctx: Context) -> Any:
        result = charge_once(task, ctx)
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("after the charge")
        return result

    path = tmp_path / "notes"
    handle = await task.enqueue(Task(path=str(path)))
    async with app.worker():
        assert await handle.result(timeout=10) == "receipt"
    assert charges(path) == 1


async def test_in_a_process(app: Taurine, tmp_path: Path) -> None:
    task = app.job("ticket.triage", queue="tasks", runs_in="process")(charge_once)
    path = tmp_path / "notes"
    handles = [await task.enqueue(Task(path=str(path))) for _ in range(2)]
    async with app.worker(concurrency=1):
        assert [await handle.result(timeout=20) for handle in handles] == ["receipt", "receipt"]
    assert charges(path) == 1


async def test_the_blocking_form_is_refused_on_the_event_loop_and_the_async_one_in_it(app: Taurine) -> None:
    async def charge() -> None: ...

    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def on_loop(_: Task, ctx: Context) -> None:
        ctx.once_sync("charge:1", lambda: None)

    @app.job("mail.send", queue="tasks", retry=Retry.NONE)
    def in_thread(_: Task, ctx: Context) -> None:
        ctx.once_sync("charge:2", charge)  # pyright: ignore[reportUnusedCoroutine] - what is tested

    wrong = [await on_loop.enqueue(Task()), await in_thread.enqueue(Task())]
    async with app.worker():
        for handle, message in zip(wrong, ("without _sync", "plain functions"), strict=True):
            with pytest.raises(JobFailed, match=message):
                await handle.result(timeout=10)
