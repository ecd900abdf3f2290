"""Workers that end by signals: `Worker.run(handle_signals=True)`, in processes of their own (BMQ-081)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import taurine
from support.eventually import eventually
from support.site import Site
from taurine.errors import InvalidOption
from taurine.queue import Job, Worker
from taurine.queue.signals import stopped_by_signals

SOURCE = Path(taurine.__file__).parents[1]

PROGRAM = """
import asyncio, sys
from taurine.queue import Worker

async def handler(job):
    print("started", flush=True)
    await asyncio.sleep(job.data["takes"])
    return "done"

async def main(url, prefix, *queues):
    workers = [Worker(queue, handler, url, prefix=prefix) for queue in queues]
    await asyncio.gather(*(worker.run(handle_signals=True) for worker in workers))
    print("ended", len(asyncio.all_tasks()), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def program(site: Site, *queues: str) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", PROGRAM, site.url, site.keys.prefix, *queues,
        stdout=PIPE, env={"PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_lets_running_jobs_end(site: Site, number: signal.Signals) -> None:
    job = await site.queue.add("work", {"takes": 0.5})
    async with program(site, "q") as process:
        assert await line(process) == "started"
        process.send_signal(number)
        assert await line(process) == "ended 1"
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert await job.wait(timeout=1) == "done"


class Stopped:
    """A worker that is told to stop."""

    def __init__(self) -> None:
        self.graces: list[float | None] = []

    async def stop(self, *, grace: Any = None) -> None:
        self.graces.append(grace)


async def test_only_the_second_signal_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A deployment, Ctrl-C and each reload send one: nothing to be warned of."""
    worker = Stopped()
    with caplog.at_level(logging.INFO, "taurine.queue"):
        async with stopped_by_signals(worker, "q"):
            for number, which in enumerate((signal.SIGTERM, signal.SIGINT), 1):
                signal.raise_signal(which)
                await eventually(lambda number=number: len(worker.graces) == number)
    assert [line.levelname for line in caplog.records] == ["INFO", "WARNING"]
    assert worker.graces == [None, 0]


async def test_a_second_signal_hands_running_jobs_back(site: Site) -> None:
    job = await site.queue.add("work", {"takes": 3_600})
    async with program(site, "q") as process:
        assert await line(process) == "started"
        process.send_signal(signal.SIGTERM)
        # Two that come at once may be delivered as one; of different kind they cannot be.
        process.send_signal(signal.SIGINT)
        assert await line(process) == "ended 1"
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert await job.state() == "waiting"
    assert (await site.hash(job.id)).get("atm", "0") == "0", "no attempt is charged"


async def test_a_signal_reaches_all_workers_of_the_process(site: Site) -> None:
    other = Site("other", site.keys.prefix, site.url, site.raw)
    for each in (site, other):
        await each.queue.add("work", {"takes": 0.2})
    async with program(site, "q", "other") as process:
        assert [await line(process) for _ in range(2)] == ["started"] * 2
        process.send_signal(signal.SIGTERM)
        assert await line(process) == "ended 1"
        assert await asyncio.wait_for(process.wait(), 20) == 0
    await other.close()


async def idle(_: Job) -> None:
    pass


async def test_afterwards_signals_do_what_they_did_before(site: Site) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        worker = site.worker(idle)
        run = asyncio.create_task(worker.run(handle_signals=True))
        await eventually(lambda: signal.getsignal(signal.SIGTERM) is not mine)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(run, 20)
        assert heard == [], "while it runs, the signal only stops it"
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_worker_without_the_option_leaves_signals_alone(site: Site) -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before = handlers()
    async with site.working(idle):
        await site.queue.add("work")
        await site.until(completed=1)
        assert handlers() == before


async def test_outside_the_main_thread_it_is_refused(prefix: str, redis_socket_url: str) -> None:
    worker = Worker("q", idle, redis_socket_url, prefix=prefix)
    with pytest.raises(InvalidOption, match=r"main thread, got the thread '.+'; .+stop\(\)"):
        await asyncio.to_thread(lambda: asyncio.run(worker.run(handle_signals=True)))
