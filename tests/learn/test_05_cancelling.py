"""Lesson 5: a job is cancelled by its id, from any process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.eventually import eventually
from taurine import Context, JobCancelled, JobHandle, Taurine


async def until_running(handle: JobHandle[Any]) -> None:
    async def runs() -> bool:
        return (await handle.record()).status == "running"

    await eventually(runs, 10, "it did not start")


async def test_what_has_not_started_never_will(app: Taurine) -> None:
    ran: list[int] = []

    @app.job("export.run")
    async def export(rows: int) -> None:
        ran.append(rows)

    handle = await export.enqueue(1)
    await app.cancel(handle.id, reason="no longer needed", user="ada")
    async with app.worker():
        await (await export.enqueue(2)).result(timeout=10)

    record = await handle.record()
    assert (record.status, ran) == ("cancelled", [2])
    assert [(entry.actor, entry.action) for entry in await app.audit(handle.id)] == [("ada", "cancel")]


async def test_a_running_job_hears_of_it_and_may_leave_what_it_has(app: Taurine) -> None:
    @app.job("export.run")
    async def export(rows: int, ctx: Context) -> dict[str, bool]:
        while not ctx.cancelled:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:  # the other way to hear of it, in the middle of an await
                break
        return {"partial": True}

    async with app.worker():
        handle = await export.enqueue(1_000_000)
        await until_running(handle)
        await handle.cancel(reason="too slow")
        with pytest.raises(JobCancelled, match="too slow"):
            await handle.result(timeout=10)

    record = await handle.record()
    assert (record.status, record.output) == ("cancelled", {"partial": True})


async def test_a_thread_is_told_as_well(app: Taurine) -> None:
    @app.job("export.run")
    def export(rows: int, ctx: Context) -> None:
        while True:
            ctx.raise_if_cancelled()

    async with app.worker():
        handle = await export.enqueue(1)

        await until_running(handle)
        await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(timeout=10)
