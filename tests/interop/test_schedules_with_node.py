"""A schedule that this application declares, as BullMQ on Node sees it, ticks it and moves it on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.reconciling import NO_UPKEEP, backend_of
from jobs.ticking import installer
from support.eventually import eventually
from support.node import NodeProcess
from support.store import RawStore
from taurine.app import Taurine
from taurine.jobs.handler.context import Context
from taurine.jobs.reconciler.follower import Follower
from taurine.ledger.records import JobRecord
from taurine.retry import Fixed, Retry


@pytest.fixture
async def app(redis_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Taurine]:
    app = Taurine("test", redis_url=redis_url, database_url=f"sqlite:///{tmp_path / 'taurine.db'}", prefix=prefix)
    app.queue("q", shared=True)
    yield app
    await app.close()


@pytest.fixture
async def node(redis_url: str, prefix: str) -> AsyncIterator[NodeProcess]:
    async with NodeProcess("schedulers.mjs", redis_url, prefix, "q") as node:
        yield node


async def asked(node: NodeProcess, action: str) -> Any:
    node.send({action: True})
    reply = await node.receive()
    assert "error" not in reply, reply
    return reply


async def make_due(raw: RawStore, prefix: str) -> str:
    """Make the next tick claimable, whatever its time is."""
    (tick,) = await raw.zrange(f"{prefix}:q:delayed", 0, -1)
    await raw.zadd(f"{prefix}:q:delayed", {tick: 4096})
    return tick


async def test_node_shows_a_schedule_and_what_it_ticks_there_is_recorded_here(
    app: Taurine, node: NodeProcess, raw: RawStore, prefix: str
) -> None:
    """P9, SEED-141: also the tick after one that Node has run is known for our own."""
    ran: list[str] = []

    @app.cron("0 3 * * *", tz="Europe/Berlin", id="report", queue="q", retry=Retry(attempts=4, backoff=Fixed(2.0)))
    async def report(ctx: Context) -> str:
        ran.append(ctx.job_id)
        return "sent"

    await installer(app).run_once()

    (shown,) = (await asked(node, "list"))["schedulers"]
    assert (shown["key"], shown["name"], shown["pattern"], shown["tz"]) == (
        "report",
        "report",
        "0 3 * * *",
        "Europe/Berlin",
    )
    (info,) = await app.schedules.list()
    assert info.next_run is not None
    assert shown["next"] == round(info.next_run.timestamp() * 1000)
    assert shown["template"]["opts"]["attempts"] == 4

    await app.migrate()
    follower = Follower("q", backend=backend_of(app))
    first = await make_due(raw, prefix)
    await follower.run_once()
    assert await app.get(first) is None, "a tick that may still be replaced has no record"
    assert (await asked(node, "run"))["id"] == first
    await follower.run_once()
    await follower.stop()
    _is_tick(await app.get(first), output="done")

    second = await make_due(raw, prefix)
    assert second != first
    # Installing would put the tick back to its own time.
    async with app.worker(upkeep=replace(NO_UPKEEP, install_every=None)):

        async def completed() -> bool:
            record = await app.get(second)
            return record is not None and record.status == "completed"

        await eventually(completed, 20, "it did not run here")
    _is_tick(await app.get(second), output="sent")
    assert ran == [second]


def _is_tick(record: JobRecord | None, *, output: str) -> None:
    assert record is not None
    assert (record.status, record.output, record.source) == ("completed", output, "schedule")
    assert (record.created_by, record.max_attempts) == ("schedule:report", 4)
    assert record.scheduled_for is not None
    assert record.id.endswith(f":{round(record.scheduled_for.timestamp() * 1000)}")
