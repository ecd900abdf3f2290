"""F26: the append-only file ends at any byte of its last entry, as after a power cut: the server starts, and there is
no half job.

Every byte is loaded by DEBUG LOADAOF, which is what a start does with the file; some of them by a start.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from redis.exceptions import ResponseError

from faults.workers import states
from support.server import ValkeyServer
from support.store import RawStore, open_store
from taurine.queue import Queue, Worker

ServerFactory = Callable[..., ValkeyServer]

Change = Callable[[Queue, Worker], Awaitable[object]]


async def _add(queue: Queue, worker: Worker) -> None:
    await queue.add("last", {"n": 1}, job_id="last")


async def _add_delayed(queue: Queue, worker: Worker) -> None:
    await queue.add("last", {"n": 1}, job_id="last", delay=3600, deduplication="d")


async def _claim(queue: Queue, worker: Worker) -> None:
    assert await worker.fetch() is not None


async def _finish(queue: Queue, worker: Worker) -> None:
    """The claim before it is not part of the last entry."""
    job = await worker.fetch()
    assert job is not None
    await worker.complete(job, {"done": True})


@pytest.mark.parametrize("change", [_add, _add_delayed, _claim, _finish], ids=lambda change: change.__name__.strip("_"))
async def test_f26_a_torn_entry_is_undone_whole(
    server_factory: ServerFactory, prefix: str, seed: int, figure: Callable[[str], None], change: Change
) -> None:
    server = server_factory(appendonly="yes", appendfsync="always")
    base = f"{prefix}:q:"
    async with (
        open_store(server) as store,
        Queue("q", server.url, prefix=prefix) as queue,
    ):
        worker = Worker("q", None, server.url, prefix=prefix, lease=3600)
        await queue.add_many([("early", {}, {"job_id": f"j{number}"}) for number in range(3)])
        await change(queue, worker)
        await worker.stop()
        after = await states(store, base)

        [log] = (server.directory / "appendonlydir").glob("*.incr.aof")
        whole = log.read_bytes()
        start = _start_of_last_entry(whole)
        log.write_bytes(whole[:start])
        await store.execute_command("DEBUG", "LOADAOF")
        before = await states(store, base)
        assert before != after

        for end in range(start, len(whole) + 1):
            log.write_bytes(whole[:end])
            # It has loaded a torn file too; only its answer is an error then.
            with suppress(ResponseError):
                await store.execute_command("DEBUG", "LOADAOF")
            shown = await states(store, base)
            assert shown == (after if end == len(whole) else before), f"cut at {end} of {start} to {len(whole)}"
            assert await _half_jobs(store, base, shown) == []
        places = len(whole) + 1 - start

    server.kill()
    starts = sorted(Random(seed).sample(range(start, len(whole)), 5))
    for end in starts:
        await _starts_from(whole[:end], server, base, before)
    figure(f"half_jobs 0/{places} places of the last entry, {len(starts)} of them by a start")


def _start_of_last_entry(log: bytes) -> int:
    """Where the last entry begins: a command, or all from MULTI to EXEC."""
    at, start, within = 0, 0, False
    while at < len(log):
        entry, words = at, list[bytes]()
        line = log.index(b"\r\n", at)
        count, at = int(log[at + 1 : line]), line + 2
        for _ in range(count):
            line = log.index(b"\r\n", at)
            size = int(log[at + 1 : line])
            words.append(log[line + 2 : line + 2 + size])
            at = line + 2 + size + 2
        if not within:
            start = entry
        within = words[0].upper() == b"MULTI" or (within and words[0].upper() != b"EXEC")
    return start


async def _half_jobs(store: RawStore, base: str, shown: dict[str, str]) -> list[str]:
    """Jobs with a hash and no place, or with a place and no hash; and leases of jobs that are not active."""
    stored = {key.removeprefix(base) for key in await store.keys(f"{base}*")}
    hashes = {name for name in stored if name[0] in "jl" and ":" not in name and name != "limiter"}
    half = sorted(hashes ^ set(shown))
    for name in hashes & set(shown):
        fields = await store.hmget(f"{base}{name}", "name", "data", "opts", "timestamp")
        if None in fields:
            half.append(f"{name}: {fields}")
        if (f"{name}:lock" in stored) != (shown[name] == "active"):
            half.append(f"{name} is {shown[name]} and its lease does not fit")
    return half


async def _starts_from(log: bytes, server: ValkeyServer, base: str, expected: dict[str, str]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="taurine-test-"))
    shutil.copytree(server.directory / "appendonlydir", directory / "appendonlydir")
    [torn] = (directory / "appendonlydir").glob("*.incr.aof")
    torn.write_bytes(log)
    again = ValkeyServer(directory, appendonly="yes")
    try:
        again.start()
        async with open_store(again) as store:
            shown = await states(store, base)
            assert shown == expected
            assert await _half_jobs(store, base, shown) == []
    finally:
        again.kill()
        shutil.rmtree(directory)
