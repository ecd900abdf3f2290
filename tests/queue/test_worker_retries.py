"""Attempts: how often a job is tried, how long it pauses between, and what a handler's errors mean."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.errors import (
    Cancel,
    InvalidOption,
    Permanent,
    RateLimited,
    Release,
    RetryAfter,
    Snooze,
)
from taurine.queue.job import Job
from taurine.retry import Backoff, Custom, Exponential, Fixed
from taurine.testing import TestClock


class Failing:
    """A handler that fails the first `times` attempts and records each."""

    def __init__(self, times: int = 1_000, error: type[Exception] = RuntimeError) -> None:
        self.runs: list[Job] = []
        self._times = times
        self._error = error

    async def __call__(self, job: Job) -> str:
        self.runs.append(job)
        if len(self.runs) <= self._times:
            raise self._error(f"attempt {len(self.runs)}")
        return "done"


async def pauses_of(site: Site, clock: TestClock, job: Job, pauses: int) -> list[int]:
    """The ms between the end of each attempt and when the next is due; the clock is moved to each."""
    seen: list[int] = []
    for attempt in range(1, pauses + 1):

        async def paused(attempt: int = attempt) -> bool:
            return (await site.hash(job.stored_id)).get("ats") == str(attempt) and await site.counts() == {"delayed": 1}

        await eventually(paused, message=f"the job did not pause after attempt {attempt}")
        pause = await site.due_ms(job.id) - int(clock.now() * 1000)
        seen.append(pause)
        clock.advance(pause / 1000 + 0.001)
    return seen


async def test_a_failing_job_is_tried_as_often_as_it_may_be_bmq_022(site: Site) -> None:
    handler = Failing()
    await site.queue.add("work", attempts=3)
    async with site.working(handler):
        await site.until(failed=1)

    assert [job.attempts_made for job in handler.runs] == [0, 1, 2]
    stored = await site.hash("1")
    assert (stored["atm"], stored["ats"], stored["failedReason"]) == ("3", "3", "attempt 3")
    (exhausted,) = await site.events("retries-exhausted")
    assert exhausted == {"event": "retries-exhausted", "jobId": "1", "attemptsMade": "3"}


async def test_a_job_has_one_attempt_by_default_bmq_022(site: Site) -> None:
    handler = Failing()
    await site.queue.add("work")
    async with site.working(handler):
        await site.until(failed=1)

    assert len(handler.runs) == 1


async def test_an_attempt_that_succeeds_ends_the_job_bmq_022(site: Site) -> None:
    handler = Failing(times=2)
    await site.queue.add("work", attempts=5)
    async with site.working(handler):
        await site.until(completed=1)

    stored = await site.hash("1")
    assert (len(handler.runs), stored["atm"], stored["returnvalue"]) == (3, "3", '"done"')
    assert stored["failedReason"] == "attempt 2", "the last failure stays to be seen"


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        pytest.param(Fixed(1.5), [1500, 1500, 1500], id="BMQ-023 fixed"),
        pytest.param(1.5, [1500, 1500, 1500], id="BMQ-023 a plain number"),
        pytest.param(Exponential(0.1), [100, 200, 400], id="BMQ-024 exponential"),
        pytest.param(Exponential(0.1, factor=3, cap=0.5), [100, 300, 500], id="BMQ-024 factor and cap"),
    ],
)
async def test_the_pause_between_attempts(
    timed_site: Site, hand_clock: TestClock, backoff: Backoff | float, expected: list[int]
) -> None:
    handler = Failing()
    job = await timed_site.queue.add("work", attempts=4, backoff=backoff)
    async with timed_site.working(handler):
        assert await pauses_of(timed_site, hand_clock, job, 3) == expected
        await timed_site.until(failed=1)

    assert len(handler.runs) == 4


async def test_a_job_does_not_run_before_its_pause_is_over_bmq_023(timed_site: Site, hand_clock: TestClock) -> None:
    handler = Failing(times=1)
    await timed_site.queue.add("pausing", attempts=2, backoff=Fixed(10.0))
    async with timed_site.working(handler):
        await timed_site.until(delayed=1)
        hand_clock.advance(9.9)
        await timed_site.queue.add("another")
        await timed_site.until(completed=1, delayed=1)
        assert [job.name for job in handler.runs] == ["pausing", "another"]

        hand_clock.advance(0.2)
        await timed_site.until(completed=2)


async def test_jitter_shortens_the_pause_within_its_band_bmq_025(timed_site: Site, hand_clock: TestClock) -> None:
    job = await timed_site.queue.add("work", attempts=6, backoff=Fixed(10.0, jitter=0.5))
    async with timed_site.working(Failing(), random=Random(1)):
        pauses = await pauses_of(timed_site, hand_clock, job, 5)

    assert all(5_000 <= pause <= 10_000 for pause in pauses)
    assert len(set(pauses)) > 1


@pytest.mark.parametrize("jitter", [1.5, -0.1])
def test_a_jitter_out_of_range_is_refused_bmq_025(jitter: float) -> None:
    with pytest.raises(InvalidOption, match=r"jitter.*from 0 to 1"):
        Fixed(1.0, jitter=jitter)
    with pytest.raises(InvalidOption, match=r"jitter.*from 0 to 1"):
        Exponential(1.0, jitter=jitter)


async def test_a_custom_back_off_is_asked_with_what_it_needs_bmq_026(timed_site: Site, hand_clock: TestClock) -> None:
    asked: list[tuple[int, str, str, str]] = []

    def strategy(attempts_made: int, kind: str, error: BaseException, job: Job) -> float:
        asked.append((attempts_made, kind, str(error), job.id))
        return attempts_made * 1.0

    job = await timed_site.queue.add("work", attempts=3, backoff=Custom(type="mine"))
    async with timed_site.working(Failing(), backoff_strategy=strategy):
        assert await pauses_of(timed_site, hand_clock, job, 2) == [1000, 2000]
        await timed_site.until(failed=1)

    assert asked == [(1, "mine", "attempt 1", job.id), (2, "mine", "attempt 2", job.id)]


async def test_a_strategy_for_each_type_bmq_026(timed_site: Site, hand_clock: TestClock) -> None:
    def now(*_: Any) -> float:
        return 0

    def never(*_: Any) -> float:
        return -1

    handler = Failing()
    await timed_site.queue.add("at-once", attempts=3, backoff=Custom(type="now"), job_id="at-once")
    await timed_site.queue.add("no-more", attempts=3, backoff=Custom(type="never"), job_id="no-more")
    await timed_site.queue.add("unknown", attempts=3, backoff=Custom(type="nobody's"), job_id="unknown")
    async with timed_site.working(handler, backoff_strategy={"now": now, "never": never}):
        await timed_site.until(failed=2, delayed=1)

    runs = [job.id for job in handler.runs]
    assert (runs.count("at-once"), runs.count("no-more"), runs.count("unknown")) == (3, 1, 1)
    assert await timed_site.due_ms("unknown") - int(hand_clock.now() * 1000) == 1000, "not at once: that would hammer"


@pytest.mark.parametrize("answer", [ZeroDivisionError("strategy"), None, "soon", float("nan"), float("inf")], ids=repr)
async def test_a_broken_back_off_strategy_loses_neither_job_nor_slot_bmq_026(timed_site: Site, answer: Any) -> None:
    def broken(*_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    await timed_site.queue.add("work", attempts=2, backoff=Custom(type="broken"), job_id="work")
    async with timed_site.working(Failing(times=1), concurrency=1, backoff_strategy=broken):

        async def settled() -> bool:
            return (await timed_site.hash("work")).get("atm", "0") >= "1" and "active" not in await timed_site.counts()

        await eventually(settled)
        following = await timed_site.queue.add("next")
        await eventually(lambda: timed_site.raw.zscore(timed_site.keys.completed, following.id))


@pytest.mark.parametrize("signal", [RetryAfter, Snooze, RateLimited])
@pytest.mark.parametrize("delay", [float("nan"), float("inf"), -5.0, 1e30])
async def test_an_absurd_delay_ends_the_attempt_all_the_same(
    timed_site: Site, signal: type[RetryAfter], delay: float
) -> None:
    runs: list[str] = []

    async def handler(job: Job) -> None:
        runs.append(job.name)
        if len(runs) == 1:
            raise signal(delay)

    await timed_site.queue.add("work", attempts=2)
    async with timed_site.working(handler):

        async def settled() -> bool:
            return bool(runs) and "active" not in await timed_site.counts()

        await eventually(settled)

    assert "failed" not in await timed_site.counts()


async def test_a_retry_at_once_goes_behind_those_in_line_and_in_front_with_lifo_bmq_026(site: Site) -> None:
    handler = Failing(times=1)
    await site.queue.add("failing", attempts=2)
    await site.queue.add("second")
    async with site.working(handler, concurrency=1):
        await site.until(completed=2)
    assert [job.name for job in handler.runs] == ["failing", "second", "failing"]

    handler = Failing(times=1)
    await site.queue.add("waiting")
    await site.queue.add("failing", attempts=2, lifo=True)
    async with site.working(handler, concurrency=1):
        await site.until(completed=4)
    assert [job.name for job in handler.runs] == ["failing", "failing", "waiting"]


@pytest.mark.parametrize(("limit", "kept"), [(None, 5), (2, 2), (0, 0)])
async def test_stack_traces_are_kept_up_to_their_limit_bmq_027(site: Site, limit: int | None, kept: int) -> None:
    options: Any = {} if limit is None else {"stacktrace_limit": limit}
    await site.queue.add("work", attempts=5, **options)
    async with site.working(Failing()):
        await site.until(failed=1)

    traces = json.loads((await site.hash("1"))["stacktrace"])
    assert [f"attempt {number}" in trace for number, trace in zip(range(6 - kept, 6), traces, strict=True)] == [
        True
    ] * kept
    assert all(trace.startswith("Traceback") and "Failing" not in trace.splitlines()[-1] for trace in traces)


async def test_log_lines_are_kept_up_to_their_limit_bmq_028(site: Site) -> None:
    async def handler(job: Job) -> None:
        for number in range(20):
            await job.log(f"line {number}")

    await site.queue.add("work", keep_logs=5)
    async with site.working(handler):
        await site.until(completed=1)

    assert await site.raw.lrange(site.keys.logs("1"), 0, -1) == [f"line {number}" for number in range(15, 20)]


@pytest.mark.parametrize("error", [Permanent, Cancel])
async def test_an_unrecoverable_error_leaves_no_attempts_bmq_076(site: Site, error: type[Exception]) -> None:
    handler = Failing(error=error)
    await site.queue.add("work", attempts=5)
    async with site.working(handler):
        await site.until(failed=1)

    assert len(handler.runs) == 1
    assert (await site.hash("1"))["failedReason"] == "attempt 1"
    assert await site.events("retries-exhausted") == [], "attempts were left"


async def test_retry_after_takes_the_place_of_the_back_off(timed_site: Site, hand_clock: TestClock) -> None:
    async def handler(job: Job) -> None:
        raise RetryAfter(7.0, "the provider is busy")

    job = await timed_site.queue.add("work", attempts=2, backoff=Fixed(1.0))
    async with timed_site.working(handler):
        assert await pauses_of(timed_site, hand_clock, job, 1) == [7000]
        await timed_site.until(failed=1)

    assert (await timed_site.hash("1"))["failedReason"] == "the provider is busy"


async def test_a_snooze_charges_no_attempt(timed_site: Site, hand_clock: TestClock) -> None:
    runs: list[int] = []

    async def handler(job: Job) -> None:
        runs.append(job.attempts_made)
        if len(runs) == 1:
            job.delay(30)
        if len(runs) == 2:
            raise Snooze(60)

    job = await timed_site.queue.add("work")
    async with timed_site.working(handler):
        assert await pauses_of(timed_site, hand_clock, job, 2) == [30_000, 60_000]
        await timed_site.until(completed=1)

    stored = await timed_site.hash("1")
    assert (runs, stored["atm"], stored["ats"]) == ([0, 0, 0], "1", "3")


@pytest.mark.parametrize("priority", [0, 3])
async def test_a_released_job_is_next_and_not_charged(site: Site, priority: int) -> None:
    order: list[str] = []

    async def handler(job: Job) -> None:
        order.append(job.name)
        if len(order) == 1:
            raise Release

    await site.queue.add("first", priority=priority)
    await site.queue.add("second", priority=priority)
    async with site.working(handler, concurrency=1):
        await site.until(completed=2)

    stored = await site.hash("1")
    assert (order, stored["atm"], stored["ats"]) == (["first", "first", "second"], "1", "2")


async def test_a_rate_limited_job_pauses_the_queue_without_an_attempt_bmq_075(
    timed_site: Site, hand_clock: TestClock
) -> None:
    site = timed_site
    order: list[str] = []

    async def handler(job: Job) -> None:
        order.append(job.name)
        if len(order) == 1:
            raise RateLimited(20)

    await site.queue.add("first")
    await site.queue.add("second")
    async with site.working(handler, concurrency=1):
        await eventually(lambda: order)
        await site.until(wait=2)
        assert await site.line() == ["1", "2"], "in front of those that waited behind it"
        assert 0 < await site.raw.pttl(site.keys.limiter) <= 20_000
        assert "atm" not in await site.hash("1")
        assert order == ["first"]

        await site.raw.delete(site.keys.limiter)
        hand_clock.advance(20)
        await site.until(completed=2)

    assert order == ["first", "first", "second"]


async def test_a_job_marked_to_fail_is_failed_without_a_run_bmq_077(site: Site) -> None:
    handler = Failing()
    await site.queue.add("work", attempts=5)
    await site.raw.hset(site.keys.job("1"), "defa", "child bull:q:7 failed")
    async with site.working(handler):
        await site.until(failed=1)

    stored = await site.hash("1")
    assert (handler.runs, stored["failedReason"]) == ([], "child bull:q:7 failed")
    assert "defa" not in stored


async def test_jobs_that_start_too_often_are_failed_bmq_086(site: Site) -> None:
    runs: list[int] = []

    async def handler(job: Job) -> None:
        runs.append(job.attempts_started)
        raise Release

    await site.queue.add("work", attempts=100)
    async with site.working(handler, max_started_attempts=3):
        await site.until(failed=1)

    assert runs == [1, 2, 3]
    assert (await site.hash("1"))["failedReason"] == "job started more than 3 times"


async def test_the_cap_on_starts_ends_retries_too_bmq_086(site: Site) -> None:
    handler = Failing()
    await site.queue.add("work", attempts=100)
    async with site.working(handler, max_started_attempts=3):
        await site.until(failed=1)

    assert len(handler.runs) == 3


async def test_an_error_that_cannot_be_described_still_fails_the_job(site: Site) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def handler(job: Job) -> None:
        raise Unspeakable

    await site.queue.add("work")
    async with site.working(handler):
        await site.until(failed=1)

    assert "__str__ raised" in (await site.hash("1"))["failedReason"]


async def test_a_result_that_json_cannot_hold_fails_the_attempt(site: Site) -> None:
    async def handler(job: Job) -> object:
        return object()

    await site.queue.add("work")
    async with site.working(handler):
        await site.until(failed=1)

    assert "the result cannot be stored as JSON" in (await site.hash("1"))["failedReason"]


async def test_a_failed_attempt_keeps_the_priority_of_its_job(timed_site: Site, hand_clock: TestClock) -> None:
    handler = Failing(times=1)
    await timed_site.queue.add("work", attempts=2, priority=5, backoff=Fixed(1.0))
    async with timed_site.working(handler) as worker:
        await timed_site.until(delayed=1)
        await worker.pause()
        hand_clock.advance(1.001)
        await eventually(lambda: worker.is_paused)
        worker.resume()
        await timed_site.until(completed=1)

    assert (await timed_site.hash("1"))["priority"] == "5"
