"""F13, F14, F15, F20, F22: connections, scripts, memory and the server itself go away under load.

Scaled for two busy cores: 1,500 jobs of 10 ms on 2 workers x 10, faults by progress, an outage of 3.5 s, a watchdog of
1 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from faults.workers import WorkerProcess, add_jobs, cpu_seconds, ended_jobs, states, until_ended
from support.eventually import eventually
from support.history import History, check
from support.proxy import FaultProxy
from support.server import ValkeyServer
from support.store import RawStore, open_store
from taurine.errors import StoreRefused, StoreUnavailable
from taurine.queue import Job, Queue, Worker
from taurine.queue.connection import Connection

Figure = Callable[[str], None]
ServerFactory = Callable[..., ValkeyServer]

OPTIONS: dict[str, Any] = {
    "concurrency": 10,
    "lease": 3.0,
    "stalled_interval": 1.0,
    "max_stalled": 50,
    "drain_delay": 1.0,
}
TOTAL = 1500


async def _under_load(
    url: str,
    prefix: str,
    store: RawStore,
    history: History,
    fault: Callable[[], Any],
    *,
    faults: int,
) -> list[str]:
    """Run the load with `fault` at even shares of its progress, also for the producer; what the workers said on stderr."""
    base = f"{prefix}:q:"
    async with (
        Queue("q", url, prefix=prefix) as queue,
        WorkerProcess(url, prefix, history, name="w1", **OPTIONS) as one,
        WorkerProcess(url, prefix, history, name="w2", **OPTIONS) as two,
    ):
        await add_jobs(queue, history, TOTAL, {"ms": 10})
        for number in range(1, faults + 1):

            async def far_enough(share: float = number / (faults + 1)) -> bool:
                return await ended_jobs(store, base) >= TOTAL * share

            await eventually(far_enough, 30, f"the workers stopped before fault {number}")
            history.fault("to no lease")
            await fault()
            extra = f"extra-{number}"
            with suppress(StoreUnavailable), history.enqueuing(extra):
                await queue.add("extra", {}, job_id=extra)
        await until_ended(store, base, TOTAL)

        async def at_rest() -> bool:
            return not await store.exists(f"{base}wait", f"{base}active", f"{base}delayed")

        await eventually(at_rest, 20, "the queue did not come to rest")
        return [one.stderr, two.stderr]


async def test_f13_connections_are_killed_under_load(
    server_factory: ServerFactory, prefix: str, history: History, figure: Figure
) -> None:
    """F13: every connection but the test's own is killed, 12 times; what was in flight is neither lost nor done twice."""
    server = server_factory()
    async with open_store(server) as store:

        async def kill() -> None:
            await store.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        await _under_load(server.url, prefix, store, history, kill, faults=12)
        shown = await states(store, f"{prefix}:q:")

    verdict = check(history, states=shown)
    figure(verdict.summary())
    verdict.require()
    assert not verdict.duplicated


async def test_f22_scripts_are_flushed_under_load(
    redis_url: str, prefix: str, raw: RawStore, history: History, figure: Figure
) -> None:
    """F22: the scripts are sent again, and neither workers nor producers notice."""

    async def flush() -> None:
        await raw.script_flush()

    said = await _under_load(redis_url, prefix, raw, history, flush, faults=20)

    verdict = check(history, states=await states(raw, f"{prefix}:q:"))
    figure(f"{verdict.summary()}; errors {sum(map(bool, said))}")
    verdict.require()
    assert said == ["", ""]
    assert not verdict.unknown
    assert not verdict.duplicated


async def test_f14_the_server_stops_and_comes_back(
    server_factory: ServerFactory, prefix: str, history: History, figure: Figure
) -> None:
    """F14, its 30 s scaled to 3.5, which is more than a lease: producers fail fast with a typed error, and workers
    resume without a restart.
    """
    outage, base = 3.5, f"{prefix}:q:"
    server = server_factory(appendonly="yes")
    async with (
        open_store(server) as store,
        Queue("q", server.url, prefix=prefix) as queue,
        WorkerProcess(server.url, prefix, history, name="w1", **OPTIONS) as one,
        WorkerProcess(server.url, prefix, history, name="w2", **OPTIONS) as two,
    ):
        await add_jobs(queue, history, TOTAL, {"ms": 10})

        async def half_way() -> bool:
            return await ended_jobs(store, base) >= TOTAL / 2

        await eventually(half_way, 30)
        for process in (one, two):
            history.fault("outage beyond the lease", worker=process.name)
        server.stop()
        cpu, went = cpu_seconds(one, two), time.monotonic()
        errors, slowest = 0, 0.0
        while time.monotonic() - went < outage:
            asked = time.monotonic()
            with pytest.raises(StoreUnavailable), history.enqueuing(f"down-{errors}"):
                await queue.add("down", {}, job_id=f"down-{errors}")
            errors, slowest = errors + 1, max(slowest, time.monotonic() - asked)
            await asyncio.sleep(0.1)  # the pace of a producer, not a wait
        cpu = cpu_seconds(one, two) - cpu
        server.start()
        came = time.monotonic()

        await until_ended(store, base, TOTAL)
        shown = await states(store, base)

    recover = min(event.at for event in history.events() if event.kind == "finish" and event.at > came) - came
    verdict = check(history, states=shown)
    figure(
        f"{verdict.summary()}; recover_s {recover:.2f} after the server was back, {errors} adds refused, the slowest after "
        f"{slowest:.2f} s, workers used {100 * cpu / outage / 2:.1f} % CPU each while it was down"
    )
    verdict.require()
    assert set(shown.values()) == {"completed"}
    assert errors > 10, "an add took long to fail"


@pytest.mark.parametrize("lose", [False, True], ids=["the bytes come late", "the connections stay mute"])
async def test_f15_an_idle_worker_outlives_a_black_hole(
    *, valkey: ValkeyServer, redis_url: str, prefix: str, raw: RawStore, figure: Figure, lose: bool
) -> None:
    """F15: no byte passes and nothing is closed; after the network is back the next job is picked up, with no help.

    The blocking read lasts 0.5 s on the server and is given up 2 s later, so 3 s of silence stand for the 60 s of an
    outage.
    """
    ran = asyncio.Queue[str]()

    async def work(job: Job) -> None:
        ran.put_nowait(job.id)

    async with FaultProxy(valkey.port) as proxy, Queue("q", redis_url, prefix=prefix) as queue:
        connection = Connection(proxy.url, timeout=1.0)
        async with Worker("q", work, connection, prefix=prefix, drain_delay=0.5):
            await queue.add("before", {}, job_id="before")
            assert await asyncio.wait_for(ran.get(), 10) == "before"

            async def blocked() -> bool:
                return any(client["cmd"] == "bzpopmin" for client in await raw.client_list())

            await eventually(blocked)
            proxy.black_hole(lose=lose)
            await queue.add("during", {}, job_id="during")
            given_up = proxy.accepted

            async def dials_again() -> bool:
                return proxy.accepted > given_up

            await eventually(dials_again, 15, "the read was not given up")
            await proxy.heal()
            healed = time.monotonic()
            assert await asyncio.wait_for(ran.get(), 20) == "during"
            figure(f"pickup_s after heal {time.monotonic() - healed:.2f}")
            await queue.add("after", {}, job_id="after")
            assert await asyncio.wait_for(ran.get(), 20) == "after"
        await connection.close()
    assert ran.empty(), "a job ran twice"


async def test_f20_a_full_server_refuses_adds_and_lets_running_jobs_end(
    server_factory: ServerFactory, prefix: str, history: History, figure: Figure
) -> None:
    """F20: `noeviction`, filled by the queue's own jobs."""
    server, base = server_factory(maxmemory="12mb", maxmemory_policy="noeviction"), f"{prefix}:q:"
    go = asyncio.Event()

    async def work(job: Job) -> str:
        history.start(job.id, token=f"{job.token}/{job.id}", worker="w1")
        history.effect(job.id, token=f"{job.token}/{job.id}", worker="w1")
        await go.wait()
        return "done"

    async with (
        open_store(server) as store,
        Queue("q", server.url, prefix=prefix) as queue,
        Worker("q", work, server.url, prefix=prefix, concurrency=4, lease=1.0, drain_delay=0.5) as worker,
    ):
        added = 0
        with pytest.raises(StoreRefused, match="maxmemory"):
            while True:
                with history.enqueuing(f"j{added}"):
                    await queue.add("big", {"text": "x" * 50_000}, job_id=f"j{added}", remove_on_complete=False)
                added += 1
                assert added < 1000, "the server did not fill up"
        # The refused call's own buffer was part of what was too much; from here on the data alone is.
        used = (await store.info("memory"))["used_memory"]
        await store.config_set("maxmemory", used * 8 // 10)
        with pytest.raises(StoreRefused, match="maxmemory"):
            await queue.add("small", {})
        running = [job.id for job in worker.running]
        assert len(running) == 4
        # Leases are renewed while the server is full: none of the running jobs is given up for it.
        lowest = await store.pttl(f"{base}{running[0]}:lock")

        async def renewed() -> bool:
            nonlocal lowest
            now = await store.pttl(f"{base}{running[0]}:lock")
            lowest = min(lowest, now)
            return now > lowest

        await eventually(renewed, 5, "no lease is renewed")
        full = time.monotonic()
        go.set()
        await until_ended(store, base, added, within=30)
        finishes = await ended_jobs(store, base)
        await queue.clean(0)

        async def taken() -> bool:
            with suppress(StoreRefused), history.enqueuing("later"):
                await queue.add("big", {"text": "x" * 50_000}, job_id="later")
                return True
            return False

        await eventually(taken, 10, "adds are refused although the queue was drained")
        recover = time.monotonic() - full
        await until_ended(store, base, 1)
        shown = await states(store, base)

    verdict = check(history, states={f"j{number}": "completed" for number in range(added)} | shown)
    figure(f"{verdict.summary()}; {finishes} finishes during OOM, recover_s {recover:.2f}")
    verdict.require()
