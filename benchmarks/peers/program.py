"""The program that each Python peer runs as: one action per process, JSON lines on stdout.

A process connects, prints `ready`, waits for a line on stdin, does its action, prints `done` with what it measured, and
ends (a worker ends when stdin is closed). One that measures adding has added a job before it is ready, so that its
connection and scripts are there. `node/bullmq.mjs` follows the same rules, so that a figure treats all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

# OpenTelemetry's SDK is here for the tests, and redis-py loads it wherever it finds it. Who installs one of these libraries does not have it, and
# each full collection of garbage would go through it.
sys.modules["opentelemetry.sdk"] = None  # pyright: ignore[reportArgumentType] - the documented way to hide a module

QUEUE = "bench"
JOB = "noop"
ATTEMPTS = 3
KEEP_COMPLETED = 1000
IDLE_SETTLE_SECONDS = 2.0

Payload = dict[str, Any]
PAYLOAD: Payload = {"i": 1, "user": "u1"}

OnStart = Callable[[Payload], None]
OnDone = Callable[[], None]


class Program(ABC):
    """One library, told to add jobs or to work on them. A method it has no call for raises NotImplementedError.

    url: of the server of queues. database: URL of the SQL database, for a library that keeps its jobs or records there.
    """

    def __init__(self, url: str, database: str = "") -> None:
        self.url = url
        self.database = database

    async def install(self) -> None:
        """Make the tables in an empty database."""
        raise NotImplementedError

    @abstractmethod
    def producing(self) -> AbstractAsyncContextManager[None]:
        """Connected for `add` and `add_many` inside the block."""

    @abstractmethod
    async def add(self, payload: Payload) -> None:
        """Add one job; return when the server has it."""

    async def add_many(self, payloads: Sequence[Payload]) -> None:
        """Add jobs by the library's own bulk call; return when the server has them all."""
        raise NotImplementedError

    @abstractmethod
    def working(
        self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone
    ) -> AbstractAsyncContextManager[None]:
        """A no-op worker runs in the background inside the block.

        on_start is called with the payload when a handler starts; on_done when the job is settled, or when its handler
        returns where the library does not tell.
        """

    def serving(self, port: int, key_file: str) -> AbstractAsyncContextManager[None]:
        """Inside the block, `POST /v1/jobs/bench.noop` is answered on this port of loopback, to callers with the key in
        that file.
        """
        raise NotImplementedError

    async def some_ids(self, count: int) -> list[str]:
        """Ids of jobs that have ended."""
        raise NotImplementedError

    async def settled(self) -> None:  # noqa: B027 - most libraries cannot be asked
        """Return when all jobs are settled whose handlers have returned, where on_done comes before that but it can be
        asked.
        """


async def add_in_chunks(program: Program, jobs: int, chunk: int) -> None:
    for size in _sizes(jobs, chunk):
        await program.add_many([PAYLOAD] * size)


async def add_in_waves(program: Program, jobs: int, width: int) -> None:
    for size in _sizes(jobs, width):
        await asyncio.gather(*(program.add(PAYLOAD) for _ in range(size)))


async def add_one_by_one(program: Program, jobs: int) -> dict[str, Any]:
    delays: list[float] = []
    for _ in range(jobs):
        start = time.perf_counter()
        await program.add(PAYLOAD)
        delays.append(round(time.perf_counter() - start, 6))  # a report of one line must fit the pipe
    return {"delays": delays}


async def install(program: Program, args: argparse.Namespace) -> None:
    await _measured(program.install)


async def fill(program: Program, args: argparse.Namespace) -> None:
    has_bulk_call = type(program).add_many is not Program.add_many
    add = add_in_chunks if has_bulk_call else add_in_waves
    async with program.producing():
        await _measured(lambda: add(program, args.jobs, args.chunk))


async def add_many(program: Program, args: argparse.Namespace) -> None:
    async with program.producing():
        await program.add(PAYLOAD)
        await _measured(lambda: add_in_chunks(program, args.jobs, args.chunk))


async def add_concurrent(program: Program, args: argparse.Namespace) -> None:
    async with program.producing():
        await program.add(PAYLOAD)
        await _measured(lambda: add_in_waves(program, args.jobs, args.chunk))


async def add_one(program: Program, args: argparse.Namespace) -> None:
    async with program.producing():
        await program.add(PAYLOAD)
        await _measured(lambda: add_one_by_one(program, args.jobs))


async def pace(program: Program, args: argparse.Namespace) -> None:
    async def with_gaps() -> None:
        for _ in range(args.jobs):
            # Jitter, so that the producer does not fall into step with a peer that polls.
            await asyncio.sleep(args.gap / 1000 * random.uniform(0.75, 1.25))
            await program.add({**PAYLOAD, "at": time.time()})

    async with program.producing():
        await _measured(with_gaps)


async def drain(program: Program, args: argparse.Namespace) -> None:
    finished = asyncio.Event()
    left = args.jobs

    def on_done() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            finished.set()

    async with AsyncExitStack() as stack:

        async def until_drained() -> None:
            await stack.enter_async_context(program.working(QUEUE, args.concurrency, lambda payload: None, on_done))
            await finished.wait()
            await program.settled()

        await _measured(until_drained)
        await _stdin_closed()


async def grow(program: Program, args: argparse.Namespace) -> None:
    """Drain as `drain` does, and look at the process's own memory after the first tenth of the jobs and after the last."""
    import psutil

    memory = psutil.Process().memory_info
    sizes: list[int] = []
    finished = asyncio.Event()
    done = 0

    def on_done() -> None:
        nonlocal done
        done += 1
        if done in (args.jobs // 10, args.jobs):
            sizes.append(memory().rss)
        if done == args.jobs:
            finished.set()

    async def until_drained() -> dict[str, Any]:
        async with program.working(QUEUE, args.concurrency, lambda payload: None, on_done):
            await finished.wait()
            await program.settled()
        return {"sizes": sizes}

    await _measured(until_drained)


async def listen(program: Program, args: argparse.Namespace) -> None:
    delays: list[float] = []
    heard = asyncio.Event()

    def on_start(payload: Payload) -> None:
        delays.append(time.time() - payload["at"])
        if len(delays) == args.jobs:
            heard.set()

    async def until_heard() -> dict[str, Any]:
        await heard.wait()
        return {"delays": delays}

    async with program.working(QUEUE, args.concurrency, on_start, lambda: None):
        await _measured(until_heard)
        await _stdin_closed()


async def idle(program: Program, args: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        for number in range(args.queues):
            working = program.working(f"{QUEUE}-{number}", args.concurrency, lambda payload: None, lambda: None)
            await stack.enter_async_context(working)
        await asyncio.sleep(IDLE_SETTLE_SECONDS)
        await _measured(lambda: asyncio.sleep(args.seconds))
        await _stdin_closed()


async def serve(program: Program, args: argparse.Namespace) -> None:
    async with program.serving(args.port, args.key_file):
        _report("ready")
        await _stdin_closed()


async def post(program: Program, args: argparse.Namespace) -> None:
    """Clients on connections that stay open, each with one request after another; the first of each is not counted."""
    key = await asyncio.to_thread(Path(args.key_file).read_text)
    body = json.dumps({"payload": PAYLOAD}).encode()
    head = (
        f"POST /v1/jobs/bench.noop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    connections = [await asyncio.open_connection("127.0.0.1", args.port) for _ in range(args.clients)]
    for connection in connections:
        await _ask(*connection, request)

    async def client(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        for _ in range(args.jobs // args.clients):
            await _ask(*connection, request)

    async def all_of_them() -> None:
        await asyncio.gather(*map(client, connections))

    await _measured(all_of_them)


async def follow(program: Program, args: argparse.Namespace) -> None:
    """Clients that each have a stream of events open, of a job that has ended and may be run again: they have been told
    what it is, and wait.
    """
    key = await asyncio.to_thread(Path(args.key_file).read_text)
    connections = [await _open_stream(args.port, key, job_id) for job_id in await program.some_ids(args.clients)]
    _report("ready")
    await _stdin_closed()
    for _, writer in connections:
        writer.close()


async def _open_stream(port: int, key: str, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"/v1/jobs/{job_id}/events?follow=true"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    await reader.readuntil(b"event: job")
    return reader, writer


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 202"):
        raise RuntimeError(f"expected the answer 202, got {head!r}")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))


ACTIONS = {
    action.__name__: action
    for action in (
        install,
        fill,
        add_many,
        add_concurrent,
        add_one,
        pace,
        drain,
        grow,
        listen,
        idle,
        serve,
        post,
        follow,
    )
}


def run(program: type[Program]) -> None:
    """Do the action named on the command line with this peer, and end the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--database", default="")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--chunk", type=int, default=1000)
    parser.add_argument("--gap", type=float, default=20.0, help="milliseconds between two paced jobs")
    parser.add_argument("--queues", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the idle window")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key-file", default="", help="where a server writes the key that its clients read there")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--uvloop", action="store_true")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=_loop_factory(args.uvloop)) as runner:
        runner.run(_act(program(args.url, args.database), args))


async def _act(program: Program, args: argparse.Namespace) -> None:
    await ACTIONS[args.action](program, args)
    # Several libraries complain or wait when their loop ends, and nothing that is measured depends on it.
    os._exit(0)


def _loop_factory(uvloop_wanted: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not uvloop_wanted:
        return None
    import uvloop

    return uvloop.new_event_loop


async def _measured(work: Callable[[], Awaitable[dict[str, Any] | None]]) -> None:
    _report("ready")
    await asyncio.to_thread(sys.stdin.readline)
    cpu, start = time.process_time(), time.perf_counter()
    fields = await work()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    _report("done", seconds=seconds, cpu_seconds=cpu_seconds, **(fields or {}))


async def _stdin_closed() -> None:
    await asyncio.to_thread(sys.stdin.read)


def _report(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def _sizes(jobs: int, chunk: int) -> list[int]:
    whole, rest = divmod(jobs, chunk)
    return [chunk] * whole + [rest] * (rest > 0)
