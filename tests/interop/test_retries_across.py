"""A job that fails in one engine and goes on in the other: both count and wait alike."""

from __future__ import annotations

import json

import pytest

from interop.sides import Side, SideName
from support.eventually import eventually
from support.store import RawStore

Sides = dict[SideName, Side]


@pytest.mark.parametrize("producer", ["node", "ours"])
@pytest.mark.parametrize("backoff", [0.0, 0.02], ids=["at once", "after a pause"])
async def test_attempts_are_counted_over_both(
    sides: Sides, raw: RawStore, prefix: str, producer: SideName, backoff: float
) -> None:
    job = await sides[producer].add({}, attempts=4, backoff=backoff)
    for made, side in enumerate(("node", "ours", "node"), 1):
        assert await eventually(sides[side].take) == job
        await sides[side].settle(job, error=f"{made} by {side}")
        assert await raw.hmget(f"{prefix}:q:{job}", "atm", "ats") == [str(made), str(made)]
        assert await raw.zcard(f"{prefix}:q:delayed") == bool(backoff)

    assert await eventually(sides["ours"].take) == job
    await sides["ours"].settle(job, result="fourth")

    fields = await raw.hgetall(f"{prefix}:q:{job}")
    assert (fields["atm"], fields["ats"], fields.get("stc"), fields["returnvalue"]) == ("4", "4", None, '"fourth"')
    traces = json.loads(fields["stacktrace"])
    assert [next(s for s in ("1 by node", "2 by ours", "3 by node") if s in trace) for trace in traces] == [
        "1 by node", "2 by ours", "3 by node",
    ]  # fmt: skip


@pytest.mark.parametrize("last", ["node", "ours"])
async def test_the_last_attempt_fails_for_good_whoever_made_it(
    sides: Sides, raw: RawStore, prefix: str, last: SideName
) -> None:
    other: SideName = "ours" if last == "node" else "node"
    job = await sides[other].add({}, attempts=2)
    assert await sides[other].take() == job
    await sides[other].settle(job, error="first")
    assert await sides[last].take() == job
    await sides[last].settle(job, error="second")

    assert await raw.zrange(f"{prefix}:q:failed", 0, -1) == [job]
    assert await raw.hmget(f"{prefix}:q:{job}", "atm", "ats", "failedReason") == ["2", "2", "second"]
