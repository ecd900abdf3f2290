"""The link of a worker's turns: what becomes of the turns under way when one of them is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from support.server import ValkeyServer
from support.site import Site
from taurine.errors import StoreUnavailable
from taurine.queue.job import Job
from taurine.queue.turn import Released, Turn
from taurine.queue.turn_link import TurnLink

NOW_MS = 1_800_000_000_000


async def become_a_replica(raw: Any) -> None:
    """Of nobody: from here on every write is answered with READONLY."""
    await raw.execute_command("REPLICAOF", "127.0.0.1", "1")


async def become_a_primary(raw: Any) -> None:
    await raw.execute_command("REPLICAOF", "NO", "ONE")


async def test_the_reply_to_a_turn_behind_a_refused_one_is_no_other_turns_bmq_102(
    server_factory: Callable[[], ValkeyServer], prefix: str
) -> None:
    """The refusal is a whole reply, so the connection is sound, and the reply to the second turn still comes on it."""
    server = server_factory()
    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        await site.queue.add_many([("work", {})] * 2)
        turns = TurnLink(site.connection, site.keys, "")
        await turns.send(Turn(NOW_MS, "first", 30_000, 0))
        await turns.receive()

        await become_a_replica(raw)
        await turns.send(Turn(NOW_MS, "refused", 30_000, 1))
        await eventually(lambda: was_refused(raw))
        await become_a_primary(raw)
        await turns.send(Turn(NOW_MS, "lost", 30_000, 1))
        await site.until(active=1, wait=1)
        with pytest.raises(StoreUnavailable, match="read only"):
            await turns.receive()

        await turns.send(Turn(NOW_MS, "next", 30_000, 1, attempts=[("unknown", "token", Released())]))
        turn, reply = await turns.receive()
        assert (turn.token, reply.codes) == ("next", [-1])
        assert [raw_id for raw_id, _, _ in reply.jobs] == [b"1"], "the one that the lost turn had claimed"
        assert await raw.get(site.keys.lock("1")) == "next"
        await turns.close()
        await site.close()


async def was_refused(raw: Any) -> bool:
    return "errorstat_READONLY" in await raw.info("errorstats")


async def test_moments_as_a_replica_cost_no_job_and_run_none_twice_bmq_102(
    server_factory: Callable[[], ValkeyServer], prefix: str
) -> None:
    """As in a failover that is called off, under a backlog; the worker goes on."""
    server, total, moments = server_factory(), 3_000, 10
    runs = Counter[str]()
    troubles: list[Exception] = []
    lost: list[Job] = []

    async def handler(job: Job) -> None:
        runs[job.id] += 1
        await asyncio.sleep(0)

    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        await site.queue.add_many([("work", {})] * total)
        async with site.working(handler, concurrency=9) as worker:
            worker.on("error", troubles.append)
            worker.on("lease_lost", lost.append)
            for moment in range(1, moments + 1):
                await eventually(lambda share=total * moment // (moments + 1): len(runs) >= share)
                await become_a_replica(raw)
                await eventually(lambda count=moment: len(troubles) >= count)
                await become_a_primary(raw)
            await site.until(completed=total)
        await site.close()

    assert set(runs.values()) == {1}
    assert lost == []
