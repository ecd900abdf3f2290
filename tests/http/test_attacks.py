"""Attacks on the API as it is served, byte by byte over sockets: what in-process calls cannot send (A01 to A05, A24, A31, A32, A34, A38, A40, A41, A46, A54, A56)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from support.eventually import eventually
from taurine.app import Taurine
from taurine.http import create_app
from taurine.http.connections import Connection
from taurine.http.serving import listen, serve

MIB = 1024 * 1024
HEAD = b"POST /v1/jobs/thing.keep HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n\r\n"


class Served:
    """An API that listens on loopback."""

    def __init__(self, app: Taurine, port: int) -> None:
        self.app = app
        self.port = port

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def say(self, *parts: bytes, eof: bool = False) -> bytes:
        """Send these bytes, and read what is answered until the server closes. eof: say that nothing more comes."""
        async with asyncio.timeout(20), self.connection() as (reader, writer):
            return (await _exchange(reader, writer, parts, eof=eof))[0]

    async def post(self, body: bytes, *, more: bytes = b"") -> bytes:
        return await self.say(HEAD + more + b"Content-Length: %d\r\n" % len(body) + CLOSE, body)

    async def is_well(self) -> None:
        """It answers another caller, and nothing of an attack has become a job."""
        answer = await self.say(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + CLOSE)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert (await self.app.list()).items == []


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parts: Iterable[bytes], *, eof: bool = False
) -> tuple[bytes, int]:
    """What is answered, and how many bytes the server let us send: it may close while we still do."""
    sent = 0
    reading = asyncio.ensure_future(reader.read())
    with contextlib.suppress(ConnectionError):
        for part in parts:
            if reading.done():
                break
            writer.write(part)
            await writer.drain()
            sent += len(part)
        if eof and not reading.done():
            writer.write_eof()
    try:
        return await reading, sent
    except ConnectionResetError:  # what we sent on took the answer along
        return b"", sent


def status_of(answer: bytes) -> int:
    """0 for none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


@pytest.fixture
async def serving(app: Taurine) -> AsyncIterator[Callable[..., Any]]:
    """Serve the API: `served = await serving(max_body=100)`; takes the options of `create_app`."""
    async with contextlib.AsyncExitStack() as stack:

        @asynccontextmanager
        async def lives(api: Any, listening: socket.socket) -> AsyncGenerator[None]:
            ready = asyncio.Event()
            task = asyncio.create_task(serve(api, listening, ready=ready.set, grace=1, lifespan=False))
            try:
                await asyncio.wait_for(ready.wait(), 20)
                yield
            finally:
                task.cancel()
                await asyncio.wait({task})

        async def start(of: Taurine = app, **options: Any) -> Served:
            listening = stack.enter_context(listen("127.0.0.1", 0))
            await stack.enter_async_context(lives(create_app(of, **({"answer_within": 30} | options)), listening))
            return Served(of, listening.getsockname()[1])

        yield start


@pytest.fixture
async def served(serving: Callable[..., Any]) -> Served:
    return await serving()


# Bodies -------------------------------------------------------------------------------------------------------------------------------


async def test_a_body_for_ever_is_read_up_to_the_cap(served: Served) -> None:
    """A01: in chunks, with a length that is true, and with one that is not; the rest is left where it is."""
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    endless = (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 800)
    declared = (HEAD + b"Content-Length: 52428800\r\n\r\n", *[b" " * 65_536] * 800)
    lying = (HEAD + b"Content-Length: 10\r\n\r\n", *[b" " * 65_536] * 800)
    for parts in (endless, declared, lying):
        async with asyncio.timeout(20), served.connection() as (reader, writer):
            answer, sent = await _exchange(reader, writer, parts)
        assert status_of(answer) in (0, 400, 413), answer
        # The cap, and what the sockets of both sides hold.
        assert sent < 24 * MIB
    assert b"body_too_large" in await served.say(HEAD + b"Content-Length: 99999999999999999999\r\n" + CLOSE)
    await served.is_well()


async def test_no_body_does_more_harm_than_its_size(served: Served) -> None:
    """A02, A03, A04, A05: each is answered with its refusal, and the process goes on."""
    bomb = gzip.compress(b" " * (50 * MIB))
    assert status_of(await served.post(bomb, more=b"Content-Encoding: gzip\r\n")) == 415
    assert status_of(await served.post(bomb)) == 400
    for body in (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"payload": ' + b"9" * 900_000 + b"}",
        b'{"payload": -' + b"9" * 900_000 + b".5e9}",
        b'{"payload": NaN}',
        rb'{"payload": "\ud800"}',
        rb'{"payload": "a\u0000"}',
        b'{"payload": 1, "payload": 2}',
        b"\x00" * 100_000,
    ):
        answer = await served.post(body)
        assert status_of(answer) == 400, body[:20]
        assert b"malformed_body" in answer
    await served.is_well()


async def test_ten_million_digits_are_refused_where_bodies_may_be_large(serving: Callable[..., Any]) -> None:
    """A04: Python's own limit of digits is no 500."""
    served = await serving(max_body=16 * MIB)
    answer = await served.post(b'{"payload": ' + b"9" * 10_000_000 + b"}")
    assert (status_of(answer), b"malformed_body" in answer) == (400, True)
    await served.is_well()


async def test_half_open_uploads_are_let_go(serving: Callable[..., Any]) -> None:
    """A38: a hundred at once, while others are served."""
    served = await serving(body_within=0.3)

    async def half_open() -> int:
        return status_of(await served.say(HEAD + b"Content-Length: 1000\r\n\r\n" + b'{"payload"'))

    uploads = [asyncio.create_task(half_open()) for _ in range(100)]
    await served.is_well()
    assert set(await asyncio.gather(*uploads)) == {408}
    await served.is_well()


async def test_who_never_says_what_it_wants_is_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A38, A54: nothing, half a request, and the same on a connection that was used before; a stream that is silent stays."""
    monkeypatch.setattr(Connection, "head_within", 0.3)
    for words in (b"", b"G", b"GET /health/live HTTP/1.1\r\nHost: loc"):
        assert await served.say(words) == b""
    async with asyncio.timeout(20), served.connection() as (reader, writer):
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(b"G")
        assert await reader.read() == b""
    job = await served.app.enqueue("thing.keep", 1, job_id="a")
    url = f"ws://127.0.0.1:{served.port}/v1/jobs/a/events"
    stream = b"GET /v1/jobs/a/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with asyncio.timeout(20), connect(url) as ws, served.connection() as (reader, writer):
        await ws.recv()
        writer.write(stream)
        await reader.readuntil(b"event: job")
        await served.say(b"G")  # as long as it takes to be let go
        await job.cancel()
        assert "cancelled" in str(await ws.recv())
        await reader.readuntil(b"event: end")


# Noise --------------------------------------------------------------------------------------------------------------------------------

NOISE = {
    "nothing": b"",
    "zeros": b"\0" * 1000,
    "lines": b"\r\n" * 1000,
    "every byte": bytes(range(256)) * 10,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "HTTP/0.9": b"GET /v1/jobs\r\n",
    "HTTP/9.9": b"GET /v1/jobs HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "another protocol": b"*1\r\n$8\r\nFLUSHALL\r\nEHLO x\r\nUSER root\r\n",
    "a proxy": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "PROXY": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n",
    "no host": b"POST /v1/jobs/thing.keep HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two hosts": b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    "a long line": b"GET /" + b"x" * 2 * MIB,
    "a long header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2 * MIB,
    "many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200_000,
    "a folded header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\nConnection: close\r\n\r\n",
    "a header of bytes": b"GET / HTTP/1.1\r\nHost: localhost\r\nX\0Y: \xff\r\n\r\n",
    "a chunk of no size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
    "a chunk of a vast size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n",
    "a coding that there is not": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 14\r\n\r\n" + b'{"payload": 1}',
    "a length below none": HEAD + b"Content-Length: -1\r\n\r\n",
    "a length of digits of elsewhere": HEAD + "Content-Length: ٣\r\n\r\n".encode(),
    "half a body": HEAD + b'Content-Length: 100\r\n\r\n{"payload": 1}',
}


async def test_noise_is_refused_and_the_server_goes_on(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A54, A40: 4xx or nothing, whatever is said before any credential; no error in the log, and no words of ours about it."""
    with caplog.at_level(logging.DEBUG):
        for name, noise in NOISE.items():
            answer = await served.say(noise, eof=True)
            assert status_of(answer) in (0, *range(400, 500)), (name, answer)
            assert b"Traceback" not in answer
            assert b"uvicorn" not in answer.lower()
        await served.is_well()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_request_is_not_smuggled_behind_another(served: Served) -> None:
    """A54: with two ways to say where a body ends, a proxy in front may believe the other one."""
    hidden = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    body = b"0\r\n\r\n" + hidden
    both = HEAD + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(body) + body
    answer = await served.say(both, eof=True)
    assert answer.count(b"HTTP/1.1") == 1, answer
    assert status_of(answer) == 400
    await served.is_well()


async def test_a_socket_that_says_too_much_is_closed(served: Served) -> None:
    """A54: nobody has anything to say on a stream."""
    await served.app.enqueue("thing.keep", 1, job_id="a", delay=60)
    async with asyncio.timeout(20), connect(f"ws://127.0.0.1:{served.port}/v1/jobs/a/events") as ws:
        await ws.recv()
        with contextlib.suppress(ConnectionClosed):
            await ws.send(b"x" * MIB)
        with pytest.raises(ConnectionClosed):
            await ws.recv()
    assert ws.close_code == 1009


# Paths --------------------------------------------------------------------------------------------------------------------------------

PATHS = [
    *(b"/v1/jobs/..%2f..%2fetc%2fpasswd", b"/v1/jobs/%2e%2e/%2e%2e/etc", b"//evil.example/v1/jobs", b"/v1/jobs;a=b"),
    *(b"http://evil.example/v1/nothing", b"/v1/jobs/%00", b"/v1/jobs/a%0d%0aLocation:%20http://evil.example", b"*"),
    *(b"/v1/jobs/%ff%fe", b"/v1/jobs/%u002e", b"/\\evil.example", b"/%5cevil.example/", b"/v1/jobs/%252e%252e%252f"),
    *(b"//localhost:1/..", b"/.git/config", b"/v1/jobs/" + b"%2F" * 2000, b"/?" + b"a=b&" * 5000),
]


async def test_no_path_leads_elsewhere(served: Served) -> None:
    """A34: as bytes, which no client of ours would send: 400, 404 or 405, and never a redirect."""
    for path in PATHS:
        answer = await served.say(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + CLOSE)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert status_of(answer) in (400, 404, 405), (path, answer)
        assert b"location:" not in head.lower(), path
        assert b"<" not in body, path
