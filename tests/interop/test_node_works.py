"""We add the jobs and BullMQ's worker runs them; and what stands in the store is what BullMQ itself would have put
there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from interop.bullmq import Bullmq
from support.eventually import eventually
from support.store import RawStore
from taurine.options import AddOptions, Dedup, JobTelemetry, Keep, Parent
from taurine.queue import Queue
from taurine.retry import Custom, Exponential, Fixed

CREATED = 1_700_000_000.123


@dataclass(frozen=True)
class SameCall:
    """One call in our words and in Node's."""

    ours: AddOptions
    node: dict[str, Any]
    data: Any = field(default_factory=lambda: {"text": "ü/🐂", "list": [], "float": 1.5})


CALLS = {
    "plain": SameCall({}, {}),
    "no data": SameCall({}, {}, data={}),
    "number data": SameCall({}, {}, data=17),
    "text data": SameCall({}, {}, data='with "quotes" and \\'),
    "id": SameCall({"job_id": "order-7"}, {"jobId": "order-7"}),
    "timestamp": SameCall({"timestamp": CREATED}, {"timestamp": 1_700_000_000_123}),
    "delay": SameCall({"delay": 3600.0}, {"delay": 3_600_000}),
    "priority": SameCall({"priority": 7}, {"priority": 7}),
    "priority and delay": SameCall({"priority": 7, "delay": 60}, {"priority": 7, "delay": 60_000}),
    "lifo": SameCall({"lifo": True}, {"lifo": True}),
    "attempts": SameCall({"attempts": 4}, {"attempts": 4}),
    "back-off, a number": SameCall({"backoff": 1.5}, {"backoff": 1500}),
    "back-off, fixed": SameCall(
        {"backoff": Fixed(1.5, jitter=0.25)}, {"backoff": {"type": "fixed", "delay": 1500, "jitter": 0.25}}
    ),
    "back-off, exponential": SameCall(
        {"backoff": Exponential(0.5)}, {"backoff": {"type": "exponential", "delay": 500}}
    ),
    "back-off, custom": SameCall({"backoff": Custom(type="mine")}, {"backoff": {"type": "mine"}}),
    "keep none": SameCall(
        {"remove_on_complete": True, "remove_on_fail": True}, {"removeOnComplete": True, "removeOnFail": True}
    ),
    "keep all": SameCall(
        {"remove_on_complete": False, "remove_on_fail": False}, {"removeOnComplete": False, "removeOnFail": False}
    ),
    "keep some": SameCall({"remove_on_complete": 5, "remove_on_fail": 0}, {"removeOnComplete": 5, "removeOnFail": 0}),
    "keep by age": SameCall(
        {"remove_on_complete": Keep(count=9, age=60, limit=3), "remove_on_fail": Keep(age=86_400)},
        {"removeOnComplete": {"count": 9, "age": 60, "limit": 3}, "removeOnFail": {"age": 86_400}},
    ),
    "logs and traces": SameCall({"keep_logs": 3, "stacktrace_limit": 2}, {"keepLogs": 3, "stackTraceLimit": 2}),
    "size limit": SameCall({"size_limit": 1000}, {"sizeLimit": 1000}),
    "deduplication": SameCall({"deduplication": "d"}, {"deduplication": {"id": "d"}}),
    "throttle": SameCall({"deduplication": Dedup("d", ttl=9.5)}, {"deduplication": {"id": "d", "ttl": 9500}}),
    "debounce": SameCall(
        {"deduplication": Dedup("d", ttl=5, extend=True, replace=True), "delay": 5},
        {"deduplication": {"id": "d", "ttl": 5000, "extend": True, "replace": True}, "delay": 5000},
    ),
    "keep the last": SameCall(
        {"deduplication": Dedup("d", keep_last_if_active=True)},
        {"deduplication": {"id": "d", "keepLastIfActive": True}},
    ),
    "telemetry": SameCall(
        {"telemetry": JobTelemetry("trace", omit_context=True)},
        {"telemetry": {"metadata": "trace", "omitContext": True}},
    ),
    "child, fail": SameCall({"on_child_failure": "fail"}, {"failParentOnFailure": True}),
    "child, continue": SameCall({"on_child_failure": "continue"}, {"continueParentOnFailure": True}),
    "child, ignore": SameCall({"on_child_failure": "ignore"}, {"ignoreDependencyOnFailure": True}),
    "child, remove": SameCall({"on_child_failure": "remove"}, {"removeDependencyOnFailure": True}),
    "child, none": SameCall({}, {}),
}


@pytest.mark.parametrize("same", CALLS.values(), ids=CALLS)
async def test_a_job_stands_in_the_store_as_node_would_have_put_it(
    *, node: Bullmq, redis_url: str, prefix: str, raw: RawStore, same: SameCall, request: pytest.FixtureRequest
) -> None:
    ours_options: AddOptions = same.ours
    node_options = same.node
    if "child" in request.node.callspec.id:
        await node.add("parents", "parent", {}, jobId="p")
        ours_options = {**ours_options, "parent": Parent("p", "parents")}
        node_options = {**node_options, "parent": {"id": "p", "queue": f"{prefix}:parents"}}

    theirs = await node.add("theirs", "name ü", same.data, **node_options)
    async with Queue("ours", redis_url, prefix=prefix) as queue:
        ours = await queue.add("name ü", same.data, **ours_options)

    assert ours.id == theirs["id"]
    assert await _stored(raw, f"{prefix}:ours:{ours.id}") == await _stored(raw, f"{prefix}:theirs:{ours.id}")
    assert await _surroundings(raw, f"{prefix}:ours:") == await _surroundings(raw, f"{prefix}:theirs:")


async def _stored(raw: RawStore, key: str) -> dict[str, Any]:
    fields: dict[str, Any] = await raw.hgetall(key)
    for name in ("data", "opts", "parent"):
        if name in fields:
            fields[name] = json.loads(fields[name])
    # Node writes `attempts: 0` where it was given none, which means what its absence means. The time is checked where it was given.
    if fields["opts"].get("attempts") == 0:
        del fields["opts"]["attempts"]
    if "timestamp" not in fields["opts"]:
        assert fields.pop("timestamp").isdecimal()
    return fields


async def _surroundings(raw: RawStore, base: str) -> dict[str, Any]:
    """What else an add leaves: where the id stands, the marker, the events. Times are left out."""
    found: dict[str, Any] = {}
    for key in sorted(await raw.keys(f"{base}*")):
        suffix, kind = key.removeprefix(base), await raw.type(key)
        if suffix in ("wait", "id"):
            found[suffix] = await raw.lrange(key, 0, -1) if kind == "list" else await raw.get(key)
        elif suffix in ("delayed", "prioritized", "marker"):
            members = await raw.zrange(key, 0, -1, withscores=True)
            found[suffix] = [member if score > 2**36 else (member, score) for member, score in members]
        elif suffix == "events":
            events = [{**fields, "delay": ""} if "delay" in fields else fields for _, fields in await raw.xrange(key)]
            found[suffix] = events
        elif suffix.startswith(("de:", "dn:")):
            found[suffix] = (await raw.get(key), await raw.pttl(key) > 0)
    return found


async def test_bullmqs_worker_runs_what_we_add(node: Bullmq, queue: Queue, raw: RawStore, prefix: str) -> None:
    await node.worker("q", concurrency=20)

    kinds: list[AddOptions] = [{}, {"delay": 0.05}, {"priority": 3}, {"lifo": True}, {"attempts": 2, "backoff": 0.01}]
    jobs = [({"result": i, "failures": i % 5 // 4, "error": "once"}, kinds[i % 5]) for i in range(200)]
    added = await queue.add_many([(f"n{i}", data, options) for i, (data, options) in enumerate(jobs)])

    async def all_ended() -> bool:
        return await raw.zcard(f"{prefix}:q:completed") == 200

    await eventually(all_ended, 15)
    for number, job in enumerate(added):
        fields = await raw.hmget(f"{prefix}:q:{job.stored_id}", "returnvalue", "ats")
        assert fields == [str(number), "2" if number % 5 == 4 else "1"]


async def test_node_passes_over_what_the_application_keeps_with_a_job(
    node: Bullmq, queue: Queue, raw: RawStore, prefix: str
) -> None:
    """It runs the job, retries it, and leaves the member and all else of the options as they were."""
    envelope = {"g": 1, "t": "acme", "list": [1.5, None, "ü"], "jobId": "not the job's"}
    job = await queue.add(
        "work",
        {"failures": 1, "error": "once", "result": "done"},
        job_id="with-envelope",
        attempts=2,
        application=json.dumps(envelope),
    )
    before = await raw.hget(f"{prefix}:q:{job.stored_id}", "opts")
    await node.worker("q")
    await node.until_state("q", "with-envelope", "completed")

    assert await raw.hget(f"{prefix}:q:with-envelope", "opts") == before
    seen = await node.queue("q", "getJob", "with-envelope")
    assert (seen["attemptsMade"], seen["returnvalue"]) == (2, "done")
    options = (await node.job("q", "with-envelope", "asJSON"))["opts"]
    assert options["taurine"] == envelope
    assert (options["attempts"], options["jobId"]) == (2, "with-envelope")
    stored = await queue.get_job("with-envelope")
    assert stored is not None
    assert stored.stored_options()["taurine"] == envelope


async def test_node_runs_a_job_that_replaced_a_finished_one(
    node: Bullmq, queue: Queue, raw: RawStore, prefix: str
) -> None:
    await node.worker("q")
    await queue.add("first", {"result": 1}, job_id="j")
    await node.until_state("q", "j", "completed")
    second = await queue.add("second", {"result": 2}, job_id="j", replace_finished=True)
    assert not second.duplicate

    async def ran_again() -> bool:
        return await raw.hget(f"{prefix}:q:j", "returnvalue") == "2"

    await eventually(ran_again, 15)
    assert await raw.hget(f"{prefix}:q:j", "ats") == "1"


async def test_node_keeps_and_removes_by_our_rules(node: Bullmq, queue: Queue, raw: RawStore, prefix: str) -> None:
    await node.worker("q")
    for number in range(4):
        await queue.add("short", {}, job_id=f"j{number}", remove_on_complete=Keep(count=2))
        await node.until_state("q", f"j{number}", "completed")
    await queue.add("bad", {"failures": 1, "error": "e"}, job_id="bad", remove_on_fail=True)

    async def gone() -> bool:
        return not await raw.exists(f"{prefix}:q:bad")

    await eventually(gone, 10)
    assert await raw.zrange(f"{prefix}:q:completed", 0, -1) == ["j2", "j3"]


@pytest.mark.parametrize("job_id", ["17", "0", "-5", "a:b", "0:x:y", "t%25", "a:b:c:d", ":", "a/b:c ü"])
async def test_ids_that_bullmq_refuses_work_there_in_their_stored_form(node: Bullmq, queue: Queue, job_id: str) -> None:
    await node.worker("q")
    job = await queue.add("named", {"result": 1}, job_id=job_id)

    await node.until_state("q", job.stored_id, "completed")

    assert job.id == job_id
    assert job.stored_id.startswith("t%")
    [listed] = await node.queue("q", "getCompleted")
    assert listed["id"] == job.stored_id
    assert (await queue.add("named", {}, job_id=job_id)).duplicate
