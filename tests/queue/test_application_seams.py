"""What the layer above builds on: its own member of the options, encoded data, replaced jobs, decided outcomes,
refusals.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.errors import CorruptJob, InvalidOption, PayloadTooLarge, Permanent, WaitForChildren
from taurine.options import AddOptions, Dedup, Parent
from taurine.queue.attempt import Decided
from taurine.queue.connection import Connection
from taurine.queue.job import Job
from taurine.queue.queue import Queue
from taurine.queue.wire import Encoded
from taurine.queue.worker import Worker
from taurine.testing import TestClock

ENVELOPE = '{"g":2,"t":"acme","note":",\\"jobId\\":\\"other\\""}'


async def taken(worker: Worker) -> Job:
    job = await worker.fetch()
    assert job is not None, "there was nothing to claim"
    return job


# The member of the options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"job_id": "a:b"}, {"timestamp": 5.0}, {"attempts": 3, "job_id": "17", "timestamp": 5.0}, {"delay": 0.001}],
)
async def test_what_the_application_keeps_with_a_job_comes_back_beside_the_options(
    site: Site, options: AddOptions
) -> None:
    without: AddOptions = {**options, "job_id": "plain"}
    beside: AddOptions = {**options, "application": ENVELOPE}
    plain = await site.queue.add("work", **without)
    added = await site.queue.add("work", **beside)
    read = await site.queue.get_job(added.id)
    assert read is not None

    for job in (added, read):
        assert job.stored_options()["taurine"] == json.loads(ENVELOPE)
        assert job.options == plain.options
    assert (await site.hash(added.stored_id))["opts"].endswith(f'"taurine":{ENVELOPE}}}')


async def test_a_claimed_job_has_what_the_application_kept(site: Site) -> None:
    await site.queue.add_many([("work", {}, {"application": f'{{"g":{number}}}'}) for number in range(3)])
    hand = site.worker(None)
    kept = [(await taken(hand)).stored_options()["taurine"]["g"] for _ in range(3)]
    assert kept == [0, 1, 2]


async def test_members_that_nobody_knows_are_read_too(site: Site) -> None:
    await site.queue.add("work", job_id="j")
    await site.raw.hset(site.keys.job("j"), "opts", '{"attempts":2,"fromTheFuture":{"a":[1]}}')
    job = await site.queue.get_job("j")
    assert job is not None
    assert job.stored_options() == {"attempts": 2, "fromTheFuture": {"a": [1]}}


# Encoded data ---------------------------------------------------------------------------------------------------------------------


async def test_encoded_data_is_stored_as_it_is(site: Site) -> None:
    """Letter for letter: what was hashed or signed before must not be written anew."""
    text = '{ "amount": 1.10, "name": "\\u00fc" }'
    added = await site.queue.add("work", Encoded(text))
    read = await taken(site.worker(None))

    assert (await site.hash(added.stored_id))["data"] == text
    assert added.data_json == text
    assert read.data_json == text.encode()
    assert read.data == {"amount": 1.1, "name": "ü"}


async def test_encoded_data_is_measured_as_other_data_is(site: Site) -> None:
    with pytest.raises(PayloadTooLarge):
        await site.queue.add("work", Encoded('"four"'), size_limit=5)


async def test_data_that_was_replaced_is_encoded_anew(site: Site) -> None:
    await site.queue.add("work", Encoded('{ "v": 1 }'))
    job = await taken(site.worker(None))
    await job.update_data({"v": 2})
    assert job.data_json == '{"v":2}'
    await job.update_data(Encoded('{ "v": 3 }'))
    assert (await site.hash(job.stored_id))["data"] == '{ "v": 3 }'


async def test_an_encoded_result_is_stored_as_it_is(site: Site) -> None:
    async def handler(job: Job) -> Any:
        return Encoded('{ "total": 1.10 }')

    await site.queue.add("work")
    async with site.working(handler):
        await site.until(completed=1)
    assert (await site.hash("1"))["returnvalue"] == '{ "total": 1.10 }'


# Replacing what has ended ---------------------------------------------------------------------------------------------------------


async def ended(site: Site, *, how: str, **options: Any) -> Job:
    """The job `j`, completed or failed, with a log and a result of its first run."""
    await site.queue.add("first", {"run": 1}, job_id="j", **options)
    hand = site.worker(None)
    job = await taken(hand)
    await job.log("first run")
    await (hand.complete(job, "first") if how == "completed" else hand.fail(job, Permanent("first")))
    return job


@pytest.mark.parametrize("how", ["completed", "failed"])
async def test_a_job_that_ended_is_replaced(site: Site, how: str) -> None:
    """Nothing of the first run is left: neither its result nor its counters, logs or keys of children."""
    await ended(site, how=how)
    for suffix in ("dependencies", "processed", "failed", "unsuccessful"):
        await site.raw.hset(f"{site.keys.job('j')}:{suffix}", "of", "the first run")
    job = await site.queue.add("second", {"run": 2}, job_id="j", replace_finished=True)

    assert (job.id, job.duplicate) == ("j", False)
    assert await site.counts() == {"wait": 1}
    fields = await site.hash("j")
    assert (fields["name"], fields["data"]) == ("second", '{"run":2}')
    assert fields.keys() == {"name", "data", "opts", "timestamp", "delay", "priority"}
    assert await site.raw.keys(f"{site.keys.job('j')}:*") == []

    again = await taken(site.worker(None))
    assert (again.attempts_started, again.attempts_made) == (1, 0)


@pytest.mark.parametrize("options", [{"delay": 60}, {"priority": 3}, {"lifo": True}])
async def test_a_replacement_is_placed_as_any_new_job(site: Site, options: Any) -> None:
    await ended(site, how="completed")
    await site.queue.add("behind")
    await site.queue.add("second", job_id="j", replace_finished=True, **options)
    if "lifo" in options:
        assert (await site.line())[0] == "j"
    else:
        await site.until(wait=1, **{"delayed" if "delay" in options else "prioritized": 1})


async def test_without_a_job_of_that_id_there_is_nothing_to_replace(site: Site) -> None:
    jobs = [
        await site.queue.add("work", job_id="j", replace_finished=True),
        await site.queue.add("work", replace_finished=True),
    ]
    assert [job.duplicate for job in jobs] == [False, False]
    assert await site.counts() == {"wait": 2}


@pytest.mark.parametrize("state", ["wait", "active", "delayed", "prioritized", "waiting_children"])
async def test_a_job_that_has_not_ended_is_a_duplicate_all_the_same(site: Site, state: str) -> None:
    hand = site.worker(None)
    options: dict[str, Any] = {"delayed": {"delay": 60}, "prioritized": {"priority": 1}}.get(state, {})
    await site.queue.add("first", job_id="j", **options)
    if state in ("active", "waiting_children"):
        first = await taken(hand)
        if state == "waiting_children":
            await site.queue.add("child", job_id="c", parent=Parent("j", "q"))
            with pytest.raises(WaitForChildren):
                await first.wait_for_children()
    before, counts = await site.hash("j"), await site.counts()
    assert counts[state] >= 1
    again = await site.queue.add("second", job_id="j", replace_finished=True)

    assert (again.id, again.duplicate) == ("j", True)
    assert await site.hash("j") == before
    assert await site.counts() == counts


async def test_jobs_of_one_list_replace_once(site: Site) -> None:
    """The second of the list meets the first, which has not ended."""
    await ended(site, how="failed")
    options: AddOptions = {"job_id": "j", "replace_finished": True}
    jobs = await site.queue.add_many([("second", {}, options), ("third", {}, options)])
    assert [job.duplicate for job in jobs] == [False, True]
    assert (await site.hash("j"))["name"] == "second"


async def test_many_producers_replace_once(site: Site) -> None:
    """Atomic: of concurrent calls over several connections one adds, and the others find its job."""
    await ended(site, how="completed")
    connections = [Connection(site.url) for _ in range(8)]
    queues = [Queue("q", connection, prefix=site.keys.prefix) for connection in connections]
    jobs = await asyncio.gather(*(queue.add("second", job_id="j", replace_finished=True) for queue in queues))
    for connection in connections:
        await connection.close()

    assert sorted(job.duplicate for job in jobs) == [False] + 7 * [True]
    assert await site.counts() == {"wait": 1}


async def test_a_waiter_of_the_replacement_does_not_take_it_for_gone(site: Site) -> None:
    await ended(site, how="failed")

    async def handler(job: Job) -> str:
        return "second"

    job = await site.queue.add("second", job_id="j", replace_finished=True)
    waiting = asyncio.create_task(job.wait(10))
    async with site.working(handler):
        assert await waiting == "second"
    assert await site.events("removed") == []


async def test_a_replaced_job_frees_its_deduplication_id(site: Site) -> None:
    """A throttle outlives its job, but not the removal of it."""
    await ended(site, how="completed", deduplication=Dedup("d", ttl=60))
    assert await site.raw.exists(site.keys.key("de:d"))
    await site.queue.add("second", job_id="j", replace_finished=True)
    assert not await site.raw.exists(site.keys.key("de:d"))
    assert not (await site.queue.add("other", deduplication="d")).duplicate


async def test_a_replacement_cannot_be_deduplicated(site: Site) -> None:
    with pytest.raises(InvalidOption, match="leave out deduplication or replace_finished"):
        await site.queue.add("work", job_id="j", deduplication="d", replace_finished=True)


async def a_parent_that_waits(site: Site) -> Worker:
    """`p` waits for its failed child `j`."""
    hand = site.worker(None)
    await site.queue.add("parent", job_id="p")
    parent = await taken(hand)
    await site.queue.add("first", job_id="j", parent=Parent("p", "q"))
    with pytest.raises(WaitForChildren):
        await parent.wait_for_children()
    child = await taken(hand)
    await hand.fail(child, Permanent("first"))
    assert await site.counts() == {"waiting_children": 1, "failed": 1}
    return hand


async def test_the_parent_of_a_replaced_job_no_longer_waits_for_it(site: Site) -> None:
    hand = await a_parent_that_waits(site)
    await site.queue.add("second", job_id="j", replace_finished=True)
    assert sorted(await site.line()) == ["j", "p"]
    assert (await taken(hand)).id == "p"


async def test_a_parent_waits_for_the_replacement_of_its_own_child(site: Site) -> None:
    hand = await a_parent_that_waits(site)
    await site.queue.add("second", job_id="j", replace_finished=True, parent=Parent("p", "q"))
    assert await site.counts() == {"waiting_children": 1, "wait": 1}
    child = await taken(hand)
    assert (child.id, child.name) == ("j", "second")
    await hand.complete(child, "second")
    parent = await taken(hand)
    assert await parent.children_values() == {site.keys.job("j"): "second"}


async def test_a_replaced_childs_result_is_not_its_parents_any_more(site: Site) -> None:
    hand = site.worker(None)
    await site.queue.add("parent", job_id="p")
    parent = await taken(hand)
    await site.queue.add("first", job_id="j", parent=Parent("p", "q"))
    await hand.complete(await taken(hand), "first")
    await site.queue.add("second", job_id="j", replace_finished=True, parent=Parent("p", "q"))
    assert await parent.children_values() == {}
    assert (await parent.dependency_counts()).unprocessed == 1


async def test_children_of_the_replaced_job_are_not_those_of_the_new(site: Site) -> None:
    hand = site.worker(None)
    await site.queue.add("first", job_id="j")
    first = await taken(hand)
    await site.queue.add("child", job_id="c", parent=Parent("j", "q"))
    await hand.fail(first, Permanent("first"))
    await site.queue.add("second", job_id="j", replace_finished=True)
    await hand.complete(await taken(hand), "of the first")
    second = await taken(hand)

    assert second.id == "j"
    assert await second.children_values() == {}
    await hand.complete(second)
    await site.until(completed=2)


# Decided outcomes -----------------------------------------------------------------------------------------------------------------


class Broken(Exception):
    """What a handler ran into."""


def deciding(pause: float | None, *, times: int = 1) -> Any:
    """A handler whose first attempts are decided to end with this pause."""

    async def handler(job: Job) -> str:
        if job.attempts_started > times:
            return "done"
        try:
            raise Broken("inner")
        except Broken as error:
            raise Decided(error, pause) from None

    return handler


async def test_an_attempt_that_is_decided_to_be_the_last_is(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever attempts the job has left; the event and the stack trace are those of the inner error."""
    failed: list[tuple[Any, ...]] = []
    worker = site.worker(deciding(None))
    worker.on("failed", lambda *args: failed.append(args))
    await site.queue.add("work", attempts=5)
    with caplog.at_level(logging.INFO, "taurine.queue"):
        async with site.running(worker):
            await site.until(failed=1)

    fields = await site.hash("1")
    assert (fields["failedReason"], fields["atm"]) == ("inner", "1")
    (trace,) = json.loads(fields["stacktrace"])
    assert "Broken: inner" in trace
    assert "Decided" not in trace
    ((job, error),) = failed
    assert job.id == "1"
    assert isinstance(error, Broken)
    assert "job 1" not in caplog.text, "who decided has told of it"


@pytest.mark.parametrize("attempts", [1, 3])
async def test_an_attempt_that_is_decided_to_be_repeated_at_once_is(site: Site, attempts: int) -> None:
    """Also past the number of attempts that the job itself allows."""
    await site.queue.add("work", attempts=attempts, backoff=3600)
    async with site.working(deciding(0, times=2)):
        await site.until(completed=1)
    fields = await site.hash("1")
    assert (fields["ats"], fields["atm"], fields["returnvalue"]) == ("3", "3", '"done"')


async def test_an_attempt_that_is_decided_to_be_repeated_later_is(timed_site: Site, hand_clock: TestClock) -> None:
    site = timed_site
    await site.queue.add("work", attempts=1)
    async with site.working(deciding(90.5)):
        await site.until(delayed=1)
        assert await site.due_ms("1") == round((hand_clock.now() + 90.5) * 1000)
        assert (await site.hash("1"))["failedReason"] == "inner"
        hand_clock.advance(91)
        await site.until(completed=1)


async def test_decided_by_hand(site: Site) -> None:
    hand = site.worker(None)
    await site.queue.add("work", attempts=9)
    await hand.fail(await taken(hand), Decided(Broken("inner"), None))
    await site.until(failed=1)


# Refusals -------------------------------------------------------------------------------------------------------------------------


class Refusals:
    """Notes what a worker refuses to run; returns or raises what it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[tuple[str, BaseException]] = []

    async def __call__(self, job: Job, reason: BaseException) -> Any:
        self.seen.append((job.id, reason))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


async def never(job: Job) -> None:
    raise AssertionError(f"{job!r} must not run")


async def stalled_too_often(site: Site) -> None:
    """The job `s`, lost by its worker more often than it may be."""
    await site.queue.add("work", job_id="s", attempts=9)
    gone = site.worker(None, max_stalled=0)
    assert await gone.fetch()
    await site.raw.delete(site.keys.lock("s"), site.keys.key("stalled-check"))
    await gone.recover_stalled()
    await site.raw.delete(site.keys.key("stalled-check"))
    assert await gone.recover_stalled() == ["s"]


async def test_who_is_told_of_refusals_decides_about_a_job_that_stalled_too_often(site: Site) -> None:
    refusals = Refusals(Decided(Broken("written down"), None))
    await stalled_too_often(site)
    async with site.working(never, on_refusal=refusals):
        await site.until(failed=1)

    ((job_id, reason),) = refusals.seen
    assert (job_id, str(reason)) == ("s", "job stalled more than allowable limit")
    assert isinstance(reason, Permanent)
    assert (await site.hash("s"))["failedReason"] == "written down"


@pytest.mark.parametrize("field", ["data", "opts"])
async def test_who_is_told_of_refusals_decides_about_a_job_that_cannot_be_read(site: Site, field: str) -> None:
    refusals = Refusals(Permanent("written down"))
    await site.queue.add("work", job_id="c")
    await site.raw.hset(site.keys.job("c"), field, "{no json")
    async with site.working(never, on_refusal=refusals):
        await site.until(failed=1)

    ((job_id, reason),) = refusals.seen
    assert job_id == "c"
    assert isinstance(reason, CorruptJob)
    assert field in str(reason)
    assert (await site.hash("c"))["failedReason"] == "written down"


async def test_a_refusal_may_end_as_a_completed_job(site: Site) -> None:
    """For a job that is found to have ended before: it is acknowledged."""
    await stalled_too_often(site)
    async with site.working(never, on_refusal=Refusals({"known": True})):
        await site.until(completed=1)
    assert (await site.hash("s"))["returnvalue"] == '{"known":true}'


async def test_other_jobs_do_not_come_to_who_is_told_of_refusals(site: Site) -> None:
    refusals = Refusals(None)
    ran: list[str] = []

    async def handler(job: Job) -> None:
        ran.append(job.id)

    await site.queue.add("work", job_id="fine")
    async with site.working(handler, on_refusal=refusals):
        await eventually(lambda: site.raw.zscore(site.keys.completed, "fine"))
    assert (ran, refusals.seen) == (["fine"], [])


async def test_only_a_finished_job_of_another_time_is_replaced_where_that_is_asked_for(site: Site) -> None:
    """Who repeats an add finds its own job, however that has ended; who adds anew under the id of an old one replaces
    it.
    """
    await ended(site, how="completed", timestamp=5.0)
    same = await site.queue.add("second", job_id="j", timestamp=5.0, replace_finished="other")
    other = await site.queue.add("third", job_id="j", timestamp=6.0, replace_finished="other")

    assert (same.duplicate, other.duplicate) == (True, False)
    assert (await site.hash("j"))["name"] == "third"
    assert await site.counts() == {"wait": 1}


@pytest.mark.parametrize("options", [{}, {"delay": 60}, {"priority": 3}])
@pytest.mark.parametrize(("generation", "stays"), [(1, True), (2, True), (3, False)])
async def test_a_waiting_job_of_an_earlier_generation_is_replaced(
    site: Site, options: Any, generation: int, stays: bool
) -> None:
    await site.queue.add("first", job_id="j", application='{"g":2}', **options)
    job = await site.queue.add(
        "second", job_id="j", application=f'{{"g":{generation}}}', replace_finished=True, **options
    )

    assert job.duplicate is stays
    assert (await site.hash("j"))["name"] == ("first" if stays else "second")
    assert sum((await site.counts()).values()) == 1


async def test_an_active_job_of_an_earlier_generation_is_left(site: Site) -> None:
    await site.queue.add("first", job_id="j", application="{}")
    await taken(site.worker(None))
    assert (await site.queue.add("second", job_id="j", application='{"g":1}', replace_finished=True)).duplicate
    assert await site.counts() == {"active": 1}


# Taking out what has ended elsewhere ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"delay": 60}, {"priority": 3}])
async def test_what_has_ended_elsewhere_is_taken_out_and_no_event_tells_of_it(site: Site, options: Any) -> None:
    for number in range(3):
        await site.queue.add("work", job_id=f"j{number}", application=f'{{"g":{number}}}', **options)

    removed = await site.queue.remove_ended([("j0", 0), ("j1", 0), ("j2", 5), ("nowhere", 0)])

    assert removed == 2, "the second runs again as a later generation"
    assert sum((await site.counts()).values()) == 1
    assert await site.raw.exists(site.keys.job("j1"))
    assert await site.events("removed") == []


async def test_what_is_worked_on_is_not_taken_out(site: Site) -> None:
    await site.queue.add("work", job_id="j")
    await taken(site.worker(None))
    assert await site.queue.remove_ended([("j", 9)]) == 0
    assert await site.counts() == {"active": 1}
