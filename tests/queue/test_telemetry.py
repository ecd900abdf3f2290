"""What the engine tells a telemetry, whatever that is: BMQ-138 to BMQ-140."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from support.eventually import eventually
from support.telemetry import FakeTelemetry
from taurine.errors import InvalidOption, Snooze, StoreUnavailable
from taurine.options import AddOptions, JobTelemetry
from taurine.queue import Job, Queue, Worker

MakeWorker = Callable[..., Worker]


@pytest.fixture
def fake() -> FakeTelemetry:
    return FakeTelemetry()


@pytest.fixture
async def told(redis_socket_url: str, prefix: str, fake: FakeTelemetry) -> AsyncIterator[Queue]:
    """The queue `q`, whose calls are told to `fake`."""
    async with Queue("q", redis_socket_url, prefix=prefix, telemetry=fake) as queue:
        yield queue


@pytest.fixture
def working(redis_socket_url: str, prefix: str, fake: FakeTelemetry) -> MakeWorker:
    """Make a worker of `q` that tells `fake`."""

    def make(handler: Any) -> Worker:
        return Worker("q", handler, redis_socket_url, prefix=prefix, telemetry=fake, name="w")

    return make


async def ended(fake: FakeTelemetry, name: str, number: int) -> None:
    await eventually(lambda: sum(span.ended for span in fake.named(name)) == number, message=f"spans {name!r} ended")


async def test_a_fake_telemetry_hears_each_call(told: Queue, working: MakeWorker, fake: FakeTelemetry) -> None:
    """BMQ-140: the interface is enough for somebody else's tracer, meter and context."""

    async def handler(job: Job) -> str:
        return job.name

    job = await told.add("ok", {})
    async with working(handler):
        await ended(fake, "process q", 1)
        await eventually(lambda: len(fake.told) == 2)
    (add,), (process,) = fake.named("add q.ok"), fake.named("process q")
    assert (add.kind, add.parent, add.ended, add.attributes["bullmq.job.id"]) == ("producer", "", 1, job.id)
    assert (process.kind, process.parent, process.ended, process.events) == (
        "consumer",
        add.number,
        1,
        ["job completed"],
    )
    assert process.attributes["bullmq.worker.name"] == "w"
    assert process.attributes["bullmq.job.attempts.made"] == 1
    about = {"bullmq.queue.name": "q", "bullmq.job.name": "ok", "bullmq.job.state": "completed"}
    duration, completed = sorted(fake.told)
    assert (duration[0], duration[2]) == ("bullmq.job.duration", about)
    assert completed == ("bullmq.jobs.completed", 1, about)


async def test_what_travels_is_bullmqs_field_and_may_be_left_out(told: Queue, fake: FakeTelemetry) -> None:
    """BMQ-138."""
    plain = await told.add("a", {})
    omitted = await told.add("a", {}, telemetry=JobTelemetry(omit_context=True))
    given = await told.add("a", {}, telemetry=JobTelemetry("span 77"))
    many = await told.add_many([("a", {}), ("b", {}, {"telemetry": JobTelemetry(omit_context=True)}), ("c", {})])

    stored = [(await told.get_job(job.id)) for job in (plain, omitted, given, *many)]
    assert [job and job.stored_options().get("tm") for job in stored] == [
        "span 1", None, "span 77", "span 4", None, "span 4",
    ]  # fmt: skip
    assert [job and job.telemetry for job in stored[:3]] == [
        JobTelemetry("span 1"), JobTelemetry(omit_context=True), JobTelemetry("span 77"),
    ]  # fmt: skip
    assert fake.named("add q.a")[2].parent == "77", "who gives a context is its parent"
    (bulk,) = fake.named("addBulk q")
    assert bulk.attributes["bullmq.job.bulk.count"] == 3
    assert (bulk.parent, bulk.links) == ("", [])


async def test_a_list_of_jobs_from_several_traces_belongs_to_none(told: Queue, fake: FakeTelemetry) -> None:
    own = [JobTelemetry("span 70"), JobTelemetry("span 80"), JobTelemetry("span 70")]
    with fake.use("99"):
        jobs = await told.add_many([("a", {}, AddOptions(telemetry=telemetry)) for telemetry in own])
        await told.add_many([("a", {}, AddOptions(telemetry=own[0]))] * 2)

    mixed, alike = fake.named("addBulk q")
    assert (mixed.parent, mixed.links) == ("", ["70", "80"])
    assert (alike.parent, alike.links) == ("70", [])
    assert [job.telemetry for job in jobs] == own


async def test_what_travels_does_not_part_the_options_of_jobs_that_are_alike(told: Queue) -> None:
    """Most jobs share their options, which are parsed once; a trace is each job's own."""
    own: list[AddOptions] = [{"job_id": "x"}, {"job_id": "y"}, {}, {}]
    added = [await told.add("a", {}, **{**options, "attempts": 3}) for options in own]
    first, second, third, fourth = [
        job for job in await told.get_jobs(ascending=True) if job.id in {a.id for a in added}
    ]

    assert first.telemetry != second.telemetry != third.telemetry
    assert first.options is second.options
    assert third.options is fourth.options
    assert fourth.options.attempts == 3


async def test_a_retry_is_a_sibling_that_is_linked_to_the_attempt_that_failed(
    told: Queue, working: MakeWorker, fake: FakeTelemetry
) -> None:
    """BMQ-138."""

    async def handler(job: Job) -> None:
        if job.attempts_made < 2:
            raise ValueError(f"no {job.attempts_made}")

    job = await told.add("flaky", {}, attempts=3, backoff=0.001)
    async with working(handler):
        await ended(fake, "process q", 3)
        await eventually(lambda: any(name == "bullmq.jobs.completed" for name, _, _ in fake.told))
    (add,), attempts = fake.named("add q.flaky"), fake.named("process q")
    assert [attempt.parent for attempt in attempts] == [add.number] * 3
    assert [attempt.links for attempt in attempts] == [[], [attempts[0].number], [attempts[1].number]]
    assert [[str(error) for error in attempt.errors] for attempt in attempts] == [["no 0"], ["no 1"], []]
    assert [attempt.attributes["bullmq.job.attempts.made"] for attempt in attempts] == [1, 2, 3]
    assert len(fake.named("wait q")) == 1, "a retry's pause is no wait for a worker"
    stored = await told.get_job(job.id)
    assert stored is not None
    assert stored.failed_trace == f"span {attempts[1].number}"


@pytest.mark.parametrize(
    ("options", "state"), [({}, "failed"), ({"attempts": 2}, "retried"), ({"attempts": 2, "backoff": 60}, "delayed")]
)
async def test_what_a_failed_attempt_comes_to_keeps_its_trace(
    told: Queue, working: MakeWorker, fake: FakeTelemetry, options: Any, state: str
) -> None:
    """The script takes a trace beside each of: fail, retry, delay."""
    failed = asyncio.Event()

    async def handler(job: Job) -> None:
        if job.attempts_made:
            failed.set()
            await asyncio.Event().wait()
        raise ValueError("no")

    job = await told.add("bad", {}, **options)
    worker = working(handler)
    async with worker:
        await eventually(lambda: (f"bullmq.jobs.{state}") in [name for name, _, _ in fake.told])
        await worker.stop(grace=0)
    stored = await told.get_job(job.id)
    assert stored is not None
    assert (stored.failed_trace, stored.failed_reason) == (f"span {fake.named('process q')[0].number}", "no")
    assert stored.attempts_made == 1


async def test_a_job_that_a_handler_adds_is_a_child_of_its_attempt(
    told: Queue, working: MakeWorker, fake: FakeTelemetry
) -> None:
    async def handler(job: Job) -> None:
        if job.name == "outer":
            await told.add("inner", {})

    with fake.use("42"):
        await told.add("outer", {})
    async with working(handler):
        await ended(fake, "process q", 2)
    outer, inner = fake.named("process q")
    (add_inner,) = fake.named("add q.inner")
    assert fake.named("add q.outer")[0].parent == "42"
    assert (add_inner.parent, inner.parent) == (outer.number, add_inner.number)


async def test_a_job_without_a_context_begins_a_trace_wherever_its_worker_was_started(
    told: Queue, working: MakeWorker, fake: FakeTelemetry
) -> None:
    async def handler(job: Job) -> None:
        pass

    await told.add("a", {}, telemetry=JobTelemetry(omit_context=True))
    with fake.use("13"):
        async with working(handler):
            await ended(fake, "process q", 1)
    assert fake.named("process q")[0].parent == ""


async def test_handing_back_and_snoozing_are_no_errors_and_no_attempts(
    told: Queue, working: MakeWorker, fake: FakeTelemetry
) -> None:
    started = asyncio.Event()

    async def handler(job: Job) -> None:
        if job.name == "later":
            raise Snooze(60)
        started.set()
        await asyncio.Event().wait()

    await told.add("later", {})
    await told.add("long", {})
    worker = working(handler)
    async with worker:
        await started.wait()
        await eventually(lambda: fake.told)
        await worker.stop(grace=0)
    spans = {span.attributes["bullmq.job.name"]: span for span in fake.named("process q")}
    assert {name: (span.events, span.errors) for name, span in spans.items()} == {
        "later": (["job delayed"], []),
        "long": (["job waiting"], []),
    }
    assert {span.attributes["bullmq.job.attempts.made"] for span in spans.values()} == {0}
    assert {name for name, _, _ in fake.told} == {"bullmq.job.duration", "bullmq.jobs.delayed", "bullmq.jobs.waiting"}


async def test_an_add_that_fails_is_told_with_its_error(prefix: str, fake: FakeTelemetry, tmp_path: Any) -> None:
    async with Queue("q", f"unix://{tmp_path}/none.sock", prefix=prefix, telemetry=fake) as queue:
        with pytest.raises(StoreUnavailable):
            await queue.add("a", {})
        with pytest.raises(InvalidOption):
            await queue.add("a", {}, attempts=0)
    assert [[type(error) for error in span.errors] for span in fake.spans] == [[StoreUnavailable], [InvalidOption]]
    assert [span.ended for span in fake.spans] == [1, 1]
    assert fake.active() == ""


async def test_what_operators_do_is_told(told: Queue, fake: FakeTelemetry) -> None:
    """BMQ-138: internal spans for every operation."""
    job = await told.add("a", {})
    await told.pause()
    await told.resume()
    await told.set_concurrency(3)
    await told.limit_for(1)
    await told.lift_limit()
    await told.update_progress(job.id, 5)
    await told.remove(job.id)
    await told.upsert_scheduler("s", every=60)
    await told.remove_scheduler("s")
    await told.remove_deduplication("d")
    await told.promote_jobs()
    await told.retry_jobs()
    await told.clean(0)
    await told.trim_events(10)
    await told.drain()
    await told.obliterate()

    operations = [span.name.removesuffix(" q") for span in fake.spans[1:]]
    assert operations == [
        *("pause", "resume", "setGlobalConcurrency", "rateLimit", "removeRateLimitKey", "updateJobProgress", "remove"),
        *("upsertJobScheduler", "removeJobScheduler", "removeDeduplicationKey", "promoteJobs", "retryJobs", "clean"),
        *("trimEvents", "drain", "obliterate"),
    ]
    assert {(span.kind, span.ended) for span in fake.spans[1:]} == {("internal", 1)}


async def test_the_gauge_is_told_when_asked(told: Queue, fake: FakeTelemetry) -> None:
    """BMQ-139."""
    await told.add_many([("a", {}), ("a", {}, {"delay": 60})])
    counts = await told.record_counts()
    shown = {about["bullmq.queue.jobs.state"]: value for name, value, about in fake.told if name == "bullmq.queue.jobs"}
    assert shown == counts
    assert (shown["waiting"], shown["delayed"]) == (1, 1)


async def test_a_span_that_nobody_sees_is_told_nothing(redis_socket_url: str, prefix: str) -> None:
    """Sampled out: the context still travels, so that nobody begins a trace in the middle."""
    fake = FakeTelemetry(recording=False)

    async def handler(job: Job) -> None:
        if not job.attempts_made:
            raise ValueError("no")

    async with Queue("q", redis_socket_url, prefix=prefix, telemetry=fake) as queue:
        await queue.add("a", {}, attempts=2)
        async with Worker("q", handler, redis_socket_url, prefix=prefix, telemetry=fake):
            await ended(fake, "process q", 2)
    assert [(span.attributes, span.events, span.errors) for span in fake.spans] == [({}, [], [])] * 3
    assert [span.parent for span in fake.named("process q")] == ["1", "1"]
    assert not fake.named("wait q")


async def test_jobs_that_are_settled_by_hand_are_counted(told: Queue, working: MakeWorker, fake: FakeTelemetry) -> None:
    """BMQ-139."""
    worker = working(None)
    await told.add_many([("a", {}), ("b", {})])
    for settle in (lambda job: worker.complete(job, 1), lambda job: worker.fail(job, ValueError("no"))):
        job = await worker.fetch()
        assert job is not None
        await settle(job)
    await worker.stop()
    assert [name for name, _, _ in fake.told] == ["bullmq.jobs.completed", "bullmq.jobs.failed"]
