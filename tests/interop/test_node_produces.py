"""BullMQ adds the jobs and our worker runs them: every option that a producer on Node may set is heeded here."""

from __future__ import annotations

import json
import time

import pytest

from interop.bullmq import Bullmq
from interop.conftest import StartWorker
from support.eventually import eventually
from support.store import RawStore


async def test_a_plain_job_ends_with_its_result_as_node_reads_it(node: Bullmq, worker: StartWorker) -> None:
    job = await node.add("q", "greet", {"result": {"text": "ü 🐂", "none": None, "list": []}})

    async with worker(name="ours"):
        await node.until_state("q", job["id"], "completed")

    read = await node.queue("q", "getJob", job["id"])
    assert read["returnvalue"] == {"text": "ü 🐂", "none": None, "list": []}
    assert (read["attemptsMade"], read["attemptsStarted"], read["stalledCounter"]) == (1, 1, 0)


async def test_priority_and_lifo_set_the_order(node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str) -> None:
    await node.queue("q", "pause")
    for name, options in [
        ("third by priority", {"priority": 2_097_151}),
        ("first by priority", {"priority": 1}),
        ("second by priority", {"priority": 1}),
        ("plain", {}),
        ("newest first", {"lifo": True}),
    ]:
        await node.add("q", name, {}, jobId=name.replace(" ", "-"), **options)
    await node.queue("q", "resume")

    async with worker(concurrency=1):
        await eventually(lambda: raw.zcard(f"{prefix}:q:completed"), 10, every=0.02)
        await node.until_state("q", "third-by-priority", "completed")

    started = {
        job: int(await raw.hget(f"{prefix}:q:{job}", "processedOn") or 0)
        for job in ("newest-first", "plain", "first-by-priority", "second-by-priority", "third-by-priority")
    }
    order = [fields["jobId"] for _, fields in await raw.xrange(f"{prefix}:q:events") if fields["event"] == "active"]
    assert order == list(started), started


async def test_a_delayed_job_starts_when_it_is_due(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str
) -> None:
    async with worker():
        job = await node.add("q", "later", {}, delay=400)
        await node.until_state("q", job["id"], "completed")

    fields = await raw.hgetall(f"{prefix}:q:{job['id']}")
    assert int(fields["processedOn"]) >= int(fields["timestamp"]) + 400
    assert fields["delay"] == "0"


@pytest.mark.parametrize(
    "backoff",
    [
        30,
        {"type": "fixed", "delay": 30},
        {"type": "exponential", "delay": 15},
        {"type": "fixed", "delay": 40, "jitter": 0.5},
    ],
    ids=["number", "fixed", "exponential", "jitter"],
)
async def test_attempts_and_backoff(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, backoff: object
) -> None:
    job = await node.add("q", "flaky", {"failures": 2, "error": "näh", "result": 3}, attempts=3, backoff=backoff)

    async with worker():
        await node.until_state("q", job["id"], "completed")

    fields = await raw.hgetall(f"{prefix}:q:{job['id']}")
    assert (fields["atm"], fields["ats"], fields["failedReason"], fields["returnvalue"]) == ("3", "3", "näh", "3")
    assert len(json.loads(fields["stacktrace"])) == 2
    delays = [f for _, f in await raw.xrange(f"{prefix}:q:events") if f["event"] == "delayed"]
    assert len(delays) == 2


async def test_a_job_out_of_attempts_fails_as_node_expects(node: Bullmq, worker: StartWorker) -> None:
    await node.listen("q")
    job = await node.add("q", "bad", {"failures": 9, "error": "no\nuse"}, attempts=2, stackTraceLimit=1)

    async with worker():
        await node.until_state("q", job["id"], "failed")

    read = await node.queue("q", "getJob", job["id"])
    assert (read["failedReason"], read["attemptsMade"]) == ("no\nuse", 2)
    told = await eventually(lambda: node.seen("q", "retries-exhausted"))
    assert told == [{"jobId": job["id"], "attemptsMade": "2"}]


@pytest.mark.parametrize(
    ("option", "kept"),
    [
        ({"removeOnComplete": True}, []),
        ({"removeOnComplete": {"count": 0}}, []),
        ({"removeOnComplete": 2}, ["j3", "j4"]),
        ({"removeOnComplete": {"count": 3}}, ["j2", "j3", "j4"]),
        ({"removeOnComplete": {"age": 3600}}, ["j0", "j1", "j2", "j3", "j4"]),
        ({"removeOnComplete": False}, ["j0", "j1", "j2", "j3", "j4"]),
    ],
    ids=str,
)
async def test_what_is_kept_of_completed_jobs(
    *, node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, option: dict[str, object], kept: list[str]
) -> None:
    await node.listen("q")
    for number in range(5):
        await node.add("q", "short", {}, jobId=f"j{number}", **option)

    async with worker(concurrency=1):

        async def all_ended() -> bool:
            return len(await node.seen("q", "completed")) == 5

        await eventually(all_ended, 10)

    assert sorted(await raw.zrange(f"{prefix}:q:completed", 0, -1)) == kept
    assert sorted(key.rpartition(":")[2] for key in await raw.keys(f"{prefix}:q:j*")) == kept


async def test_failed_jobs_are_removed_by_their_own_rule(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str
) -> None:
    await node.listen("q")
    job = await node.add("q", "bad", {"failures": 1, "error": "e"}, removeOnFail=True, jobId="gone")

    async with worker():
        assert [event["jobId"] for event in await eventually(lambda: node.seen("q", "failed"), 10)] == [job["id"]]

    assert not await raw.exists(f"{prefix}:q:gone")
    assert not await raw.zcard(f"{prefix}:q:failed")


@pytest.mark.parametrize("job_id", ["order-7", "01", "1.5", "x/y", "a:b:c", "straße 9", "wait-2"])
async def test_ids_of_nodes_choice(node: Bullmq, worker: StartWorker, job_id: str) -> None:
    async with worker():
        assert (await node.add("q", "named", {"result": job_id}, jobId=job_id))["id"] == job_id
        await node.until_state("q", job_id, "completed")

    assert (await node.queue("q", "getJob", job_id))["returnvalue"] == job_id


async def test_a_bulk_of_every_kind_is_run_once_each(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str
) -> None:
    kinds = [{}, {"delay": 50}, {"priority": 3}, {"lifo": True}, {"attempts": 2, "backoff": 10}]
    jobs = [
        {"name": f"n{i}", "data": {"result": i, "failures": i % 5 // 4, "error": "once"}, "opts": kinds[i % 5]}
        for i in range(200)
    ]
    async with worker(concurrency=20):
        added = await node.queue("q", "addBulk", jobs)

        async def all_ended() -> bool:
            return await raw.zcard(f"{prefix}:q:completed") == 200

        await eventually(all_ended, 15)

    for job, number in zip(added, range(200), strict=True):
        fields = await raw.hmget(f"{prefix}:q:{job['id']}", "returnvalue", "ats")
        assert fields == [str(number), "2" if number % 5 == 4 else "1"]


async def test_extended_data_survives_the_way_through_both(node: Bullmq, worker: StartWorker) -> None:
    value = {
        "big": 9_007_199_254_740_991,
        "float": 0.1,
        "empty": {},
        "none": [None],
        "text": "\u2028\x00\\/ 🐂",
        "n": -0.5,
    }
    job = await node.add("q", "echo", {"result": value})

    async with worker():
        await node.until_state("q", job["id"], "completed")

    assert (await node.queue("q", "getJob", job["id"]))["returnvalue"] == value


async def test_a_job_with_a_timestamp_in_the_past_is_due_at_once(node: Bullmq, worker: StartWorker) -> None:
    async with worker():
        job = await node.add("q", "old", {}, timestamp=round(time.time() * 1000) - 60_000, delay=30_000)
        await node.until_state("q", job["id"], "completed", within=5)
