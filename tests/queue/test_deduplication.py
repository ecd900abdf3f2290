"""One job per deduplication id, in all modes: BMQ-030 to BMQ-037."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from support.site import Site
from taurine.errors import InvalidOption
from taurine.options import Dedup, Parent
from taurine.queue import Job, Queue, Worker
from taurine.testing import TestClock

THROTTLE = Dedup("x", ttl=60)
DEBOUNCE = Dedup("x", ttl=5, extend=True, replace=True)
LAST = Dedup("x", keep_last_if_active=True)


async def fetched(hand: Worker) -> Job:
    job = await hand.fetch()
    assert job is not None
    return job


async def events_of(raw: Redis, prefix: str, *names: str) -> list[dict[str, str]]:
    entries: Any = await raw.xrange(f"{prefix}:q:events")
    return [fields for _, fields in entries if fields["event"] in names]


async def everything_waiting(queue: Queue) -> list[Any]:
    return [job.data for job in await queue.get_jobs(("waiting", "prioritized", "delayed"), ascending=True)]


# Simple -----------------------------------------------------------------------------------------------------------------------


async def test_a_second_job_is_refused_until_the_first_has_completed(queue: Queue, hand: Worker) -> None:
    """BMQ-030: waiting and active alike."""
    first = await queue.add("n", 1, deduplication="x")
    while_waiting = await queue.add("n", 2, deduplication="x")
    job = await fetched(hand)
    while_active = await queue.add("n", 3, deduplication="x")
    await hand.complete(job)
    after = await queue.add("n", 4, deduplication="x")
    assert [(job.id == first.id, job.duplicate) for job in (while_waiting, while_active)] == [(True, True)] * 2
    assert not after.duplicate
    assert await everything_waiting(queue) == [4]


async def test_a_retry_does_not_free_the_id_and_a_final_failure_does(queue: Queue, hand: Worker) -> None:
    """BMQ-030."""
    await queue.add("n", 1, deduplication="x", attempts=2)
    await hand.fail(await fetched(hand), ValueError("first"))
    assert (await queue.add("n", 2, deduplication="x")).duplicate
    await hand.fail(await fetched(hand), ValueError("second"))
    assert not (await queue.add("n", 3, deduplication="x")).duplicate


async def test_a_removed_job_frees_its_id(queue: Queue) -> None:
    """BMQ-030."""
    first = await queue.add("n", deduplication="x")
    await first.remove()
    assert not (await queue.add("n", deduplication="x")).duplicate


@pytest.mark.parametrize("keep", [True, 0])
async def test_a_job_that_is_removed_as_it_ends_frees_its_id(queue: Queue, hand: Worker, keep: bool | int) -> None:
    """BMQ-030."""
    await queue.add("n", deduplication="x", remove_on_complete=keep)
    await hand.complete(await fetched(hand))
    assert not (await queue.add("n", deduplication="x")).duplicate


async def test_an_owner_that_vanished_does_not_block_for_ever(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-030: some tools delete a job's hash and forget the rest."""
    first = await queue.add("n", deduplication="x")
    await raw.delete(f"{prefix}:q:{first.id}")
    second = await queue.add("n", deduplication="x")
    assert not second.duplicate
    assert await raw.get(f"{prefix}:q:de:x") == second.id


async def test_jobs_of_one_list_see_each_other(queue: Queue) -> None:
    """BMQ-030 inside one script call, in order."""
    options: Any = {"deduplication": "x"}
    jobs = await queue.add_many([("n", 1, options), ("n", 2), ("n", 3, options), ("n", 4, {"deduplication": "y"})])
    assert [job.duplicate for job in jobs] == [False, False, True, False]
    assert await everything_waiting(queue) == [1, 2, 4]


async def test_concurrent_adds_leave_one_job(redis_socket_url: str, prefix: str) -> None:
    """BMQ-030: from several connections at once."""
    queues = [Queue("q", redis_socket_url, prefix=prefix) for _ in range(4)]
    jobs = await asyncio.gather(*(queue.add("n", deduplication="x") for queue in queues for _ in range(25)))
    assert sum(not job.duplicate for job in jobs) == 1
    assert len({job.id for job in jobs}) == 1
    for queue in queues:
        await queue.close()


# Throttle ---------------------------------------------------------------------------------------------------------------------


async def test_a_throttle_outlives_the_job_and_ends_by_itself(
    queue: Queue, hand: Worker, raw: Redis, prefix: str
) -> None:
    """BMQ-031."""
    first = await queue.add("n", 1, deduplication=Dedup("x", ttl=0.25))
    await hand.complete(await fetched(hand))
    inside = await queue.add("n", 2, deduplication=Dedup("x", ttl=0.25))
    assert (inside.id, inside.duplicate) == (first.id, True)

    async def expired() -> bool:
        return not await raw.exists(f"{prefix}:q:de:x")

    await eventually(expired, message="the throttle does not expire")
    assert not (await queue.add("n", 3, deduplication=Dedup("x", ttl=0.25))).duplicate


async def test_a_refused_job_does_not_prolong_a_plain_throttle(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-031."""
    await queue.add("n", deduplication=Dedup("x", ttl=10))
    await queue.add("n", deduplication=Dedup("x", ttl=1000))
    assert await raw.pttl(f"{prefix}:q:de:x") <= 10_000


async def test_an_extended_throttle_starts_anew_with_each_refused_job(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-031."""
    first = await queue.add("n", deduplication=Dedup("x", ttl=10))
    await queue.add("n", deduplication=Dedup("x", ttl=1000, extend=True))
    assert await raw.pttl(f"{prefix}:q:de:x") > 900_000
    assert await raw.get(f"{prefix}:q:de:x") == first.id


# Debounce ---------------------------------------------------------------------------------------------------------------------


async def test_a_burst_leaves_one_job_with_the_last_data(queue: Queue, hand: Worker, clock: TestClock) -> None:
    """BMQ-032: and the delay starts anew with each."""
    for number in range(1, 11):
        job = await queue.add("n", number, delay=5, deduplication=DEBOUNCE)
        assert not job.duplicate
        clock.advance(1)
    assert await everything_waiting(queue) == [10]
    clock.advance(3.5)
    assert await hand.fetch() is None
    clock.advance(1)
    assert (await fetched(hand)).data == 10
    assert await hand.fetch() is None


async def test_what_is_replaced_leaves_nothing_behind(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-032."""
    old = await queue.add("n", 1, delay=5, deduplication=DEBOUNCE)
    await old.log("a line")
    new = await queue.add("n", 2, delay=5, deduplication=DEBOUNCE)
    assert await raw.keys(f"{prefix}:q:{old.id}*") == []
    assert await raw.zrange(f"{prefix}:q:delayed", 0, -1) == [new.id]
    assert await raw.get(f"{prefix}:q:de:x") == new.id
    assert await events_of(raw, prefix, "removed") == [{"event": "removed", "jobId": old.id, "prev": "delayed"}]


async def test_without_extend_the_first_window_goes_on(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-032."""
    await queue.add("n", delay=5, deduplication=Dedup("x", ttl=10, replace=True))
    await queue.add("n", delay=5, deduplication=Dedup("x", ttl=1000, replace=True))
    assert 0 < await raw.pttl(f"{prefix}:q:de:x") <= 10_000


async def test_a_job_that_is_due_is_not_replaced(queue: Queue, hand: Worker, clock: TestClock) -> None:
    """BMQ-032: it is about to run, or runs."""
    first = await queue.add("n", 1, delay=1, deduplication=DEBOUNCE)
    clock.advance(1.1)
    job = await fetched(hand)
    late = await queue.add("n", 2, delay=1, deduplication=DEBOUNCE)
    assert (job.data, late.id, late.duplicate) == (1, first.id, True)


async def test_a_parent_does_not_wait_for_a_child_that_was_replaced(
    queue: Queue, hand: Worker, raw: Redis, prefix: str
) -> None:
    """BMQ-032 with a flow: the replaced job had been adopted by its id."""
    await queue.add("n", 1, job_id="child", delay=5, deduplication=DEBOUNCE)
    parent = await queue.add("parent")
    running = await fetched(hand)
    await queue.add("n", 1, job_id="child", parent=Parent(parent.id, "q"))
    assert await raw.smembers(f"{prefix}:q:{parent.id}:dependencies") == {f"{prefix}:q:child"}
    await queue.add("n", 2, delay=5, deduplication=DEBOUNCE)
    assert await raw.smembers(f"{prefix}:q:{parent.id}:dependencies") == set()
    await hand.complete(running)


# Reschedule -------------------------------------------------------------------------------------------------------------------


async def test_a_duplicate_moves_the_due_time_and_nothing_else(
    queue: Queue, hand: Worker, clock: TestClock, raw: Redis, prefix: str
) -> None:
    """BMQ-033."""
    move = Dedup("x", reschedule=True)
    first = await queue.add("n", 1, delay=10, deduplication=move)
    second = await queue.add("n", 2, delay=2, deduplication=move)
    assert (second.id, second.duplicate) == (first.id, True)
    assert await raw.zscore(f"{prefix}:q:marker", "1") == int((clock.now() + 2) * 1000), (
        "a worker that sleeps hears of it"
    )
    clock.advance(2.1)
    job = await fetched(hand)
    assert (job.id, job.data) == (first.id, 1)
    delayed = await events_of(raw, prefix, "delayed", "deduplicated")
    assert [event["event"] for event in delayed] == ["delayed", "deduplicated", "delayed"]


async def test_a_job_that_waits_already_is_not_rescheduled(queue: Queue) -> None:
    """BMQ-033."""
    move = Dedup("x", reschedule=True)
    first = await queue.add("n", 1, deduplication=move)
    await queue.add("n", 2, delay=10, deduplication=move)
    assert await first.state() == "waiting"


# Keep the last ------------------------------------------------------------------------------------------------------------------


async def test_the_newest_job_of_a_run_follows_it(redis_socket_url: str, prefix: str) -> None:
    """BMQ-034: three adds during a run make exactly one more run, never at the same time."""
    running, most, seen = 0, 0, list[int]()
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(job: Job) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        seen.append(job.data)
        started.set()
        await go_on.wait()
        running -= 1

    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        async with Worker("q", handler, redis_socket_url, prefix=prefix, concurrency=5):
            first = await queue.add("n", 0, deduplication=LAST)
            await started.wait()
            for number in (1, 2, 3):
                assert (await queue.add("n", number, deduplication=LAST)).duplicate
            go_on.set()
            await first.wait(timeout=5)

            async def two_ended() -> bool:
                return (await queue.counts("completed"))["completed"] == 2

            await eventually(two_ended, message="the follower does not run")
        assert sum((await queue.counts("waiting", "active", "delayed")).values()) == 0
    assert (seen, most) == ([0, 3], 1)


async def test_the_follower_keeps_its_id_and_options(queue: Queue, hand: Worker) -> None:
    """BMQ-034: and holds the deduplication id until it ends itself."""
    await queue.add("n", 1, deduplication=LAST, job_id="one")
    job = await fetched(hand)
    await queue.add("m", 2, deduplication=LAST, job_id="two", delay=30, attempts=4)
    await hand.complete(job)
    follower = await queue.get_job("two")
    assert follower is not None
    assert (follower.name, follower.data, follower.options.attempts, follower.deduplication_id) == ("m", 2, 4, "x")
    assert await follower.state() == "delayed"
    assert (await queue.add("n", 3, deduplication=LAST)).id == "two"


async def test_a_ttl_is_ignored_while_the_last_is_kept(queue: Queue, hand: Worker, raw: Redis, prefix: str) -> None:
    """BMQ-034: the id must not expire under a running job."""
    await queue.add("n", 1, deduplication=Dedup("x", ttl=30))
    job = await fetched(hand)
    await queue.add("n", 2, deduplication=Dedup("x", ttl=30, keep_last_if_active=True))
    assert await raw.pttl(f"{prefix}:q:de:x") == -1
    await hand.complete(job)
    assert (await fetched(hand)).data == 2


async def test_a_follower_whose_id_is_taken_gets_another(queue: Queue, hand: Worker) -> None:
    """BMQ-034: a second hash under the id would mix two jobs."""
    await queue.add("n", 1, deduplication=LAST)
    job = await fetched(hand)
    await queue.add("n", 2, deduplication=LAST, job_id="same")
    await queue.add("other", 9, job_id="same")
    await hand.complete(job)
    assert sorted(await everything_waiting(queue)) == [2, 9]


async def test_a_job_that_waits_is_not_followed(queue: Queue) -> None:
    """BMQ-034: it has not started, so one run is enough."""
    await queue.add("n", 1, deduplication=LAST)
    assert (await queue.add("n", 2, deduplication=LAST)).duplicate
    assert await everything_waiting(queue) == [1]


async def test_the_follower_comes_after_the_last_attempt(queue: Queue, hand: Worker) -> None:
    """BMQ-035: and what is added between two attempts takes the place of what was kept."""
    await queue.add("n", 1, deduplication=LAST, attempts=2)
    first = await fetched(hand)
    await queue.add("n", 2, deduplication=LAST)
    await hand.fail(first, ValueError("once"))
    assert await everything_waiting(queue) == [1]
    await queue.add("n", 3, deduplication=LAST)
    second = await fetched(hand)
    assert (second.data, second.attempts_made) == (1, 1)
    await hand.complete(second)
    assert await everything_waiting(queue) == [3]


async def test_the_follower_comes_after_exhausted_attempts(queue: Queue, hand: Worker) -> None:
    """BMQ-035."""
    await queue.add("n", 1, deduplication=LAST)
    job = await fetched(hand)
    await queue.add("n", 2, deduplication=LAST)
    await hand.fail(job, ValueError("for good"))
    assert await everything_waiting(queue) == [2]


async def test_a_debounce_wins_over_a_kept_job_while_the_first_is_delayed(queue: Queue, hand: Worker) -> None:
    """BMQ-032 with BMQ-034: the retry that waits is replaced, and the older follower with it."""
    both = Dedup("x", replace=True, keep_last_if_active=True)
    await queue.add("n", 1, deduplication=both, attempts=2, backoff=30)
    job = await fetched(hand)
    await queue.add("n", 2, deduplication=both)
    await hand.fail(job, ValueError("once"))
    await queue.add("n", 3, deduplication=both)
    assert await everything_waiting(queue) == [3]


async def test_a_job_that_lost_its_id_does_not_start_the_holders_follower(queue: Queue, hand: Worker) -> None:
    """BMQ-034: a retried job ends while another holds the id; the two must not run at once."""
    old = await queue.add("old", 1, deduplication=LAST)
    await hand.fail(await fetched(hand), ValueError("for good"))
    await queue.add("holder", 2, deduplication=LAST)
    holder = await fetched(hand)
    await queue.add("follower", 3, deduplication=LAST)
    await old.retry()
    await hand.complete(await fetched(hand))
    assert await everything_waiting(queue) == []
    await hand.complete(holder)
    assert await everything_waiting(queue) == [3]


# The key ------------------------------------------------------------------------------------------------------------------------


async def test_the_key_can_be_looked_up_and_dropped(queue: Queue) -> None:
    """BMQ-036."""
    job = await queue.add("n", deduplication="x")
    assert await queue.deduplication_owner("x") == job.id
    assert await queue.remove_deduplication("x")
    assert await queue.deduplication_owner("x") is None
    assert not await queue.remove_deduplication("x")
    assert not (await queue.add("n", deduplication="x")).duplicate


async def test_a_job_lets_go_of_its_own_key_only(queue: Queue) -> None:
    """BMQ-036."""
    first = await queue.add("n", deduplication="x")
    assert await first.remove_deduplication_key()
    second = await queue.add("n", deduplication="x")
    assert not second.duplicate
    assert not await first.remove_deduplication_key()
    assert await queue.deduplication_owner("x") == second.id
    assert not await (await queue.add("plain")).remove_deduplication_key()


async def test_a_follower_survives_the_loss_of_the_key(queue: Queue, hand: Worker) -> None:
    """BMQ-036 with BMQ-034."""
    await queue.add("n", 1, deduplication=LAST)
    job = await fetched(hand)
    await queue.add("n", 2, deduplication=LAST)
    assert await job.remove_deduplication_key()
    await hand.complete(job)
    assert await everything_waiting(queue) == [2]


@pytest.mark.parametrize(("by", "way"), [("its job", "remove"), ("the queue", "remove"), ("its job", "drain")])
async def test_a_follower_goes_with_a_job_that_let_go_of_the_key(
    queue: Queue, hand: Worker, site: Site, by: str, way: str
) -> None:
    """BMQ-036 with BMQ-034: nothing would ever start it, and its key would stay for ever."""
    await queue.add("n", 1, deduplication=LAST, attempts=2, backoff=30)
    job = await fetched(hand)
    await queue.add("n", 2, deduplication=LAST)
    assert await (job.remove_deduplication_key() if by == "its job" else queue.remove_deduplication("x"))
    await hand.fail(job, ValueError("once"))
    assert await site.raw.exists(site.keys.key("dn:x")) == 1
    if way == "remove":
        await job.remove()
    else:
        await queue.drain(delayed=True)
    assert await site.raw.exists(site.keys.key("dn:x")) == 0


async def test_a_follower_of_the_next_holder_stays_when_the_last_one_is_removed(queue: Queue, hand: Worker) -> None:
    """BMQ-036 with BMQ-034: each follower goes with the job that it was to follow, and with no other."""
    first = await queue.add("n", 1, deduplication=LAST, attempts=2)
    await hand.fail(await fetched(hand), ValueError("once"))
    assert await first.remove_deduplication_key()
    await queue.add("n", 2, deduplication=LAST, lifo=True)
    second = await fetched(hand)
    await queue.add("n", 3, deduplication=LAST)
    assert await second.remove_deduplication_key()
    assert await first.remove()
    await hand.complete(second)
    assert await everything_waiting(queue) == [3]


@pytest.mark.parametrize("dedup", [Dedup("x"), THROTTLE, LAST], ids=["simple", "throttle", "keep last"])
async def test_the_event_names_who_stays_and_who_goes(
    queue: Queue, hand: Worker, raw: Redis, prefix: str, dedup: Dedup
) -> None:
    """BMQ-037."""
    await queue.add("n", deduplication=dedup, job_id="kept")
    await fetched(hand)
    await queue.add("n", deduplication=dedup, job_id="dropped")
    expected = {"event": "deduplicated", "jobId": "kept", "deduplicationId": "x", "deduplicatedJobId": "dropped"}
    assert await events_of(raw, prefix, "deduplicated") == [expected]


async def test_the_event_of_a_debounce_names_the_new_job_as_kept(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-037: here the older job goes."""
    await queue.add("n", deduplication=DEBOUNCE, job_id="dropped", delay=5)
    await queue.add("n", deduplication=DEBOUNCE, job_id="kept", delay=5)
    expected = {"event": "deduplicated", "jobId": "kept", "deduplicationId": "x", "deduplicatedJobId": "dropped"}
    assert await events_of(raw, prefix, "deduplicated") == [expected]


async def test_a_child_cannot_be_deduplicated(queue: Queue) -> None:
    with pytest.raises(InvalidOption, match="parent"):
        await queue.add("n", deduplication="x", parent=Parent("p", "q"))


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), "1"])
def test_a_ttl_out_of_range_is_refused(ttl: Any) -> None:
    with pytest.raises(InvalidOption, match="ttl"):
        Dedup("x", ttl=ttl)
