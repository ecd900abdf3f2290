"""Flows that BullMQ's FlowProducer adds, with our workers on the children, and either engine's worker on the parent.

Every failure policy, two levels of them, many children that end in one turn, and each parent released once.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from interop.bullmq import Bullmq
from interop.conftest import StartWorker
from support.eventually import eventually
from support.store import RawStore

WHO = pytest.mark.parametrize("parents_worker", ["ours", "node"])


class ParentsWorker:
    """The worker of the queue `parents`, of one engine or the other."""

    def __init__(self, kind: str, node: Bullmq, worker: StartWorker) -> None:
        self._kind, self._node = kind, node
        self._ours = worker("parents")

    async def __aenter__(self) -> None:
        if self._kind == "node":
            await self._node.worker("parents", "of parents")
        else:
            await self._ours.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        if self._kind == "node":
            await self._node.stop_worker("of parents")
        else:
            await self._ours.__aexit__(*error)


def _child(name: str, data: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return {"name": name, "queueName": "q", "data": data or {"result": name}, "opts": {"jobId": name, **options}}


def _parent(children: list[dict[str, Any]], name: str = "parent", **options: Any) -> dict[str, Any]:
    opts = {"jobId": name, **options}
    return {"name": name, "queueName": "parents", "data": {"children": True}, "opts": opts, "children": children}


async def _times(raw: RawStore, prefix: str, queue: str, event: str, job_id: str) -> int:
    return sum(
        fields["event"] == event and fields.get("jobId") == job_id
        for _, fields in await raw.xrange(f"{prefix}:{queue}:events")
    )


@WHO
async def test_children_end_in_one_turn_and_their_parent_is_released_once(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, parents_worker: str
) -> None:
    names = [f"c{number}" for number in range(50)]
    await node.flow(_parent([_child(name, {"result": {"of": name, "ü": None}}) for name in names]))

    async with ParentsWorker(parents_worker, node, worker), worker(concurrency=100):
        await node.until_state("parents", "parent", "completed")

    result = json.loads(await raw.hget(f"{prefix}:parents:parent", "returnvalue") or "")
    assert result["results"] == {f"{prefix}:q:{name}": {"of": name, "ü": None} for name in names}
    assert await _times(raw, prefix, "parents", "waiting", "parent") == 1
    assert await _times(raw, prefix, "parents", "active", "parent") == 1
    assert not await raw.exists(f"{prefix}:parents:parent:dependencies")


@WHO
async def test_a_child_without_a_policy_keeps_its_parent_waiting_until_it_is_retried(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, parents_worker: str
) -> None:
    await node.flow(_parent([_child("good"), _child("bad", {"failures": 1, "error": "no", "result": "better"})]))

    async with ParentsWorker(parents_worker, node, worker), worker():
        await node.until_state("q", "bad", "failed")
        await node.until_state("q", "good", "completed")
        assert await node.state("parents", "parent") == "waiting-children"
        await node.job("q", "bad", "retry")
        await node.until_state("parents", "parent", "completed")

    result = json.loads(await raw.hget(f"{prefix}:parents:parent", "returnvalue") or "")
    assert result == {"results": {f"{prefix}:q:good": "good", f"{prefix}:q:bad": "better"}, "ignored": {}}


@WHO
async def test_a_child_that_fails_its_parent(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, parents_worker: str
) -> None:
    bad = _child("bad", {"failures": 9, "error": "no"}, failParentOnFailure=True)
    await node.flow(_parent([bad, _child("late", delay=3_600_000)]))

    async with ParentsWorker(parents_worker, node, worker), worker():
        await node.until_state("parents", "parent", "failed")

    fields = await raw.hgetall(f"{prefix}:parents:parent")
    assert fields["failedReason"] == f"child {prefix}:q:bad failed"
    assert "returnvalue" not in fields
    assert "defa" not in fields
    assert await raw.zrange(f"{prefix}:parents:parent:unsuccessful", 0, -1) == [f"{prefix}:q:bad"]
    assert await _times(raw, prefix, "parents", "active", "parent") == 1
    assert await node.state("q", "late") == "delayed"


@WHO
async def test_a_child_that_lets_its_parent_continue_at_once(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, parents_worker: str
) -> None:
    """Released while another child is pending, the parent ends only when that one has: BullMQ refuses its result till
    then.
    """
    bad = _child("bad", {"failures": 9, "error": "nö"}, continueParentOnFailure=True)
    await node.flow(_parent([bad, _child("good")]))
    async with worker(concurrency=1):
        await node.until_state("q", "bad", "failed")
        await node.until_state("q", "good", "completed")

    async with ParentsWorker(parents_worker, node, worker):
        await node.until_state("parents", "parent", "completed")

    result = json.loads(await raw.hget(f"{prefix}:parents:parent", "returnvalue") or "")
    assert result == {"results": {f"{prefix}:q:good": "good"}, "ignored": {f"{prefix}:q:bad": "nö"}}
    assert await _times(raw, prefix, "parents", "waiting", "parent") == 1


@WHO
async def test_children_whose_failure_is_ignored(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, parents_worker: str
) -> None:
    bad = [_child(f"b{n}", {"failures": 9, "error": f"no {n}"}, ignoreDependencyOnFailure=True) for n in range(10)]
    await node.flow(_parent([*bad, _child("good")]))

    async with ParentsWorker(parents_worker, node, worker), worker(concurrency=100):
        await node.until_state("parents", "parent", "completed")

    result = json.loads(await raw.hget(f"{prefix}:parents:parent", "returnvalue") or "")
    assert result["results"] == {f"{prefix}:q:good": "good"}
    assert result["ignored"] == {f"{prefix}:q:b{n}": f"no {n}" for n in range(10)}
    assert await _times(raw, prefix, "parents", "waiting", "parent") == 1


@WHO
async def test_children_whose_failure_removes_the_link(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, parents_worker: str
) -> None:
    bad = [_child(f"b{n}", {"failures": 9, "error": "no"}, removeDependencyOnFailure=True) for n in range(3)]
    await node.flow(_parent([*bad, _child("good")]))

    async with ParentsWorker(parents_worker, node, worker), worker():
        await node.until_state("parents", "parent", "completed")

    result = json.loads(await raw.hget(f"{prefix}:parents:parent", "returnvalue") or "")
    assert result == {"results": {f"{prefix}:q:good": "good"}, "ignored": {}}


@WHO
async def test_two_levels_end_from_below(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, parents_worker: str
) -> None:
    middles = [_parent([_child(f"m{m}-c{c}") for c in range(5)], f"m{m}") for m in range(4)]
    await node.flow(_parent(middles, "top"))

    async with ParentsWorker(parents_worker, node, worker), worker(concurrency=50):
        await node.until_state("parents", "top", "completed")

    result = json.loads(await raw.hget(f"{prefix}:parents:top", "returnvalue") or "")["results"]
    assert {key: sorted(value["results"].values()) for key, value in result.items()} == {
        f"{prefix}:parents:m{m}": [f"m{m}-c{c}" for c in range(5)] for m in range(4)
    }
    for parent in ("top", "m0", "m1", "m2", "m3"):
        assert await _times(raw, prefix, "parents", "active", parent) == 1


@WHO
async def test_a_failure_climbs_two_levels(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str, parents_worker: str
) -> None:
    bad = _child("bad", {"failures": 9, "error": "no"}, failParentOnFailure=True)
    middle = _parent([bad, _child("good")], "middle", failParentOnFailure=True)
    await node.flow(_parent([middle, _child("other")], "top"))

    async with ParentsWorker(parents_worker, node, worker), worker():
        await node.until_state("parents", "top", "failed")
        await node.until_state("q", "good", "completed")
        await node.until_state("q", "other", "completed")

    assert await raw.hget(f"{prefix}:parents:middle", "failedReason") == f"child {prefix}:q:bad failed"
    assert await raw.hget(f"{prefix}:parents:top", "failedReason") == f"child {prefix}:parents:middle failed"


async def test_a_parent_and_its_children_in_one_queue_of_both_workers(
    node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str
) -> None:
    """Twenty flows at once, whose jobs go to whichever worker is free."""
    await node.worker("q", concurrency=5)
    for number in range(20):
        children = [_child(f"f{number}-c{c}", {"ms": 2, "result": c}) for c in range(10)]
        await node.flow({**_parent(children, f"f{number}"), "queueName": "q"})

    async with worker(concurrency=5):

        async def all_ended() -> bool:
            ended = await raw.zcard(f"{prefix}:q:completed")
            assert ended == 220, f"{ended} of 220 have completed"
            return True

        await eventually(all_ended, 20)

    for number in range(20):
        result = json.loads(await raw.hget(f"{prefix}:q:f{number}", "returnvalue") or "")["results"]
        assert result == {f"{prefix}:q:f{number}-c{c}": c for c in range(10)}
        assert await raw.hget(f"{prefix}:q:f{number}", "ats") == "1"
