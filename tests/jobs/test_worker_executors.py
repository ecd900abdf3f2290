"""One worker whose handlers run on the loop, in threads and in processes, by what each job type declares."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from support.eventually import eventually
from support.process_handlers import hold_memory, pid
from taurine.app import Taurine


class Piece(BaseModel):
    number: int


async def test_each_handler_runs_where_its_type_says(app: Taurine) -> None:
    """SEED-165: what computes does not keep what waits from running."""

    @app.job("piece.fetch", queue="pieces")
    async def fetch(piece: Piece) -> str:
        return threading.current_thread().name

    @app.job("piece.read", queue="pieces")
    def read(piece: Piece) -> str:
        return threading.current_thread().name

    compute = app.job("piece.compute", queue="pieces", runs_in="process")(pid)
    async with app.worker():
        names = [await (await job.enqueue(Piece(number=1))).result(timeout=30) for job in (fetch, read)]
        process = await (await compute.enqueue(None)).result(timeout=60)
    assert names[0] == threading.main_thread().name
    assert names[1].startswith("taurine-job-")
    assert process != os.getpid()


@pytest.mark.parametrize(
    ("options", "processes"), [({}, 1), ({"max_jobs_per_process": 1}, 3), ({"max_jobs_per_process": 2}, 2)]
)
async def test_processes_are_replaced_after_so_many_jobs(app: Taurine, options: Any, processes: int) -> None:
    compute = app.job("piece.compute", queue="pieces", runs_in="process")(pid)
    async with app.worker(concurrency=1, **options):
        pids = [await (await compute.enqueue(number)).result(timeout=60) for number in range(3)]
    assert len(set(pids)) == processes


async def test_processes_are_replaced_above_so_much_memory(app: Taurine) -> None:
    hold = app.job("piece.hold", queue="pieces", runs_in="process")(hold_memory)
    compute = app.job("piece.compute", queue="pieces", runs_in="process")(pid)
    async with app.worker(concurrency=1, max_memory=200 << 20):
        before = await (await compute.enqueue(None)).result(timeout=60)
        assert await (await hold.enqueue(1 << 20)).result(timeout=60) == before
        assert await (await compute.enqueue(None)).result(timeout=60) == before
        assert await (await hold.enqueue(300 << 20)).result(timeout=60) == before
        assert await (await compute.enqueue(None)).result(timeout=60) != before


async def test_threads_are_bounded_by_the_slots_alone(app: Taurine) -> None:
    """Slots may be raised at any time, and each of them can be a thread's."""
    go_on, running = threading.Event(), threading.Semaphore(0)

    @app.job("piece.read", queue="pieces")
    def read(piece: Piece) -> int:
        running.release()
        go_on.wait(60)
        return piece.number

    handles = await read.enqueue_many([Piece(number=number) for number in range(40)])
    try:
        async with app.worker(concurrency=2) as worker:
            await eventually(lambda: running._value == 2 or None, 30)
            worker.set_concurrency("pieces", 40)
            await eventually(lambda: running._value == 40 or None, 30, "fewer threads than slots")
            go_on.set()
            assert await asyncio.gather(*(handle.result(timeout=30) for handle in handles)) == list(range(40))
    finally:
        go_on.set()
