"""Data of another type, or out of range, where a queue's own keys and ids belong: one job suffers, and nothing else
(A21).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.site import Site
from taurine.errors import CorruptJob, JobNotFound, ParentNotFound
from taurine.options import Dedup, Parent
from taurine.queue import Job

# Stalled jobs ---------------------------------------------------------------------------------------------------------------


async def sweep_after_a_crash(site: Site, claimed: int) -> list[str]:
    """Put back what was claimed by workers that are gone: one sweep suspects, the next one acts."""
    worker = site.worker(None)
    await site.raw.delete(*(site.keys.lock(str(number + 1)) for number in range(claimed)))
    await worker.recover_stalled()
    await site.raw.delete(site.keys.key("stalled-check"))
    return await worker.recover_stalled()


@pytest.mark.parametrize("count", ["x", "", "9223372036854775807"])
async def test_a_stalled_job_whose_count_is_no_number_is_put_back(site: Site, count: str) -> None:
    await site.queue.add_many([("a", {})] * 3)
    hand = site.worker(None)
    for _ in range(3):
        assert await hand.fetch() is not None
    await site.raw.hset(site.keys.job("1"), "stc", count)

    await sweep_after_a_crash(site, 3)
    assert await site.counts() == {"wait": 3}
    assert (await site.hash("1"))["stc"] == "1"


async def test_a_stalled_id_whose_key_is_no_hash_leaves_active_and_stops_nobody(site: Site) -> None:
    await site.queue.add_many([("a", {})] * 3)
    hand = site.worker(None)
    for _ in range(3):
        assert await hand.fetch() is not None
    await site.raw.delete(site.keys.job("2"))
    await site.raw.set(site.keys.job("2"), "text")

    await sweep_after_a_crash(site, 3)
    assert await site.counts() == {"wait": 2}
    assert await site.raw.get(site.keys.job("2")) == "text"


# Adding ---------------------------------------------------------------------------------------------------------------------


async def add_between_others(site: Site, **options: Any) -> list[Job | BaseException]:
    """The outcomes of three adds that share a script call; the middle one has these options."""
    adds = (site.queue.add("before"), site.queue.add("odd", **options), site.queue.add("after"))
    return list(await asyncio.gather(*adds, return_exceptions=True))


@pytest.mark.parametrize(
    ("spoilt", "options"),
    [
        ("x", {"job_id": "x"}),
        ("de:d", {"deduplication": "d"}),
        ("de:d", {"deduplication": Dedup("d", keep_last_if_active=True)}),
        ("p:dependencies", {"parent": Parent("p", "q")}),
        ("2", {"deduplication": "d"}),
        ("2", {}),
    ],
)
async def test_a_key_of_another_type_keeps_out_the_job_that_needs_it_alone(
    site: Site, spoilt: str, options: dict[str, Any]
) -> None:
    if "parent" in options:
        await site.raw.hset(site.keys.job("p"), mapping={"name": "p", "timestamp": "1"})
    await site.raw.lpush(site.keys.key(spoilt), "an element")
    before, odd, after = await add_between_others(site, **options)

    assert isinstance(odd, CorruptJob), odd
    assert "another type" in str(odd)
    assert isinstance(before, Job), before
    assert isinstance(after, Job), after
    assert await site.line() == [before.id, after.id]
    assert await site.raw.type(site.keys.key(spoilt)) == "list"
    left = {key.removeprefix(site.keys.base) for key in await site.raw.keys(f"{site.keys.base}*")}
    assert left - {"meta", "id", "events", "marker", "wait", "p"} == {before.id, after.id, spoilt}


async def test_a_parent_that_is_no_job_is_not_found(site: Site) -> None:
    await site.raw.set(site.keys.job("p"), "text")
    before, odd, after = await add_between_others(site, parent=Parent("p", "q"))
    assert isinstance(odd, ParentNotFound)
    assert [job.id for job in (before, after) if isinstance(job, Job)] == await site.line()
    assert await site.raw.exists(site.keys.job("p:dependencies")) == 0


async def test_a_finished_child_is_not_attached_to_a_parent_that_cannot_hold_its_result(site: Site) -> None:
    await site.raw.hset(site.keys.job("p"), mapping={"name": "p", "timestamp": "1"})
    await site.raw.set(site.keys.job("p:processed"), "text")
    await site.queue.add("child", job_id="c")
    _, odd, after = await add_between_others(site, job_id="c", parent=Parent("p", "q"))
    assert isinstance(odd, CorruptJob)
    assert isinstance(after, Job)
    assert "parentKey" not in await site.hash("c")


@pytest.mark.parametrize("dedup", [Dedup("d", replace=True), Dedup("d", reschedule=True), Dedup("d", extend=True)])
@pytest.mark.parametrize("ttl", [None, 60.0])
async def test_an_owner_of_a_deduplication_id_that_is_no_job_stops_nobody(
    site: Site, dedup: Dedup, ttl: float | None
) -> None:
    await site.raw.set(site.keys.job("owner"), "text")
    await site.raw.set(site.keys.deduplication("d"), "owner", px=None if ttl is None else int(ttl * 1000))
    outcomes = await add_between_others(site, deduplication=dedup)
    assert [type(outcome) for outcome in outcomes] == [Job, Job, Job], outcomes
    odd = outcomes[1]
    assert isinstance(odd, Job)
    assert odd.duplicate == (ttl is not None)


async def test_a_delayed_owner_is_replaced_whatever_its_parents_keys_hold(site: Site) -> None:
    await site.raw.hset(site.keys.job("p"), mapping={"name": "p", "timestamp": "1"})
    await site.queue.add("owner", job_id="owner", delay=60, deduplication="d")
    link = f'{{"id":"p","queueKey":"{site.keys.qualified}"}}'
    await site.raw.hset(site.keys.job("owner"), mapping={"parentKey": site.keys.job("p"), "parent": link})
    await site.raw.set(site.keys.job("p:dependencies"), "text")
    outcomes = await add_between_others(site, deduplication=Dedup("d", replace=True))
    assert [type(outcome) for outcome in outcomes] == [Job, Job, Job], outcomes
    assert await site.counts() == {"wait": 3}


@pytest.mark.parametrize("spoilt", ["de:d", "dn:d"])
async def test_a_deduplication_key_of_another_type_does_not_keep_its_job_from_ending(site: Site, spoilt: str) -> None:
    async def handler(job: Job) -> None:
        await site.raw.delete(site.keys.key(spoilt))
        await site.raw.lpush(site.keys.key(spoilt), "an element")

    await site.queue.add("work", deduplication="d")
    async with site.working(handler):
        await site.until(completed=1)
    assert await site.queue.remove("1")
    assert await site.raw.exists(site.keys.job("1")) == 0


async def test_a_limit_that_is_no_number_is_no_limit(site: Site) -> None:
    await site.raw.hset(site.keys.meta, "concurrency", "abc")
    await site.queue.add("work")
    assert await site.line() == ["1"]
    assert await site.raw.zscore(site.keys.marker, "0") == 0


# What an add returns --------------------------------------------------------------------------------------------------------


async def test_a_job_that_was_just_added_knows_its_parent_and_its_deduplication_id(site: Site) -> None:
    parent = await site.queue.add("parent")
    child = await site.queue.add("child", parent=Parent(parent.id, "q"))
    alone = await site.queue.add("alone", deduplication="d")
    plain = await site.queue.add("plain")
    for added in (child, alone, plain):
        stored = await site.queue.get_job(added.id)
        assert stored is not None
        assert (added.parent, added.parent_key, added.deduplication_id) == (
            stored.parent,
            stored.parent_key,
            stored.deduplication_id,
        )
    assert child.parent == Parent(parent.id, "q", site.keys.prefix)
    assert alone.deduplication_id == "d"


# Ids ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_id", ["\ud800", None, 7])
async def test_an_id_that_no_job_can_have_is_not_found_and_cuts_no_link(site: Site, job_id: Any) -> None:
    queue = site.queue
    await queue.add("work")
    number = await site.connection.call("CLIENT", "ID")
    assert await queue.get_job(job_id) is None
    assert await queue.state(job_id) == "unknown"
    assert await queue.remove(job_id) is False
    assert (await queue.logs(job_id)).total == 0
    with pytest.raises(JobNotFound):
        await queue.update_progress(job_id, 1)
    assert await site.connection.call("CLIENT", "ID") == number
