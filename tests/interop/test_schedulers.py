"""One scheduler, two engines: BullMQ on Node and Taurine make, advance, read and remove each other's schedulers.

BMQ-119 to BMQ-128. Node has the machine's clock, so ours stands where Node's was, and runs are made due by moving their
score.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from support.claims import ByHand
from support.node import NodeProcess
from taurine.options import Keep
from taurine.queue.connection import Connection
from taurine.queue.cron import next_fire_ms
from taurine.queue.keys import QueueKeys
from taurine.queue.queue import Queue
from taurine.queue.scheduler import Schedule
from taurine.retry import Fixed
from taurine.testing import TestClock

HOUR_MS = 3_600_000


class Shared:
    """One queue and both engines on it."""

    def __init__(self, node: NodeProcess, raw: Redis, connection: Connection, keys: QueueKeys) -> None:
        self.raw = raw
        self.keys = keys
        self.clock = TestClock()
        self.queue = Queue(keys.name, connection, prefix=keys.prefix, clock=self.clock)
        self.worker = ByHand(keys, connection, self.clock)
        self._node = node

    async def node(self, action: str, value: Any = True, **more: Any) -> Any:
        self._node.send({action: value, **more})
        reply = await self._node.receive()
        assert "error" not in reply, reply
        return reply

    async def armed(self) -> str:
        """The id of the one run in line."""
        line: list[Any] = [
            *await self.raw.zrange(self.keys.delayed, 0, -1),
            *await self.raw.lrange(self.keys.wait, 0, -1),
        ]
        assert len(line) == 1
        return line[0]

    async def make_due(self) -> str:
        """Make the next run claimable whatever its time is."""
        run = await self.armed()
        if await self.raw.zscore(self.keys.delayed, run) is not None:
            await self.raw.zadd(self.keys.delayed, {run: 4096})
        return run

    async def options(self, run: str) -> dict[str, Any]:
        return json.loads(await self.raw.hget(self.keys.job(run), "opts") or "null")

    async def run_here(self) -> str:
        await self.make_due()
        job = await self.worker.run()
        assert job is not None
        return job.id

    async def run_there(self) -> str:
        await self.make_due()
        return (await self.node("run"))["id"]


@pytest.fixture
async def shared(redis_url: str, redis_socket_url: str, prefix: str, raw: Redis) -> AsyncIterator[Shared]:
    connection = Connection(redis_socket_url)
    async with NodeProcess("schedulers.mjs", redis_url, prefix, "q") as node:
        yield Shared(node, raw, connection, QueueKeys("q", prefix))
    await connection.close()


def due_ms(run: str) -> int:
    return int(run.rpartition(":")[2])


SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "every": ({"every": HOUR_MS}, {"every": 3600.0}),
    "every, offset": ({"every": HOUR_MS, "offset": 7000}, {"every": 3600.0, "offset": 7.0}),
    "every, start, end, limit": (
        {"every": HOUR_MS, "startDate": 2_000_000_000_123, "endDate": 2_000_100_000_000, "limit": 5},
        {"every": 3600.0, "start": 2_000_000_000.123, "end": datetime.fromtimestamp(2_000_100_000, UTC), "limit": 5},
    ),
    "pattern": ({"pattern": "0 9 * * *", "tz": "Europe/Berlin"}, {"pattern": "0 9 * * *", "tz": "Europe/Berlin"}),
    "pattern, start, limit": (
        {"pattern": "*/10 * * * * *", "tz": "UTC", "startDate": 2_000_000_000_000, "limit": 3},
        {"pattern": "*/10 * * * * *", "tz": "UTC", "start": 2_000_000_000.0, "limit": 3},
    ),
    "pattern, end": (
        {"pattern": "0 0 1 1 *", "tz": "America/New_York", "endDate": 2_000_000_000_000},
        {"pattern": "0 0 1 1 *", "tz": "America/New_York", "end": 2_000_000_000},
    ),
    "pattern, immediately": (
        {"pattern": "0 0 1 1 *", "tz": "UTC", "immediately": True},
        {"pattern": "0 0 1 1 *", "tz": "UTC", "immediately": True},
    ),
}
TEMPLATE: tuple[dict[str, Any], dict[str, Any]] = (
    {
        "name": "report",
        "data": {"to": ["ä", 1.5, None]},
        "opts": {
            "attempts": 3,
            "backoff": {"type": "fixed", "delay": 2000},
            "priority": 4,
            "removeOnComplete": {"count": 5},
            "keepLogs": 3,
        },
    },
    {
        "name": "report",
        "data": {"to": ["ä", 1.5, None]},
        "attempts": 3,
        "backoff": Fixed(2.0),
        "priority": 4,
        "remove_on_complete": Keep(count=5),
        "keep_logs": 3,
    },
)


def timeless(value: Any, now: float) -> Any:
    """`value` with every time near `now`, in ms, replaced by a word: the two engines work at different moments."""
    if isinstance(value, dict):
        return {name: timeless(entry, now) for name, entry in value.items()}
    if isinstance(value, list):
        return [timeless(entry, now) for entry in value]
    if isinstance(value, str) and value.startswith("repeat:"):
        head, _, number = value.rpartition(":")
        return f"{head}:{timeless(float(number), now)}"
    if isinstance(value, str) and value.isdecimal():
        value = float(value)
    return "now" if isinstance(value, int | float) and abs(value - now) < 5000 else value


async def everything(raw: Any, keys: QueueKeys, now: float) -> dict[str, Any]:
    """What an upsert on an empty queue has left behind, without what only the moment decides."""
    ((_, due),) = await raw.zrange(keys.schedulers, 0, -1, withscores=True)
    run = f"repeat:s:{int(due)}"
    record, job = await raw.hgetall(keys.scheduler("s")), await raw.hgetall(keys.job(run))
    record["opts"], job["opts"] = json.loads(record.get("opts", "{}")), json.loads(job["opts"])
    # A delay counts from the moment; it must lead to the due time.
    delays = (int(job.pop("delay")), int(job["opts"].pop("delay")))
    assert {timeless(int(job["timestamp"]) + delay, due) for delay in delays} == {"now"}
    # The phase of an interval that starts at once is the moment's.
    if "every" in record and abs(due - now) < 5000:
        assert int(record.pop("offset")) == due % int(record["every"])
    found = {
        "due": due,
        "record": record,
        "job": job,
        "delayed": [[run, int(score // 4096)] for run, score in await raw.zrange(keys.delayed, 0, -1, withscores=True)],
        "wait": await raw.lrange(keys.wait, 0, -1),
        "prioritized": [list(entry) for entry in await raw.zrange(keys.prioritized, 0, -1, withscores=True)],
        "marker": [list(entry) for entry in await raw.zrange(keys.marker, 0, -1, withscores=True)],
        "events": [fields for _, fields in await raw.xrange(keys.events)],
        "id": await raw.get(keys.key("id")),
        "keys": len(await raw.keys(f"{keys.base}*")),
        "meta": await raw.hgetall(keys.meta),
    }
    return timeless(found, now)


@pytest.mark.parametrize("templated", [False, True], ids=["plain", "template"])
@pytest.mark.parametrize("schedule", SCHEDULES)
async def test_both_write_the_same_for_the_same_upsert(shared: Shared, schedule: str, templated: bool) -> None:
    """BMQ-119 to BMQ-124: record, job and line, field by field."""
    theirs, ours = SCHEDULES[schedule]
    nothing: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    template, options = TEMPLATE if templated else nothing
    now = time.time() * 1000

    await shared.node("upsert", "s", repeat=theirs, template=template)
    by_node = await everything(shared.raw, shared.keys, now)
    # What Node's Queue wrote into meta when it was made is not the upsert's.
    left = await shared.raw.keys(f"{shared.keys.base}*")
    await shared.raw.delete(*(key for key in left if key != shared.keys.meta))
    await shared.queue.upsert_scheduler("s", **ours, **options)

    assert await everything(shared.raw, shared.keys, now) == by_node


@pytest.mark.parametrize("maker", ["node", "here"])
@pytest.mark.parametrize("schedule", ["every", "every, offset", "pattern", "pattern, start, limit"])
async def test_runs_alternate_between_the_engines(shared: Shared, maker: str, schedule: str) -> None:
    """BMQ-120, BMQ-121, BMQ-123, BMQ-126: same times whoever advances, and the limit ends the series."""
    limit: dict[str, Any] = {"limit": 6}
    theirs, ours = (entry | limit for entry in SCHEDULES[schedule])
    if maker == "node":
        await shared.node("upsert", "s", repeat=theirs, template={"data": {"n": 1}})
    else:
        await shared.queue.upsert_scheduler("s", **ours, data={"n": 1})
    first = due_ms(await shared.armed())
    expected = [first]
    if "pattern" in theirs:
        while len(expected) < 6:
            expected.append(next_fire_ms(theirs["pattern"], after_ms=expected[-1], tz=theirs["tz"]) or 0)
    else:
        expected = [first + n * HOUR_MS for n in range(6)]

    found: list[int] = []
    counts: list[Any] = []
    for turn in range(6):
        options = await shared.options(await shared.armed())
        counts.append(options["repeat"]["count"])
        found.append(due_ms(await (shared.run_there() if turn % 2 else shared.run_here())))

    assert found == expected
    assert counts == [1, 2, 3, 4, 5, 6]
    assert await shared.raw.zcard(shared.keys.delayed) == await shared.raw.llen(shared.keys.wait) == 0


async def test_options_survive_being_handed_to_and_fro(shared: Shared) -> None:
    """BMQ-124: name, data and every member of the template are the same after three handovers."""
    template, _ = TEMPLATE
    await shared.node("upsert", "s", repeat={"pattern": "0 9 * * *", "tz": "UTC"}, template=template)
    first = await shared.options(await shared.armed())
    for turn in range(4):
        await (shared.run_there() if turn % 2 else shared.run_here())

    last_id = await shared.armed()
    last = await shared.options(last_id)
    moving = ("jobId", "timestamp", "delay", "prevMillis", "repeat")
    assert {name: value for name, value in last.items() if name not in moving} == {
        name: value for name, value in first.items() if name not in moving
    }
    assert (last["jobId"], last["prevMillis"]) == (last_id, due_ms(last_id))
    assert last["repeat"] == {**first["repeat"], "count": 5}
    job = await shared.raw.hgetall(shared.keys.job(last_id))
    assert (job["name"], json.loads(job["data"]), job["priority"]) == ("report", template["data"], "4")
    assert (await shared.raw.hget(shared.keys.scheduler("s"), "ic")) == "5"


async def test_a_deduplication_id_of_a_template_goes_on(shared: Shared) -> None:
    """BMQ-124: Node allows one, and writes it into every run."""
    template = {"opts": {"deduplication": {"id": "d"}}}
    await shared.node("upsert", "s", repeat={"pattern": "0 9 * * *", "tz": "UTC"}, template=template)

    await shared.run_here()

    armed = await shared.armed()
    assert await shared.raw.hget(shared.keys.job(armed), "deid") == "d"
    assert (await shared.options(armed))["de"] == {"id": "d"}


@pytest.mark.parametrize("schedule", ["every", "pattern"])
async def test_a_retried_run_does_not_advance_twice(shared: Shared, schedule: str) -> None:
    """BMQ-126: claimed on one side, retried on the other."""
    await shared.node("upsert", "s", repeat=SCHEDULES[schedule][0], template={"opts": {"attempts": 3}})
    await shared.make_due()
    run = (await shared.node("claim"))["id"]
    armed = await shared.raw.zrange(shared.keys.delayed, 0, -1)
    await shared.node("retry", run)

    job = await shared.worker.start()
    assert job is not None
    assert job.id == run
    await shared.worker.retry(job)
    assert (await shared.node("run"))["id"] == run

    assert await shared.raw.zrange(shared.keys.delayed, 0, -1) == armed
    assert len(armed) == 1


async def test_each_reads_the_other_ones_schedulers(shared: Shared) -> None:
    """BMQ-128."""
    await shared.node("upsert", "theirs", repeat=SCHEDULES["every, start, end, limit"][0], template=TEMPLATE[0])
    await shared.queue.upsert_scheduler("ours", **SCHEDULES["every, start, end, limit"][1], **TEMPLATE[1])

    ours, theirs = await shared.queue.schedulers()
    assert (ours.id, theirs.id) == ("ours", "theirs")
    assert (
        theirs.schedule
        == ours.schedule
        == Schedule(every=3600.0, start=2_000_000_000.123, end=2_000_100_000.0, limit=5, offset=ours.offset)
    )
    for name in ("name", "next_at", "data", "iterations"):
        assert getattr(theirs, name) == getattr(ours, name)
    assert theirs.options.attempts == ours.options.attempts == 3

    listed = (await shared.node("list"))["schedulers"]
    assert [entry.pop("key") for entry in listed] == ["ours", "theirs"]
    assert listed[0] == listed[1]


async def test_each_removes_the_other_ones_schedulers(shared: Shared) -> None:
    """BMQ-128."""
    await shared.node("upsert", "theirs", repeat={"every": HOUR_MS, "offset": 1000}, template={})
    await shared.queue.upsert_scheduler("ours", every=3600.0, offset=1.0)

    assert await shared.queue.remove_scheduler("theirs")
    assert (await shared.node("remove", "ours"))["removed"]

    assert await shared.raw.keys(f"{shared.keys.base}repeat*") == []
    assert await shared.raw.zcard(shared.keys.delayed) == 0


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
async def test_each_changes_the_other_ones_schedulers(shared: Shared, paused: bool) -> None:
    """BMQ-119: also on a paused queue, where BullMQ itself would arm a second run beside one that waits."""
    await shared.node("upsert", "s", repeat={"every": HOUR_MS}, template={})
    if paused:
        await shared.raw.hset(shared.keys.meta, "paused", "1")

    ours = await shared.queue.upsert_scheduler("s", pattern="0 0 1 1 *", tz="UTC")
    assert await shared.armed() == ours.id
    await shared.node("upsert", "s", repeat={"every": HOUR_MS, "offset": 1000}, template={})

    assert (due_ms(await shared.armed()) - 1000) % HOUR_MS == 0
    assert await shared.queue.count_schedulers() == 1
