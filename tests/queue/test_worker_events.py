"""What a worker tells its own process, and that nothing breaks when nobody listens or a listener fails."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, get_args

import pytest

from support.eventually import eventually
from support.proxy import FaultProxy
from support.server import ValkeyServer
from support.site import Site
from taurine.errors import CorruptJob, InvalidOption, StoreUnavailable
from taurine.queue.job import Job
from taurine.queue.worker import Worker
from taurine.queue.worker_events import WorkerEvent, WorkerEvents
from taurine.testing import TestClock


class Diary:
    """Everything that a worker tells, in order."""

    def __init__(self, worker: Worker) -> None:
        self.entries: list[tuple[Any, ...]] = []
        for event in get_args(WorkerEvent):
            worker.on(event, lambda *arguments, event=event: self.entries.append((event, *arguments)))

    def of(self, event: WorkerEvent) -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in self.entries if entry[0] == event]

    @property
    def names(self) -> list[str]:
        return [entry[0] for entry in self.entries]


async def work(job: Job) -> str:
    if job.name == "fail":
        raise RuntimeError("as asked")
    return f"result of {job.id}"


async def test_a_workers_life_in_events_bmq_100(site: Site) -> None:
    worker = site.worker(work)
    diary = Diary(worker)
    async with site.running(worker):
        await eventually(lambda: diary.of("ready"))
        await site.queue.add("work")
        await eventually(lambda: diary.of("drained"))
        await worker.pause()
        worker.resume()

    assert diary.names == ["ready", "active", "completed", "drained", "paused", "resumed", "closing", "closed"]
    (((active,),), ((completed, result),)) = diary.of("active"), diary.of("completed")
    assert active is completed
    assert (completed.id, result, completed.result) == ("1", "result of 1", "result of 1")


async def test_each_failed_attempt_is_told_bmq_100(site: Site) -> None:
    worker = site.worker(work)
    diary = Diary(worker)
    await site.queue.add("fail", attempts=3)
    async with site.running(worker):
        await site.until(failed=1)
        await eventually(lambda: len(diary.of("failed")) == 3)

    assert [(job.id, str(error)) for job, error in diary.of("failed")] == [("1", "as asked")] * 3


async def test_a_job_that_cannot_be_decoded_is_told_with_what_is_corrupt_bmq_100(site: Site) -> None:
    worker = site.worker(work)
    diary = Diary(worker)
    await site.queue.add("work")
    await site.raw.hset(site.keys.job("1"), "data", "{no json")
    async with site.running(worker):
        await eventually(lambda: diary.of("failed"))

    ((job, error),) = diary.of("failed")
    assert "data" in job.corrupt
    assert isinstance(error, CorruptJob)


async def test_a_stalled_job_and_renewed_and_lost_leases_are_told_bmq_100(
    timed_site: Site, hand_clock: TestClock
) -> None:
    site = timed_site
    gate = asyncio.Event()

    async def held(job: Job) -> None:
        await gate.wait()

    await site.queue.add("work", job_id="w")
    gone = site.worker(None)
    assert await gone.fetch()
    await site.raw.delete(site.keys.lock("w"))
    await gone.recover_stalled()
    await site.raw.delete(site.keys.key("stalled-check"))

    worker = site.worker(held)
    diary = Diary(worker)
    async with site.running(worker):
        await eventually(lambda: diary.of("stalled"))
        await eventually(lambda: diary.of("active"))
        hand_clock.advance(11)
        await eventually(lambda: diary.of("leases_renewed"))
        await site.raw.set(site.keys.lock("w"), "another's", px=60_000)
        hand_clock.advance(11)
        await eventually(lambda: diary.of("lease_lost"))

    assert (diary.of("stalled"), diary.of("leases_renewed")) == ([("w",)], [(["w"],)])
    assert [job.id for (job,) in diary.of("lease_lost")] == ["w"]
    assert diary.of("failed") == []


async def test_progress_is_told_bmq_100(site: Site) -> None:
    async def handler(job: Job) -> None:
        await job.update_progress({"done": 5})

    worker = site.worker(handler)
    diary = Diary(worker)
    await site.queue.add("work", job_id="w")
    async with site.running(worker):
        await site.until(completed=1)

    ((job, value),) = diary.of("progress")
    assert (job.id, value) == ("w", {"done": 5})
    assert await site.raw.hget(site.keys.job("w"), "progress") == '{"done":5}'


async def test_an_outage_is_told_once_bmq_100(site: Site, valkey: ValkeyServer) -> None:
    gate = asyncio.Event()

    async def held(job: Job) -> None:
        await gate.wait()

    await site.queue.add("work")
    async with FaultProxy(valkey.socket) as proxy:
        worker = site.worker(held, proxy.url)
        diary = Diary(worker)
        async with site.running(worker):
            await eventually(lambda: worker.running)
            proxy.down()
            gate.set()
            await eventually(lambda: diary.of("error"))
            await proxy.heal()
            await site.until(completed=1)
            await eventually(lambda: diary.of("completed"))

    ((error,),) = diary.of("error")
    assert isinstance(error, StoreUnavailable)
    assert len(diary.of("ready")) == 1


async def test_an_outage_of_an_idle_workers_server_is_logged_bmq_101(
    site: Site, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with FaultProxy(valkey.socket) as proxy, site.working(work, proxy.url) as worker:
        ready = asyncio.Event()
        worker.on("ready", ready.set)
        await ready.wait()
        proxy.down()
        await eventually(lambda: "it goes on trying" in caplog.text)
        await proxy.heal()
        await site.queue.add("work")
        await site.until(completed=1)


async def test_nobody_need_listen_bmq_101(site: Site, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """An outage with no callback attached: the worker logs, waits, and goes on."""
    gate = asyncio.Event()

    async def held(job: Job) -> None:
        await gate.wait()

    await site.queue.add("work")
    async with FaultProxy(valkey.socket) as proxy, site.working(held, proxy.url) as worker:
        await eventually(lambda: worker.running)
        proxy.down()
        gate.set()
        await eventually(lambda: "it goes on trying" in caplog.text)
        await proxy.heal()
        await site.until(completed=1)
        await eventually(lambda: "answers again" in caplog.text)

    loud = [record for record in caplog.records if record.name.startswith("taurine")]
    assert len([record for record in loud if record.levelno >= logging.WARNING]) <= 4, "however long the outage is"


async def test_a_callback_that_raises_breaks_nothing_bmq_101(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("callback")

    worker = site.worker(work)
    for event in get_args(WorkerEvent):
        worker.on(event, broken)
    await site.queue.add("work")
    await site.queue.add("fail")
    async with site.running(worker):
        await site.until(completed=1, failed=1)

    assert "ZeroDivisionError: callback" in caplog.text


def test_an_unknown_event_is_refused_bmq_100() -> None:
    with pytest.raises(InvalidOption, match=r"'complete'; did you mean 'completed'\?") as caught:
        WorkerEvents().on("complete", print)  # pyright: ignore[reportArgumentType] - what an untyped caller does
    for event in get_args(WorkerEvent):
        assert event in str(caught.value)
    with pytest.raises(InvalidOption, match=r"got 7$"):
        WorkerEvents().on(7, print)  # pyright: ignore[reportArgumentType] - what an untyped caller does


async def test_other_processes_follow_the_event_stream_bmq_100(site: Site) -> None:
    """The queue's stream, which Node reads as well."""
    await site.queue.add("work")
    await site.queue.add("fail")
    async with site.working(work, concurrency=1):
        await site.until(completed=1, failed=1)
        await eventually(lambda: site.events("drained"))

    assert [(entry["event"], entry.get("jobId")) for entry in await site.events()] == [
        ("added", "1"),
        ("waiting", "1"),
        ("added", "2"),
        ("waiting", "2"),
        ("active", "1"),
        ("completed", "1"),
        ("active", "2"),
        ("failed", "2"),
        ("retries-exhausted", "2"),
        ("drained", None),
    ]
    ((completed,), (failed,)) = await site.events("completed"), await site.events("failed")
    assert json.loads(completed["returnvalue"]) == "result of 1"
    assert failed["failedReason"] == "as asked"
