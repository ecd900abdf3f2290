"""F01, F02, F03, F12: workers that are killed, frozen, or only quick.

Scaled for two busy cores: 1,500 jobs of 40 ms on 4 workers x 10, leases of 2 s and sweeps each second, kills by
progress rather than by the clock.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from faults.workers import WorkerProcess, add_jobs, ended_jobs, states, until_ended
from support.eventually import eventually
from support.history import Event, History, check
from support.store import RawStore
from taurine.queue import Job, Queue, Worker

Figure = Callable[[str], None]

OPTIONS: dict[str, Any] = {
    "concurrency": 10,
    "lease": 2.0,
    "stalled_interval": 1.0,
    "max_stalled": 50,
    "drain_delay": 1.0,
}


@pytest.fixture
def base(prefix: str) -> str:
    return f"{prefix}:q:"


async def test_f01_a_worker_is_killed_again_and_again(
    *, redis_url: str, prefix: str, base: str, raw: RawStore, history: History, seed: int, figure: Figure
) -> None:
    """F01: every acked job ends, and each repeat is explained by a kill."""
    total, kills, random, numbers = 1500, 5, Random(seed), itertools.count(1)
    async with Queue("q", redis_url, prefix=prefix) as queue, AsyncExitStack() as stack:

        async def hire() -> WorkerProcess:
            process = WorkerProcess(redis_url, prefix, history, name=f"w{next(numbers)}", **OPTIONS)
            return await stack.enter_async_context(process)

        crew = list(await asyncio.gather(*(hire() for _ in range(4))))
        await add_jobs(queue, history, total, {"ms": 40})
        for kill in range(1, kills + 1):

            async def far_enough(share: float = kill / (kills + 1)) -> bool:
                return await ended_jobs(raw, base) >= total * share

            await eventually(far_enough, 30, f"the crew stopped before kill {kill}")
            await crew.pop(random.randrange(len(crew))).kill()
            crew.append(await hire())
        await until_ended(raw, base, total)

    shown = await states(raw, base)
    verdict = check(history, states=shown)
    figure(verdict.summary())
    verdict.require()
    assert set(shown.values()) == {"completed"}
    assert verdict.duplicated, "no kill hit a job that had begun: the test proved nothing"


async def test_f02_one_new_worker_finds_every_orphan(
    *, redis_url: str, prefix: str, base: str, raw: RawStore, history: History, figure: Figure
) -> None:
    """F02, its wait of 60 s scaled to the end of every lease: all workers die, and one comes later, without a
    producer's help.
    """
    total = 1000
    async with Queue("q", redis_url, prefix=prefix) as queue, AsyncExitStack() as stack:
        crew = [WorkerProcess(redis_url, prefix, history, name=f"w{number}", **OPTIONS) for number in range(3)]
        await asyncio.gather(*(stack.enter_async_context(process) for process in crew))
        await add_jobs(queue, history, total, {"ms": 20})

        async def half_way() -> bool:
            return await ended_jobs(raw, base) >= total // 2

        await eventually(half_way, 30)
        for process in crew:
            await process.kill()
        orphans = await raw.lrange(f"{base}active", 0, -1)
        assert orphans, "no job was active when the workers died"

        async def no_lease() -> bool:
            return not await raw.exists(*(f"{base}{job}:lock" for job in orphans))

        await eventually(no_lease, 10, "a dead worker's lease goes on")
        began = time.monotonic()
        options: dict[str, Any] = {**OPTIONS, "concurrency": 50}
        last = WorkerProcess(redis_url, prefix, history, name="last", **options)
        await stack.enter_async_context(last)

        async def first_stall() -> bool:
            return bool(await raw.hget(f"{base}{orphans[0]}", "stc"))

        await eventually(first_stall, 20, "the new worker does not look for orphans")
        detect = time.monotonic() - began
        await until_ended(raw, base, total)
        drain = time.monotonic() - began

    shown = await states(raw, base)
    verdict = check(history, states=shown)
    figure(f"{verdict.summary()}; {len(orphans)} orphans, detect_s {detect:.2f}, drain_s {drain:.2f}")
    verdict.require()
    assert set(shown.values()) == {"completed"}
    assert [int(await raw.hget(f"{base}{job}", "stc") or 0) for job in orphans] == [1] * len(orphans)


async def test_f03_the_old_owners_finish_is_refused(
    *, redis_url: str, prefix: str, base: str, raw: RawStore, history: History, figure: Figure
) -> None:
    """F03: the owner sleeps through its lease and wakes with the job just done; another one has it by then."""
    await _freeze_the_owner(redis_url, prefix, raw, history, {"ms": 1000})

    verdict = check(history, states=await states(raw, base))
    figure(verdict.summary())
    verdict.require()
    assert sum(verdict.duplicated.values()) == 1
    finishes = [(event.worker, event.accepted) for event in history.events() if event.kind == "finish"]
    assert sorted(accepted for _, accepted in finishes) == [False, True], finishes
    assert await raw.hmget(f"{base}j0", "ats", "atm") == ["2", "1"]


async def test_f03_the_old_owners_progress_and_logs_are_refused(
    *, redis_url: str, prefix: str, base: str, raw: RawStore, history: History, figure: Figure
) -> None:
    """F03: and its handler is cancelled as soon as the loss is known."""
    await _freeze_the_owner(redis_url, prefix, raw, history, {"reports": 100})

    verdict = check(history, states=await states(raw, base))
    figure(verdict.summary())
    verdict.require()
    events = history.events()
    first, second = [event.at for event in events if event.kind == "start"]
    old = next(event.token for event in events if event.kind == "start")
    late = [event for event in events if event.token == old and event.kind == "write" and (event.called or 0) > second]
    assert not any(event.accepted for event in late)
    assert len([event for event in events if event.kind == "write" and event.token == old]) < 200, (
        "it was not cancelled"
    )
    assert first < second


async def _freeze_the_owner(
    url: str, prefix: str, raw: RawStore, history: History, data: dict[str, Any], **broken: Any
) -> None:
    """One job and two workers: whoever got it is stopped for 3 leases, wakes when the other one runs it, and both go on
    to the end.
    """
    lease = 0.5
    options: dict[str, Any] = {**OPTIONS, "lease": lease, "stalled_interval": 0.3, **broken}
    async with (
        Queue("q", url, prefix=prefix) as queue,
        WorkerProcess(url, prefix, history, name="w1", **options) as one,
        WorkerProcess(url, prefix, history, name="w2", **options) as two,
    ):
        await add_jobs(queue, history, 1, data)
        first = await _start_number(1, history)
        owner = one if first.worker == "w1" else two
        owner.freeze()
        history.fault("SIGSTOP beyond the lease", worker=owner.name)
        froze = time.monotonic()
        await _start_number(2, history)
        await asyncio.sleep(
            max(0.0, froze + 3 * lease - time.monotonic())
        )  # the fault's length, not a wait for something
        owner.thaw()
        await until_ended(raw, f"{prefix}:q:", 1)


async def _start_number(number: int, history: History) -> Event:
    def started() -> Event | None:
        starts = [event for event in history.events() if event.kind == "start"]
        return starts[number - 1] if len(starts) >= number else None

    found = await eventually(started, 15, f"start number {number} of the job", every=0.005)
    assert found is not None
    return found


async def test_f12_short_jobs_raise_no_false_alarm(
    *, redis_url: str, prefix: str, base: str, raw: RawStore, figure: Figure, caplog: pytest.LogCaptureFixture
) -> None:
    """F12: 4,000 jobs that are over before their leases are worth a renewal, with sweeps all the while."""
    total, alarms, ran = 4000, list[str](), 0

    async def nothing(job: Job) -> None:
        nonlocal ran
        ran += 1

    caplog.set_level(logging.WARNING, "taurine")
    async with Queue("q", redis_url, prefix=prefix) as queue:
        worker = Worker("q", nothing, redis_url, prefix=prefix, concurrency=50, lease=1.0, stalled_interval=0.05)
        worker.on("lease_lost", lambda job: alarms.append(f"lost {job.id}"))
        worker.on("stalled", lambda job_id: alarms.append(f"stalled {job_id}"))
        worker.on("error", lambda error: alarms.append(str(error)))
        async with worker:
            for _ in range(4):
                await queue.add_many([("short", {})] * (total // 4))
            await until_ended(raw, base, total)

    alarms += [record.getMessage() for record in caplog.records if record.name.startswith("taurine")]
    figure(f"false_errors {len(alarms)}/{total} jobs")
    assert alarms == []
    assert ran == total
