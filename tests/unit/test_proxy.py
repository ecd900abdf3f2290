"""The faulty network does what it says, so that a fault test blames the right one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from support.eventually import eventually
from support.proxy import FaultProxy
from support.server import ValkeyServer


class Client:
    """Bytes to and from the proxy, with nothing that retries."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, line: str) -> bytes:
        self.send(line)
        return await asyncio.wait_for(self.reader.readline(), 5)

    def send(self, line: str) -> None:
        self.writer.write(line.encode() + b"\r\n")

    async def rest(self) -> bytes:
        """What arrives before the connection is reset."""
        got = b""
        with pytest.raises(ConnectionResetError):
            while True:
                got += (chunk := await asyncio.wait_for(self.reader.read(100), 5))
                assert chunk, "closed politely, not reset"
        return got


@asynccontextmanager
async def client_of(proxy: FaultProxy) -> AsyncGenerator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield Client(reader, writer)
    writer.transport.abort()


@contextmanager
def took_at_least(seconds: float) -> Generator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start >= seconds


@pytest.fixture
async def proxy(valkey: ValkeyServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(valkey.port) as running:
        yield running


@pytest.mark.parametrize("upstream", [lambda server: server.port, lambda server: server.socket], ids=["tcp", "unix"])
async def test_forwards_both_ways(valkey: ValkeyServer, upstream: Callable[[ValkeyServer], int | Path]) -> None:
    async with FaultProxy(upstream(valkey)) as proxy, client_of(proxy) as client:
        assert await client.ask("PING") == b"+PONG\r\n"
        assert (proxy.connections, proxy.accepted) == (1, 1)

    assert proxy.connections == 0


async def test_a_large_value_passes_whole_in_any_piece_size(proxy: FaultProxy, prefix: str) -> None:
    value = b"x" * 300_000
    for size in (1_000_000, 1_000):
        proxy.chunk(size)
        async with client_of(proxy) as client:
            client.writer.write(b"*2\r\n$4\r\nECHO\r\n$300000\r\n" + value + b"\r\n")
            assert await asyncio.wait_for(client.reader.readexactly(300_011), 10) == b"$300000\r\n" + value + b"\r\n"


async def test_a_client_that_closes_is_closed_towards_the_server(proxy: FaultProxy) -> None:
    async with client_of(proxy) as client:
        await client.ask("PING")
        client.writer.close()
        await eventually(lambda: proxy.connections == 0)


async def test_delay_holds_each_direction(proxy: FaultProxy) -> None:
    async with client_of(proxy) as client:
        proxy.delay(requests=0.05)
        with took_at_least(0.05):
            await client.ask("PING")
        proxy.delay(replies=0.05)
        with took_at_least(0.05):
            await client.ask("PING")


@pytest.mark.parametrize("after", range(8))
async def test_a_reply_is_cut_after_each_of_its_bytes_and_the_work_is_done(
    proxy: FaultProxy, raw, prefix: str, after: int
) -> None:
    key = f"{prefix}:n"
    async with client_of(proxy) as client:
        await client.ask("PING")
        cut = proxy.cut_reply(after=after, to=b"SET")
        await client.ask("PING")
        assert not cut.happened.is_set()

        client.send(f"SET {key} 1")
        if after <= len(b"+OK\r\n"):
            assert await client.rest() == b"+OK\r\n"[:after]
            assert cut.happened.is_set()
        else:
            assert await client.reader.readline() == b"+OK\r\n"
            assert (cut.happened.is_set(), bytes(cut.passed)) == (False, b"+OK\r\n")

    assert await raw.get(key) == "1"


async def test_a_request_is_cut_and_the_work_is_not_done(proxy: FaultProxy, raw, prefix: str) -> None:
    key = f"{prefix}:n"
    async with client_of(proxy) as client:
        cut = proxy.cut_request(after=3)
        client.send(f"SET {key} 1")
        assert await client.rest() == b""

    assert bytes(cut.passed) == b"SET"
    assert await raw.exists(key) == 0


async def test_a_cut_hits_one_connection_and_once(proxy: FaultProxy) -> None:
    proxy.cut_reply(after=0, to=b"ECHO")
    async with client_of(proxy) as bystander, client_of(proxy) as victim:
        await bystander.ask("PING")
        victim.send("ECHO x")
        assert await victim.rest() == b""
        assert await bystander.ask("ECHO x") == b"$1\r\n"


async def test_reset_ends_open_connections_and_welcomes_new_ones(proxy: FaultProxy) -> None:
    async with client_of(proxy) as client:
        await client.ask("PING")
        proxy.reset()
        await client.rest()
    async with client_of(proxy) as client:
        assert await client.ask("PING") == b"+PONG\r\n"


async def test_down_refuses_until_healed_on_the_same_port(proxy: FaultProxy) -> None:
    async with client_of(proxy) as client:
        await client.ask("PING")
        proxy.down()
        await client.rest()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)

    await proxy.heal()
    async with client_of(proxy) as client:
        assert await client.ask("PING") == b"+PONG\r\n"


async def test_a_black_hole_says_nothing_and_delivers_late(proxy: FaultProxy) -> None:
    async with client_of(proxy) as client:
        await client.ask("PING")
        proxy.black_hole()
        client.send("PING")
        async with client_of(proxy) as newcomer:
            newcomer.send("PING")
            for mute in (client, newcomer):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(mute.reader.read(1), 0.05)

            await proxy.heal()
            assert await asyncio.wait_for(client.reader.readline(), 5) == b"+PONG\r\n"
            assert await asyncio.wait_for(newcomer.reader.readline(), 5) == b"+PONG\r\n"


async def test_a_black_hole_that_loses_leaves_its_connections_mute_for_ever(proxy: FaultProxy) -> None:
    async with client_of(proxy) as client:
        await client.ask("PING")
        proxy.black_hole(lose=True)
        client.send("PING")
        await proxy.heal()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        async with client_of(proxy) as newcomer:
            assert await newcomer.ask("PING") == b"+PONG\r\n"


async def test_it_stops_while_a_black_hole_is_open(valkey: ValkeyServer) -> None:
    async with FaultProxy(valkey.port) as proxy, client_of(proxy) as client:
        await client.ask("PING")
        proxy.black_hole()
        client.send("PING")
