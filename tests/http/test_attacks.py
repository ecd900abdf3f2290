"""Attacks on the API as it is served, byte by byte over sockets: what in-process calls cannot send (A01 to A05, A24,
A31, A32, A34, A38, A40, A41, A46, A54, A56).
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis
from starlette.responses import Response
from starlette.types import Message
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from support.api import Client, declare_invites
from support.eventually import eventually
from taurine import Context
from taurine.app import Taurine
from taurine.errors import JobError
from taurine.http import create_app
from taurine.http.connections import Connection
from taurine.http.serving import listen, serve
from taurine.http.unread import Buffers, Sending
from taurine.queue import Queue

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
    """Serve the API: `served = await serving(max_body=100)`; takes the options of `create_app`.

    large: bytes that GET /large answers with.
    """
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

        async def start(of: Taurine = app, large: int = 0, **options: Any) -> Served:
            listening = stack.enter_context(listen("127.0.0.1", 0))
            api = create_app(of, answer_within=30, **options)
            api.add_route("/large", lambda _: Response(b"x" * large))
            await stack.enter_async_context(lives(api, listening))
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
    """A38, A54: nothing, half a request, and the same on a connection that was used before; a stream that is silent
    stays.
    """
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


LARGE = b"GET /large HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "rest", [b"\r\n", CLOSE, b"\r\n" + 200 * (LARGE + b"\r\n")], ids=["kept", "closed", "pipelined"]
)
async def test_who_asks_and_reads_nothing_is_dropped(
    serving: Callable[..., Any], rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A38: with its connection, and what of the answer is still here; others are answered meanwhile."""
    served = await serving(large=16 * MIB, read_within=0.3)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(LARGE + rest)
        await eventually(lambda: "a connection is dropped" in caplog.text, 20, "its answer is kept")
        await served.is_well()

        def read_to_the_end() -> int:
            client.settimeout(20)
            number = 0
            with contextlib.suppress(ConnectionResetError):
                while part := client.recv(MIB):
                    number += len(part)
            return number

        # The system was given what it could send and little more; the rest is gone, and so is the connection.
        assert await asyncio.to_thread(read_to_the_end) < MIB


class Stopped(asyncio.Transport):
    """A connection of a server, with so many bytes that are not sent yet."""

    def __init__(self, left: int, *, closing: bool = False) -> None:
        super().__init__()
        self.transport = self
        self.left = left
        self.closing = closing
        self.dropped = False

    def get_write_buffer_size(self) -> int:
        return self.left

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 16_384, 65_536

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.dropped = True


def test_who_reads_slowly_is_not_dropped() -> None:
    """A38: the time is for some of an answer, not for all of it; what waits for more to say is no answer that nobody
    reads.
    """
    now = 100.0
    buffers = Buffers(seconds=10, monotonic=lambda: now)
    slow, stuck, closed, says_little = Stopped(10**6), Stopped(10**6), Stopped(1, closing=True), Stopped(65_536)
    for _ in range(20):
        buffers.look([slow, stuck, closed, says_little])
        now, slow.left = now + 4, slow.left - 1
    assert [one.dropped for one in (slow, stuck, closed, says_little)] == [False, True, True, False]


async def test_a_large_answer_is_given_in_pieces_each_in_its_time(caplog: pytest.LogCaptureFixture) -> None:
    """A38: any server lets us wait between two of them; the connections of others are not ours to drop."""
    taken: list[Message] = []

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(range(256)) * 1024})

    async def take(message: Message) -> None:
        taken.append(message)

    async def take_some(message: Message) -> None:
        taken.append(message)
        if len(taken) == 3:
            await asyncio.Event().wait()

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    layer = Sending(large, seconds=0.01)
    await layer({"type": "http"}, nothing, take)
    assert b"".join(message.get("body", b"") for message in taken) == bytes(range(256)) * 1024
    assert [message.get("more_body") for message in taken[1:]] == [True, True, True, False]
    assert caplog.text == ""

    taken.clear()
    await layer({"type": "http"}, nothing, take_some)
    assert len(taken) == 3
    assert "nothing was read for 0.01 s" in caplog.text


async def test_connections_are_closed_while_there_are_files_for_others(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A38: who opens one above the number is let go at once, and those that are there are answered."""
    monkeypatch.setattr(Connection, "most", 2)
    hello = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with asyncio.timeout(20), served.connection() as (reader, writer), served.connection() as (other, _):
        writer.write(hello)
        await reader.readuntil(b"}")
        assert await served.say(hello) == b""
        writer.write(hello)
        await reader.readuntil(b"}")
        assert not other.at_eof()
    monkeypatch.setattr(Connection, "most", None)
    await served.is_well()


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
    """A54, A40: 4xx or nothing, whatever is said before any credential; no error in the log, and no words of ours about
    it.
    """
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


# What is shown, and to whom ----------------------------------------------------------------------------------------------------------------

STRANGE = (
    "-1",
    "0",
    "1e9",
    "999999999999999999999",
    "1.5",
    "\x00",
    "' or 1=1 --",
    "<script>alert(1)</script>",
    "x" * 5000,
    "..",
    "null",
)


async def test_no_parameter_of_any_route_does_harm_or_comes_back_as_a_page(client: Client) -> None:
    """A30, A31, A32, A41, A49: whatever route there is, by the document; each answer is JSON or plain text, and nothing
    of ours is loaded from elsewhere.
    """
    document = (await client.get("/openapi.json")).json()
    asked = 0
    for path, operations in document["paths"].items():
        if "get" not in operations or path.endswith("/events") or path.startswith("/cron"):
            continue
        names = [one["name"] for one in operations["get"].get("parameters", ()) if one["in"] == "query"]
        filled = re.sub(r"\{[^}]+\}", "a", path)
        for name in names:
            for value in STRANGE:
                answer = await client.get(filled, params={name: value})
                asked += 1
                assert answer.status_code in (200, 400, 401, 404, 422), (filled, name, value, answer.text)
                kind = answer.headers["content-type"]
                assert kind.startswith(("application/json", "application/problem+json", "text/plain")), (filled, kind)
                assert answer.headers["x-content-type-options"] == "nosniff"
    assert asked > 200


HEADERS = [
    *("Authorization", "Cookie", "Idempotency-Key", "Last-Event-ID", "traceparent", "tracestate", "baggage"),
    *("Content-Type", "Content-Encoding", "Origin", "Sec-Fetch-Site", "Accept", "Range"),
]
BEGINNINGS = [b"", b"Bearer ", b"Bearer taurine_", b"Bearer taurine_public_", b"taurine_session=", b"00-", b"gzip;"]


async def test_whatever_stands_in_a_header_is_answered(app: Taurine, client: Client) -> None:
    """A22, A31, A54: a fuzz run, the same each time; what is read of a header is a value, or refused."""
    random = Random(7)
    await app.enqueue("thing.keep", 1, job_id="a")
    await app.cancel("a")
    for number in range(200):
        noise = bytes(random.choice(range(32, 256)) for _ in range(random.choice([0, 1, 8, 60])))
        headers = [(random.choice(HEADERS).encode(), random.choice(BEGINNINGS) + noise.strip()) for _ in range(2)]
        if number % 2:
            answer = await client.post("/v1/jobs/thing.keep", content=b'{"payload": 1}', headers=headers)
        else:
            answer = await client.get("/v1/jobs/a/events", headers=headers)
        assert answer.status_code < 500, (headers, answer.text)


LOOKS = [
    *("/v1/jobs/a", "/v1/jobs", "/v1/jobs/a/why", "/v1/jobs/a/logs", "/v1/jobs/a/attempts", "/v1/jobs/a/audit"),
    *("/v1/queues/slow", "/v1/workers", "/v1/audit", "/metrics", "/health/ready"),
]


async def test_the_token_of_a_running_job_is_shown_to_nobody(
    app: Taurine, client: Client, raw: Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A22: not by the API, a stream, the metrics, nor the log; and whoever guesses one changes nothing."""
    go = asyncio.Event()

    @app.job("slow", queue="slow")
    async def slow(_: None, ctx: Context) -> str:
        ctx.log.info("runs")
        await go.wait()
        return "done"

    with caplog.at_level(logging.DEBUG):
        handle = await slow.enqueue(None, job_id="a")
        async with app.worker(queues=["slow"]):
            await eventually(lambda: raw.exists(f"{prefix}:slow:a:lock"), 20, "nobody runs it")
            token = str(await raw.get(f"{prefix}:slow:a:lock"))
            texts = [(await client.get(path)).text for path in LOOKS]
            async with Queue("slow", app.settings.redis_url or "", prefix=prefix) as queue:
                job = await queue.get_job("a")
                assert job is not None
                for guess in ("0", "", token[:-1], token.upper() + "x", f"{token}:1"):
                    job.token = guess
                    with pytest.raises(JobError):
                        await job.extend_lease(600)
            go.set()
            assert await handle.result(timeout=20) == "done"
    assert token
    assert not [text for text in (*texts, caplog.text) if token in text]


async def test_no_password_of_a_server_that_is_away_is_shown(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    """A56, A40: in answers and in the log."""
    away = {
        "redis_url": "redis://me:pa55word@127.0.0.1:1/0?password=pa55word",
        "database_url": "postgresql://me:pa55word@127.0.0.1:1/x?password=pa55word",
    }
    texts: list[str] = []
    for name, url in away.items():
        app = app_factory(**{name: url})
        declare_invites(app)
        client = client_of(app, answer_within=1)
        with caplog.at_level(logging.DEBUG):
            # Without a database each request waits for some seconds: one is enough.
            paths = ("/health/ready", "/v1/queues", "/v1/workers", "/metrics") if name == "redis_url" else ()
            answers = [await client.enqueue(), *[await client.get(path) for path in paths]]
        assert [answer for answer in answers if answer.status_code == 503] or "no answer from the server" in caplog.text
        texts += [answer.text for answer in answers]
    assert not [text for text in (*texts, caplog.text) if "pa55word" in text]
