"""Lesson 3: a worker runs jobs, and whoever has the handle or the id gets the result."""

from __future__ import annotations

import asyncio

import pytest

from taurine import Context, JobFailed, Permanent, Taurine, WaitTimeout


async def test_a_result_comes_back_typed(app: Taurine) -> None:
    @app.job("number.square")
    async def square(number: int) -> int:
        return number * number

    async with app.worker():
        handle = await square.enqueue(12)
        assert await handle.result(timeout=10) == 144


async def test_a_plain_function_runs_in_a_thread(app: Taurine) -> None:
    @app.job("number.square")
    def square(number: int) -> int:
        return number * number

    async with app.worker():
        assert await (await square.enqueue(3)).result(timeout=10) == 9


async def test_the_record_has_what_became_of_it(app: Taurine) -> None:
    @app.job("number.square")
    async def square(number: int, ctx: Context) -> int:
        ctx.log.info("squaring")
        return number * number

    async with app.worker():
        handle = await square.enqueue(5)
        await handle.result(timeout=10)

    record = await app.get(handle.id)
    assert record is not None
    assert (record.status, record.output, record.attempts) == ("completed", 25, 1)
    assert [line.message for line in await app.logs(handle.id)] == ["squaring"]


async def test_a_failure_is_raised_where_the_result_is_asked_for(app: Taurine) -> None:
    @app.job("card.charge")
    async def charge(cents: int) -> None:
        raise Permanent("the card was declined")

    async with app.worker():
        handle = await charge.enqueue(250)
        with pytest.raises(JobFailed, match="declined"):
            await handle.result(timeout=10)


async def test_waiting_has_an_end_and_the_job_goes_on(app: Taurine) -> None:
    go = asyncio.Event()

    @app.job("report.build")
    async def build(pages: int) -> int:
        await go.wait()
        return pages

    async with app.worker():
        handle = await build.enqueue(7)
        with pytest.raises(WaitTimeout):
            await handle.result(timeout=0.05)
        go.set()
        assert await handle.result(timeout=10) == 7


async def test_what_handlers_need_is_handed_in(app: Taurine) -> None:
    """Clients and pools are the program's: `deps` of the application or of the worker, `ctx.deps` in the handler."""
    sent: list[str] = []

    @app.job("letter.send")
    async def send(address: str, ctx: Context) -> None:
        ctx.deps(address)

    async with app.worker(deps=sent.append):
        await (await send.enqueue("ada@example.com")).result(timeout=10)

    assert sent == ["ada@example.com"]
