"""Deduplication across both engines: one adds, the other is refused or finishes, and both read the same keys alike."""

from __future__ import annotations

import json
from typing import cast

import pytest

from interop.sides import Side, SideName
from support.eventually import eventually
from support.store import RawStore
from taurine.options import Dedup

Sides = dict[SideName, Side]

ACROSS = pytest.mark.parametrize(
    ("first", "other"), [("node", "ours"), ("ours", "node")], ids=["node-first", "ours-first"]
)


@ACROSS
async def test_the_owner_keeps_others_out_until_it_ends(
    sides: Sides, raw: RawStore, prefix: str, first: SideName, other: SideName
) -> None:
    owner = await sides[first].add({"n": 1}, dedup=Dedup("d"))
    assert await sides[other].add({"n": 2}, dedup=Dedup("d")) == owner
    assert await sides[first].add({"n": 3}, dedup=Dedup("d")) == owner

    assert await sides[other].take() == owner
    assert await sides[first].add({"n": 4}, dedup=Dedup("d")) == owner
    await sides[other].settle(owner)

    assert not await raw.exists(f"{prefix}:q:de:d")
    assert await sides[first].add({"n": 5}, dedup=Dedup("d")) != owner


@ACROSS
async def test_a_retry_keeps_the_id_and_the_last_failure_frees_it(
    sides: Sides, raw: RawStore, prefix: str, first: SideName, other: SideName
) -> None:
    owner = await sides[first].add({}, attempts=2, dedup=Dedup("d"))

    assert await sides[other].take() == owner
    await sides[other].settle(owner, error="once")
    assert await sides[first].add({}, dedup=Dedup("d")) == owner
    assert await sides[other].take() == owner
    await sides[other].settle(owner, error="twice")

    assert not await raw.exists(f"{prefix}:q:de:d")


@ACROSS
async def test_a_throttle_outlives_its_job(
    sides: Sides, raw: RawStore, prefix: str, first: SideName, other: SideName
) -> None:
    owner = await sides[first].add({}, dedup=Dedup("d", ttl=60))
    assert await sides[other].take() == owner
    await sides[other].settle(owner)

    assert await sides[other].add({}, dedup=Dedup("d", ttl=60)) == owner
    assert 0 < await raw.pttl(f"{prefix}:q:de:d") <= 60_000
    await raw.pexpire(f"{prefix}:q:de:d", 1)

    async def let_in() -> bool:
        return await sides[other].add({}, dedup=Dedup("d", ttl=60)) != owner

    await eventually(let_in)


@ACROSS
async def test_a_refused_add_extends_the_throttle(
    sides: Sides, raw: RawStore, prefix: str, first: SideName, other: SideName
) -> None:
    owner = await sides[first].add({}, dedup=Dedup("d", ttl=10, extend=True))
    assert await sides[other].add({}, dedup=Dedup("d", ttl=60, extend=True)) == owner

    assert await raw.pttl(f"{prefix}:q:de:d") > 10_000


@ACROSS
async def test_a_debounce_replaces_the_delayed_job(
    sides: Sides, raw: RawStore, prefix: str, first: SideName, other: SideName
) -> None:
    debounce = Dedup("d", ttl=60, replace=True, extend=True)
    old = await sides[first].add({"n": 1}, delay=60, dedup=debounce)
    new = await sides[other].add({"n": 2}, delay=60, dedup=debounce)
    newest = await sides[first].add({"n": 3}, delay=0.001, dedup=debounce)

    assert len({old, new, newest}) == 3
    assert not await raw.exists(f"{prefix}:q:{old}", f"{prefix}:q:{new}")
    assert await eventually(sides[other].take) == newest
    assert json.loads(await raw.hget(f"{prefix}:q:{newest}", "data") or "") == {"n": 3}
    assert await sides[other].add({"n": 4}, delay=60, dedup=debounce) == newest, "an active job is not replaced"
    await sides[other].settle(newest)
    assert not await raw.zcard(f"{prefix}:q:delayed")


@ACROSS
async def test_a_refused_add_reschedules_the_delayed_job(
    sides: Sides, raw: RawStore, prefix: str, first: SideName, other: SideName
) -> None:
    dedup = Dedup("d", reschedule=True)
    owner = await sides[first].add({"n": 1}, delay=60, dedup=dedup)

    assert await sides[other].add({"n": 2}, delay=0.001, dedup=dedup) == owner

    assert await eventually(sides[first].take) == owner
    assert json.loads(await raw.hget(f"{prefix}:q:{owner}", "data") or "") == {"n": 1}
    await sides[first].settle(owner)


@ACROSS
@pytest.mark.parametrize("finisher", ["node", "ours"])
async def test_the_last_add_to_an_active_job_follows_it(
    *, sides: Sides, raw: RawStore, prefix: str, first: SideName, other: SideName, finisher: SideName
) -> None:
    dedup = Dedup("d", keep_last_if_active=True)
    owner = await sides[first].add({"n": 1}, dedup=dedup)
    assert await sides[finisher].take() == owner
    for side, number in cast("list[tuple[SideName, int]]", [(other, 2), (first, 3), (other, 4)]):
        assert await sides[side].add({"n": number}, dedup=dedup) == owner

    await sides[finisher].settle(owner, result="first")

    follower = await sides[other].take()
    assert follower not in (None, owner)
    assert json.loads(await raw.hget(f"{prefix}:q:{follower}", "data") or "") == {"n": 4}
    assert await raw.get(f"{prefix}:q:de:d") == follower
    assert await raw.hget(f"{prefix}:q:{owner}", "returnvalue") == '"first"'
    await sides[other].settle(follower or "")
    assert not await raw.keys(f"{prefix}:q:d[en]:*")
    assert await sides[first].take() is None
