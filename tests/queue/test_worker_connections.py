"""How a worker and a queue reach their server, and what they need there."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from support.server import ValkeyServer
from support.site import Site
from taurine.errors import InvalidOption, StoreRefused, StoreUnavailable
from taurine.queue.connection import Connection
from taurine.queue.job import Job
from taurine.queue.queue import Queue
from taurine.queue.scripts import load
from taurine.queue.worker import Worker


async def work(job: Job) -> Any:
    return job.data


async def round_trip(target: Any, prefix: str, raw: Redis) -> None:
    """A job is added and done by way of `target`, and a second one while the worker is idle."""
    done = Site("q", prefix, "unix://unused", raw)
    queue = Queue("q", target, prefix=prefix)
    await queue.add("work", {"text": "ü"})
    async with Worker("q", work, target, prefix=prefix, drain_delay=60):
        await done.until(completed=1)
        await queue.add("work")
        await done.until(completed=2)
    await queue.close()


async def test_by_tcp_url(redis_url: str, prefix: str, raw: Redis) -> None:
    await round_trip(redis_url, prefix, raw)


async def test_by_unix_socket_url(redis_socket_url: str, prefix: str, raw: Redis) -> None:
    await round_trip(redis_socket_url, prefix, raw)


async def test_by_a_shared_connection(redis_socket_url: str, prefix: str, raw: Redis) -> None:
    connection = Connection(redis_socket_url)
    await round_trip(connection, prefix, raw)
    await connection.close()


@pytest.mark.parametrize("decode_responses", [False, True])
async def test_by_a_ready_client_which_stays_its_owners(
    redis_url: str, prefix: str, raw: Redis, decode_responses: bool
) -> None:
    async with Redis.from_url(redis_url, decode_responses=decode_responses, client_name="mine") as client:
        await client.ping()
        mine = [entry["id"] for entry in await raw.client_list() if entry["name"] == "mine"]
        await round_trip(client, prefix, raw)

        assert await client.ping()
        still = [entry["id"] for entry in await raw.client_list() if entry["name"] == "mine"]
        assert still == mine, "neither closed nor used"


@pytest.mark.parametrize("target", ["localhost", "http://localhost", 5, None])
def test_anything_else_is_refused(target: Any) -> None:
    with pytest.raises(InvalidOption, match="redis"):
        Queue("q", target)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(InvalidOption) as caught:
        Queue("q", "http://user:secret@localhost")
    assert "secret" not in str(caught.value)
    assert "secret" not in Connection("redis://user:secret@localhost:1").where


# Failing fast ---------------------------------------------------------------------------------------------------------------------


async def test_a_producer_fails_at_once_while_the_server_is_down_bmq_054(server_factory: Any, prefix: str) -> None:
    server: ValkeyServer = server_factory()
    server.stop()
    queue = Queue("q", server.url, prefix=prefix)
    before = time.monotonic()
    with pytest.raises(StoreUnavailable, match="no answer") as caught:
        await queue.add("work")
    assert time.monotonic() - before < 1.0
    assert caught.value.retryable

    server.start()
    assert (await queue.add("work")).id == "1"
    await queue.close()


async def test_a_producer_gives_a_mute_server_a_bounded_time_bmq_054(server_factory: Any, prefix: str) -> None:
    server: ValkeyServer = server_factory()
    connection = Connection(server.url, timeout=0.3)
    queue = Queue("q", connection, prefix=prefix)
    await queue.add("work")
    server.freeze()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(queue.add("work"), 10)
    server.thaw()
    await connection.close()


@pytest.mark.parametrize("way", ["add", "many adds", "add_many", "a look"])
async def test_a_link_that_idled_through_a_restart_fails_no_call_bmq_054(
    server_factory: Any, prefix: str, way: str
) -> None:
    """Also when the event loop was kept busy meanwhile and has not seen the end of the link."""
    server: ValkeyServer = server_factory()
    async with Queue("q", server.url, prefix=prefix) as queue:
        await queue.add("work")
        server.restart()  # blocks the event loop
        if way == "add":
            await queue.add("work")
        elif way == "many adds":
            await asyncio.gather(*(queue.add("work") for _ in range(2_000)))
        elif way == "add_many":
            await queue.add_many([("work", None)])
        else:
            await queue.counts()


async def test_links_that_nobody_needs_are_closed_after_a_while_bmq_054(
    redis_url: str, raw: Redis, prefix: str
) -> None:
    async def links() -> int:
        return sum("127.0.0.1" in client["laddr"] for client in await raw.client_list())

    connection = Connection(redis_url, idle_timeout=0.2)
    await asyncio.gather(*(connection.call("PING") for _ in range(5)))
    assert await links() == 5

    async def one_in_use() -> bool:
        await connection.call("PING")
        return await links() == 1

    await eventually(one_in_use)

    async def all_closed() -> bool:
        return await links() == 0

    await eventually(all_closed)
    assert await connection.call("PING") == b"PONG"
    await connection.close()


@pytest.mark.parametrize("idle_timeout", [0, -1, float("nan"), "5"])
def test_an_idle_timeout_out_of_range_is_refused(idle_timeout: Any) -> None:
    with pytest.raises(InvalidOption, match="idle_timeout"):
        Connection("redis://127.0.0.1:1", idle_timeout=idle_timeout)


async def test_nothing_connects_before_the_first_command_bmq_054() -> None:
    queue = Queue("q", "redis://127.0.0.1:1")
    Worker("q", work, "redis://127.0.0.1:1")
    await queue.close()


# Prefixes -------------------------------------------------------------------------------------------------------------------------


async def test_two_prefixes_know_nothing_of_each_other_bmq_056(site: Site) -> None:
    other = Site("q", f"{site.keys.prefix}:other", site.url, site.raw)
    await other.queue.add("work", {"of": "other"})
    await site.queue.add("work", {"of": "site"})
    seen: list[Any] = []

    async def handler(job: Job) -> None:
        seen.append(job.data["of"])

    async with site.working(handler):
        await site.until(completed=1)
        await other.until(wait=1)
    async with other.working(handler):
        await other.until(completed=1)
    await other.close()

    assert seen == ["site", "other"]


async def test_every_key_is_under_the_prefix_bmq_056(site: Site) -> None:
    """What a test leaves outside its prefix fails it; here also while it works."""

    async def handler(job: Job) -> None:
        keys = await site.raw.keys("*")
        assert [key for key in keys if not key.startswith(f"{site.keys.prefix}:")] == []

    await site.queue.add("work", priority=1)
    async with site.working(handler, metrics_points=10):
        await site.until(completed=1)


# Rights ---------------------------------------------------------------------------------------------------------------------------

WORKER_COMMANDS = """
    client|setname evalsha eval bzpopmin exists zadd set pexpire
    get mget psetex del pttl persist incr incrby
    hget hgetall hmget hset hdel hexists hlen hincrby
    lpush rpush rpop llen lrange lrem ltrim lpos
    zrange zrem zpopmin zcard zscore zremrangebyrank type
    sadd srem smembers scard
    xadd xtrim
"""
"""All that a worker may need: no INFO, no CONFIG, no other CLIENT command, no SCRIPT, no KEYS and no FLUSHALL."""

PRODUCER_COMMANDS = """
    evalsha eval
    get set del exists pttl persist incr incrby
    hget hmget hset hdel
    lpush rpush llen lrem lpos
    zadd zrange zrem zscore type
    sadd srem scard
    xadd xtrim
"""
"""All that adding jobs may need."""

_CALLED_IN_SCRIPT = re.compile(r"(?:redis\.p?call|callInChunks)\((?:\w+ and )?'([A-Z]+)'(?: or '([A-Z]+)')?")


@pytest.mark.parametrize(
    ("allowed", "scripts"),
    [
        pytest.param(WORKER_COMMANDS, ("turn", "sweep", "renew", "add_log", "update_progress"), id="worker"),
        pytest.param(PRODUCER_COMMANDS, ("add",), id="producer"),
    ],
)
def test_the_rights_that_are_listed_cover_the_scripts(allowed: str, scripts: tuple[str, ...]) -> None:
    called = {
        command.lower()
        for script in scripts
        for commands in _CALLED_IN_SCRIPT.findall(load(script).text)
        for command in commands
        if command
    }
    assert called - set(allowed.split()) == set(), "list them above, and in the documentation"


async def test_a_user_with_few_rights_can_work(server_factory: Any, prefix: str) -> None:
    server: ValkeyServer = server_factory()
    async with Redis.from_url(server.url, decode_responses=True) as raw:
        for name, allowed in (("worker", WORKER_COMMANDS), ("producer", PRODUCER_COMMANDS)):
            await raw.execute_command(
                "ACL", "SETUSER", name, "on", ">pw", f"~{prefix}:*", *(f"+{command}" for command in allowed.split())
            )
        urls = {name: server.url.replace("//", f"//{name}:pw@") for name in ("worker", "producer")}
        site = Site("q", prefix, urls["producer"], raw)

        async def handler(job: Job) -> None:
            if job.name == "fail" and job.attempts_made == 0:
                raise RuntimeError("once")

        async with site.working(handler, urls["worker"], name="w", lease=0.5, metrics_points=5, drain_delay=0.1):
            await site.queue.add("work")
            await site.queue.add("fail", attempts=2)
            await site.queue.add("work", delay=0.05, priority=3)
            await site.queue.add("work", remove_on_complete=True)
            await eventually(lambda: site.raw.zcard(site.keys.completed))
            await site.until(completed=3)
            # Its link is cut: it cannot ask which connection is its old one, and goes on all the same.
            await raw.client_kill_filter(_type="normal", skipme=True)
            await site.queue.add("work")
            await site.until(completed=4)
        refused: Any = await raw.execute_command("ACL", "LOG")
        await site.close()

    objects = {entry["object"] for entry in refused}
    assert objects <= {"client|setinfo", "client|id", "client|list", "info"}, objects


async def test_a_user_without_rights_is_told_bmq_054(server_factory: Any, prefix: str) -> None:
    server: ValkeyServer = server_factory()
    async with Redis.from_url(server.url) as raw:
        await raw.execute_command("ACL", "SETUSER", "nobody", "on", ">pw", "~elsewhere:*", "+@all")
    queue = Queue("q", server.url.replace("//", "//nobody:pw@"), prefix=prefix)
    with pytest.raises(StoreRefused, match=r"permission|key"):
        await queue.add("work")
    with pytest.raises(StoreRefused):
        await Worker("q", work, server.url.replace("//", "//nobody:pw@"), prefix=prefix).run()
    await queue.close()


# TLS ------------------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def tls_relay(server: ValkeyServer, certificate: Path, key: Path) -> AsyncGenerator[str]:
    """The server behind TLS: the valkey-server of the wheel has none itself. Yields a rediss:// URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(65_536):
                sink.write(chunk)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def serve(from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(server.socket)
        await asyncio.gather(pump(from_client, to_server), pump(from_server, to_client))

    relay = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with relay:
        port = relay.sockets[0].getsockname()[1]
        yield f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}"


@pytest.fixture
def make_certificate(tmp_path: Path) -> Callable[[], tuple[Path, Path]]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")

    def make() -> tuple[Path, Path]:
        certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {certificate}"
        subprocess.run(
            [openssl, *words.split(), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
        )
        return certificate, key

    return make


async def test_by_tls(
    valkey: ValkeyServer, prefix: str, raw: Redis, make_certificate: Callable[[], tuple[Path, Path]]
) -> None:
    async with tls_relay(valkey, *make_certificate()) as url:
        await round_trip(url, prefix, raw)


async def test_a_certificate_that_nobody_vouches_for_is_no_server(
    valkey: ValkeyServer, prefix: str, make_certificate: Callable[[], tuple[Path, Path]]
) -> None:
    async with tls_relay(valkey, *make_certificate()) as url:
        parts = urlsplit(url)
        queue = Queue("q", f"rediss://{parts.netloc}/0", prefix=prefix)
        with pytest.raises(StoreUnavailable, match="certificate"):
            await queue.add("work")
        await queue.close()
