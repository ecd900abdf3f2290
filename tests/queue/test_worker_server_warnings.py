"""What a worker warns of when it meets its server: settings that lose jobs, and versions with known holes. BMQ-144."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from support.server import ValkeyServer
from support.site import Site
from taurine.queue.job import Job


async def work(_: Job) -> None:
    return None


async def warnings_at(server: ValkeyServer, prefix: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a worker logs on that server while it does one job."""
    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        await site.queue.add("work")
        async with site.working(work):
            await site.until(completed=1)
        await site.close()
    return [record.getMessage() for record in caplog.records if record.name == "taurine.queue"]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"])
async def test_an_evicting_memory_policy_is_warned_of_and_not_refused_bmq_144(
    server_factory: Any, prefix: str, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    (warning,) = await warnings_at(server_factory(maxmemory_policy=policy), prefix, caplog)
    assert f"maxmemory-policy is {policy}" in warning
    assert "Set `maxmemory-policy noeviction`" in warning, "what to do about it"


async def test_a_fit_server_is_worth_no_word_bmq_144(
    server_factory: Any, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await warnings_at(server_factory(maxmemory_policy="noeviction"), prefix, caplog) == []
