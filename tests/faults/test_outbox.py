"""F30, F31, F32: relays of the outbox die, meet each other, and come back to a server that was down (P2)."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from faults.job_process import POINTS, Load, make_application, make_outbox
from faults.jobs import backend_of, job_process, statuses, until_all_ended
from support.eventually import eventually
from support.history import History, check
from support.server import ValkeyServer
from support.store import RawStore, open_store
from taurine.ledger.database import Database
from taurine.ledger.outbox import outbox_lag
from taurine.ledger.records import NewRecord, insert_records
from taurine.ledger.schema import job

Figure = Callable[[str], None]
ServerFactory = Callable[..., ValkeyServer]


@pytest.fixture
def settings(tmp_path: Path, prefix: str, redis_url: str, ledger: str) -> dict[str, Any]:
    """What the processes and the test have in common."""
    return {
        "url": redis_url,
        "prefix": prefix,
        "home": str(tmp_path),
        "database_url": ledger,
        "concurrency": 10,
        "keep": 1000,
    }


async def _record(database: Database, first: int, count: int) -> list[str]:
    """Records as a process leaves them that died between its commit and its handing over; two queues in turn, one a
    millisecond.
    """
    names = [f"j{number:05}" for number in range(first, first + count)]
    created_at = round(time.time() * 1000) - 100_000
    records = [
        NewRecord(
            id=name,
            type=("load.one", "load.two")[number % 2],
            queue=("q", "r")[number % 2],
            payload=Load(name=name).model_dump_json(),
            created_at=created_at + first + number,
            max_attempts=3,
        )
        for number, name in enumerate(names)
    ]
    await database.write(lambda connection: insert_records(connection, records))
    return names


async def _accepted_at(database: Database) -> dict[str, int]:
    """When each job was accepted, ms."""
    return await database.read(
        lambda connection: {row.id: row.created_at for row in connection.execute(select(job.c.id, job.c.created_at))}
    )


async def _until_handed_over(database: Database, queues: list[str]) -> None:
    async def none_waits() -> bool:
        lag = await database.read(lambda connection: outbox_lag(connection, queues, 0))
        assert lag.waiting == 0, f"{lag.waiting} wait"
        return True

    await eventually(none_waits, 30, "the outbox was not emptied", every=0.02)


async def test_f30_a_relay_dies_at_each_point(
    settings: dict[str, Any], history: History, raw: RawStore, prefix: str, figure: Figure
) -> None:
    """F30: SIGKILL at every point of a relay; another one publishes what is left, and each job is created and run once."""
    app, *_ = make_application(settings)
    backend = backend_of(app)
    await backend.ready()
    recorded, killed = 0, 0
    for point in POINTS:
        with history.enqueuing(*(names := await _record(backend.database, recorded, 20))):
            recorded += len(names)
        async with job_process(settings, history, f"relay at {point}", role="relay", point=point) as relay:
            killed += await relay.ended() == -signal.SIGKILL
        await make_outbox(backend).run_once()
        await _until_handed_over(backend.database, ["q", "r"])
    async with job_process(settings, history, "worker"):
        await until_all_ended(backend.database, recorded)
    divergence = await app.compare()
    added = await _added(raw, prefix)
    verdict = check(history, states=await statuses(backend.database), divergent=divergence.total)
    created_twice = len(added) - len(set(added))
    figure(
        f"points {killed}/{len(POINTS)}, {recorded} records, duplicates created {created_twice}; {verdict.summary()}"
    )
    await app.close()
    verdict.require()
    assert killed == len(POINTS), "a point was not reached"
    assert not verdict.duplicated
    assert created_twice == 0


async def _added(raw: RawStore, prefix: str) -> list[str]:
    """The job of each `added` event: one for each time that one was created."""
    entries = [entry for queue in ("q", "r") for entry in await raw.xrange(f"{prefix}:{queue}:events")]
    return [fields["jobId"] for _, fields in entries if fields["event"] == "added"]


async def test_f31_two_relays_at_once_keep_the_order(
    settings: dict[str, Any], history: History, raw: RawStore, prefix: str, figure: Figure
) -> None:
    """F31: two processes relay the same backlog; nothing is created twice, and each queue has its jobs in the order of
    their acceptance.
    """
    app, *_ = make_application(settings)
    backend = backend_of(app)
    await backend.ready()
    total = 1500
    await _record(backend.database, 0, total)
    async with (
        job_process(settings, history, "relay-1", role="relay"),
        job_process(settings, history, "relay-2", role="relay"),
    ):
        await _until_handed_over(backend.database, ["q", "r"])
    reordered, created = 0, 0
    for queue in ("q", "r"):
        line = (await raw.lrange(f"{prefix}:{queue}:wait", 0, -1))[::-1]
        created += len(line)
        reordered += sum(one > other for one, other in pairwise(line))
    figure(f"{total} records, created {created}, duplicates {created - total}, reordered {reordered}")
    await app.close()
    assert (created, reordered) == (total, 0)


@pytest.mark.usefixtures("ledger_url")
async def test_f32_the_server_is_down_while_jobs_are_accepted(
    *,
    server_factory: ServerFactory,
    settings: dict[str, Any],
    history: History,
    prefix: str,
    figure: Figure,
) -> None:
    """F32, its 5 min scaled to 2 s: everything is accepted, and handed over in order, at a bounded rate, when the
    server is back.
    """
    outage, server = 2.0, server_factory()
    settings["url"] = server.url
    server.stop()
    app, task, _ = make_application(settings)
    rate = 1000.0
    async with app:
        backend = backend_of(app)
        backend.outbox._rate = rate  # pyright: ignore[reportPrivateUsage] - scaled, so that it shows
        went, accepted, slowest = time.monotonic(), 0, 0.0
        while time.monotonic() - went < outage or accepted < 1500:
            asked = time.monotonic()
            with history.enqueuing(*(names := [f"j{number:05}" for number in range(accepted, accepted + 20)])):
                await asyncio.gather(*(task.enqueue(Load(name=name)) for name in names))
            accepted, slowest = accepted + 20, max(slowest, time.monotonic() - asked)
            await asyncio.sleep(0.02)  # the pace of producers, not a wait
        server.start()
        came = time.monotonic()
        async with open_store(server) as store:
            await _until_handed_over(backend.database, ["q"])
            drain = time.monotonic() - came
            line = (await store.lrange(f"{prefix}:q:wait", 0, -1))[::-1]
        created = await _accepted_at(backend.database)
        times = [created[name] for name in line]
        reordered = sum(one > other for one, other in pairwise(times))
        async with job_process(settings, history, "worker"):
            await until_all_ended(backend.database, accepted)
            divergence = await app.compare()
            verdict = check(history, states=await statuses(backend.database), divergent=divergence.total)
    figure(
        f"backlog {accepted}, drain_s {drain:.2f} ({accepted / drain:.0f}/s of {rate:.0f} allowed), reordered {reordered}, "
        f"slowest accept {slowest:.2f} s; {verdict.summary()}"
    )
    await app.close()
    verdict.require()
    assert not verdict.duplicated
    assert reordered == 0
    assert drain >= (accepted - 500) / rate * 0.9, "it was faster than allowed"
