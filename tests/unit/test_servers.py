"""The private servers of the fault tests stop, die, freeze and come back as told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import redis
from redis.asyncio import Redis

from support.server import ValkeyServer

MakeServer = Callable[..., ValkeyServer]


async def test_it_answers_by_both_ways_and_logs(server_factory: MakeServer) -> None:
    server = server_factory()
    for url in (server.url, server.socket_url):
        async with Redis.from_url(url) as client:
            assert await client.ping()

    assert "Ready to accept connections" in server.log


async def test_options_reach_the_server(server_factory: MakeServer) -> None:
    server = server_factory(maxmemory="50mb", maxmemory_policy="noeviction")
    async with Redis.from_url(server.url, decode_responses=True) as client:
        assert (await client.config_get("maxmemory"))["maxmemory"] == str(50 * 1024 * 1024)


@pytest.mark.parametrize("end", [ValkeyServer.stop, ValkeyServer.kill])
async def test_what_the_append_only_file_holds_survives(
    server_factory: MakeServer, end: Callable[[ValkeyServer], None]
) -> None:
    server = server_factory(appendonly="yes", appendfsync="always")
    port = server.port
    async with Redis.from_url(server.url) as client:
        await client.set("k", "v")
    end(server)
    assert not server.running

    server.start()
    assert server.port == port
    async with Redis.from_url(server.url) as client:
        assert await client.get("k") == b"v"


async def test_frozen_it_holds_its_connections_and_answers_once_thawed(server_factory: MakeServer) -> None:
    server = server_factory()
    async with Redis.from_url(server.socket_url) as client:
        await client.ping()
        server.freeze()
        asked = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([asked], timeout=0.05)
        assert not done

        server.thaw()
        assert await asyncio.wait_for(asked, 5)


def test_a_server_that_cannot_start_shows_its_log(server_factory: MakeServer) -> None:
    server = server_factory(start=False, maxmemory_policy="no-such-policy")

    with pytest.raises(AssertionError, match="did not start"):
        server.start()


def test_ending_it_is_safe_to_repeat(server_factory: MakeServer) -> None:
    server = server_factory()
    server.kill()
    server.stop()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(server.url).ping()
