"""Idle workers: what wakes them, what they cost, and how many connections they share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from support.proxy import FaultProxy
from support.server import ValkeyServer
from support.site import Site
from taurine.errors import StoreUnavailable
from taurine.queue.connection import Connection
from taurine.queue.job import Job
from taurine.testing import TestClock

NEVER = 3_600
"""Seconds of drain_delay: a worker that nobody wakes would sleep longer than any test waits."""


class Recording:
    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, job: Job) -> None:
        self.ids.append(job.id)


async def blocked(raw: Redis) -> list[dict[str, Any]]:
    """The connections that block on the server now."""
    return [client for client in await raw.client_list() if "b" in client["flags"]]


async def until_idle(raw: Redis, markers: int) -> None:
    """Wait until one read blocks on so many queues' markers, as each idle worker adds its own."""

    async def covered() -> bool:
        reads = await blocked(raw)
        # argv-mem and the like differ between servers; the number of keys that block is what counts.
        keys = int((await raw.info("clients"))["total_blocking_keys"])
        assert (len(reads), keys) == (1, markers + 1), f"{len(reads)} reads of {keys} keys"
        return True

    await eventually(covered, 10.0)


@contextlib.asynccontextmanager
async def idle_queues(prefix: str, url: str, raw: Redis, count: int, **options: Any) -> AsyncGenerator[list[Recording]]:
    """Workers on `count` queues of one process, each made from the URL alone."""
    async with contextlib.AsyncExitStack() as stack:
        handlers: list[Recording] = []
        for number in range(count):
            site = Site(f"q{number}", prefix, url, raw)
            stack.push_async_callback(site.close)
            handlers.append(Recording())
            await stack.enter_async_context(site.working(handlers[-1], url, **options))
        yield handlers


# Waking ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority", [0, 5])
async def test_an_idle_worker_starts_a_new_job_at_once_bmq_093(site: Site, priority: int) -> None:
    handler = Recording()
    async with site.working(handler, drain_delay=NEVER):
        for number in range(1, 6):
            await until_idle(site.raw, 1)
            await site.queue.add("work", priority=priority)
            await site.until(completed=number)


async def test_an_idle_worker_starts_a_job_when_it_is_due_bmq_093(timed_site: Site, hand_clock: TestClock) -> None:
    site = timed_site
    handler = Recording()
    async with site.working(handler, drain_delay=NEVER):
        await until_idle(site.raw, 1)
        later = await site.queue.add("work", delay=100)
        await eventually(lambda: site.raw.zcard(site.keys.delayed))
        sooner = await site.queue.add("work", delay=50)
        await eventually(lambda: hand_clock.sleepers >= 3, message="it sleeps until then, beside its two services")
        hand_clock.advance(50.001)
        await eventually(lambda: handler.ids == [sooner.id])
        hand_clock.advance(50)
        await eventually(lambda: handler.ids == [sooner.id, later.id])


async def test_a_job_that_is_due_in_real_time_bmq_093(site: Site) -> None:
    handler = Recording()
    async with site.working(handler, drain_delay=NEVER):
        await until_idle(site.raw, 1)
        await site.queue.add("work", delay=0.2)
        await site.until(completed=1)


async def test_a_lone_job_waits_for_no_company(site: Site) -> None:
    """Each job is added when the one before has ended, to a worker with a hundred slots."""
    handler = Recording()
    async with site.working(handler, concurrency=100, drain_delay=NEVER):
        for number in range(1, 21):
            await site.queue.add("work")
            await site.until(completed=number)


async def test_work_without_a_marker_is_found_bmq_093(site: Site) -> None:
    """A client may take the marker and die; then the wait's end finds the work."""
    handler = Recording()
    async with site.working(handler, drain_delay=0.1):
        await until_idle(site.raw, 1)
        await site.queue.pause()
        await site.queue.add("work")
        await site.raw.hdel(site.keys.meta, "paused")
        assert await site.raw.exists(site.keys.marker) == 0
        await site.until(completed=1)


async def test_work_left_over_wakes_the_next_idle_worker(site: Site) -> None:
    """Two processes' worth of idle workers: one claims what it has slots for and passes the word on."""
    gate = asyncio.Event()
    running: list[str] = []

    async def handler(job: Job) -> None:
        running.append(job.id)
        await gate.wait()

    elsewhere = Connection(site.url)
    async with (
        site.working(handler, concurrency=1, drain_delay=NEVER),
        site.working(handler, site.url, concurrency=1, drain_delay=NEVER - 1),
        site.working(handler, elsewhere, concurrency=1, drain_delay=NEVER - 2),
    ):
        await eventually(lambda: blocked_by(site.raw, 3), message="each worker's own read: different waits share none")
        await site.queue.add_many([("work", {})] * 3)
        await site.until(active=3)
        gate.set()
        await site.until(completed=3)
    await elsewhere.close()


async def blocked_by(raw: Redis, reads: int) -> bool:
    return len(await blocked(raw)) == reads


async def test_two_workers_of_one_queue_in_one_process_are_both_woken(site: Site) -> None:
    gate = asyncio.Event()

    async def handler(job: Job) -> None:
        await gate.wait()

    async with (
        site.working(handler, concurrency=1, drain_delay=NEVER),
        site.working(handler, concurrency=1, drain_delay=NEVER),
    ):
        await until_idle(site.raw, 1)
        await site.queue.add("work")
        await site.until(active=1)
        await site.queue.add("work")
        await site.until(active=2)
        gate.set()
        await site.until(completed=2)


async def test_a_marker_is_put_back_by_a_worker_that_has_no_use_for_it(site: Site) -> None:
    """The worker is paused while it waits; the marker it pops belongs to another process."""
    handler = Recording()
    async with site.working(handler, drain_delay=NEVER) as worker:
        await until_idle(site.raw, 1)
        await worker.pause()
        await site.queue.add("work")
        await eventually(lambda: site.raw.zcard(site.keys.marker))
        await site.until(wait=1)
        assert handler.ids == []


# Cost -----------------------------------------------------------------------------------------------------------------------------


async def test_one_blocking_connection_serves_all_queues_of_a_process(
    prefix: str, redis_socket_url: str, raw: Redis
) -> None:
    """And a worker that comes later is in the read that is under way."""
    async with idle_queues(prefix, redis_socket_url, raw, 5, drain_delay=NEVER) as handlers:
        await until_idle(raw, 5)
        site = Site("q3", prefix, redis_socket_url, raw)
        await site.queue.add("work")
        await eventually(lambda: handlers[3].ids == ["1"])
        await until_idle(raw, 5)
        await site.close()


async def commands(raw: Redis, reads: int) -> dict[str, int]:
    """What the server is asked while its idle workers' blocking read ends so often."""

    async def calls() -> dict[str, int]:
        stats: dict[str, Any] = await raw.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(entry["calls"]) for name, entry in stats.items()}

    await raw.config_resetstat()
    await eventually(lambda: _reached(calls, reads), 30.0)
    seen = await calls()
    return {name: count for name, count in seen.items() if name not in {"info", "config|resetstat", "config"}}


async def _reached(calls: Any, reads: int) -> bool:
    return (await calls()).get("bzpopmin", 0) >= reads


async def test_twenty_idle_queues_cost_no_more_than_one(prefix: str, redis_socket_url: str, raw: Redis) -> None:
    """Stalled sweeps included: they are due again and again meanwhile, and a queue that was seen empty is not swept."""
    options = {"drain_delay": 0.05, "stalled_interval": 0.5}
    costs: list[dict[str, int]] = []
    for count in (1, 20):
        async with idle_queues(prefix, redis_socket_url, raw, count, **options):
            await until_idle(raw, count)
            await commands(raw, 3)  # until the queues have been seen empty
            costs.append(await commands(raw, 20))

    one, twenty = (sum(cost.values()) for cost in costs)
    assert one <= 45, f"a read and a look each time: {costs[0]}"
    assert twenty <= one + 2, f"{costs[1]} against {costs[0]}"


@pytest.mark.parametrize(("concurrency", "most"), [(1, 510), (50, 100)])
async def test_a_job_costs_one_call_and_many_share_one_bmq_094(site: Site, concurrency: int, most: int) -> None:
    """Settling a job and claiming the next is one call, at concurrency 1 as well."""
    handler = Recording()
    await site.queue.add_many([("work", {})] * 500)
    await site.raw.config_resetstat()
    async with site.working(handler, concurrency=concurrency, stalled_interval=0):
        await site.until(completed=500)
        stats: dict[str, Any] = await site.raw.info("commandstats")

    assert stats["cmdstat_evalsha"]["calls"] <= most


# Outages --------------------------------------------------------------------------------------------------------------------------


async def test_work_goes_on_after_a_restart_of_the_server_bmq_102(server_factory: Any, prefix: str) -> None:
    server: ValkeyServer = server_factory(appendonly="yes", appendfsync="always")
    handler = Recording()
    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        async with site.working(handler, drain_delay=0.2):
            await site.queue.add("work")
            await site.until(completed=1)
            await asyncio.to_thread(server.restart)
            await site.queue.add("work")
            await site.until(completed=2)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await site.queue.add("work")
            await site.until(completed=3)
        await site.close()

    assert handler.ids == ["1", "2", "3"]


async def test_a_worker_may_be_started_before_its_server_bmq_102(server_factory: Any, prefix: str) -> None:
    server: ValkeyServer = server_factory()
    server.stop()
    handler = Recording()
    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        worker = site.worker(handler)
        failed = asyncio.Event()
        worker.on("error", lambda _: failed.set())
        async with site.running(worker):
            await failed.wait()
            await asyncio.to_thread(server.start)
            await site.queue.add("work")
            await site.until(completed=1)
        await site.close()


async def test_a_server_that_cannot_save_is_waited_out_bmq_102(server_factory: Any, prefix: str) -> None:
    """It answers every write with MISCONF until an operator has mended it: no reason for a worker to end."""
    server: ValkeyServer = server_factory(save="3600 1")
    (server.directory / "dump.rdb").mkdir()  # no file can take its place
    gate = asyncio.Event()

    async def handler(job: Job) -> None:
        await gate.wait()

    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        await site.queue.add("work")
        async with site.working(handler) as worker:
            troubles: list[Exception] = []
            worker.on("error", troubles.append)
            await eventually(lambda: worker.running)
            await raw.bgsave()
            await eventually(lambda: cannot_save(raw))
            gate.set()
            await eventually(lambda: troubles)
            with pytest.raises(StoreUnavailable, match="MISCONF"):
                await site.queue.add("work")
            await raw.config_set("stop-writes-on-bgsave-error", "no")
            await site.until(completed=1)
        await site.close()


async def cannot_save(raw: Redis) -> bool:
    return (await raw.info("persistence"))["rdb_last_bgsave_status"] == "err"


async def test_a_blocking_read_that_never_returns_is_given_up_bmq_103(site: Site, valkey: ValkeyServer) -> None:
    """A half-open connection: the network forgets it, and neither side is told.

    All of the worker's connections are lost so, and each is found out by a time-out of its own.
    """
    handler = Recording()
    async with FaultProxy(valkey.socket) as proxy:
        connection = Connection(proxy.url, timeout=0.5)
        async with site.working(handler, connection, drain_delay=0.2):
            await until_idle(site.raw, 1)
            proxy.black_hole(lose=True)
            await proxy.heal()
            await site.queue.add("work")
            await site.until(completed=1, within=60)
        await connection.close()


async def test_stopping_ends_though_the_server_is_gone_bmq_091(
    server_factory: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taurine.queue.worker._SETTLE_TIME", 0.5)  # scaled
    server: ValkeyServer = server_factory()
    gate = asyncio.Event()

    async def handler(job: Job) -> None:
        await gate.wait()

    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        await site.queue.add("work")
        worker = site.worker(handler)
        async with worker:
            await eventually(lambda: worker.running)
            server.kill()
            await asyncio.wait_for(worker.stop(grace=0), 30)
        await site.close()
