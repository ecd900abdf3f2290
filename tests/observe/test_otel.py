"""OpenTelemetry's own SDK hears what it should: BMQ-138, BMQ-139, SEED-040, SEED-239."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from support.eventually import eventually
from support.telemetry import Recorded, id_of, parent_of, trace_of
from taurine.observe.otel import OpenTelemetry
from taurine.options import JobTelemetry
from taurine.queue import Job, Queue, Worker


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


async def run(recorded: Recorded, url: str, prefix: str, *jobs: tuple[str, Any]) -> None:
    """Add jobs one by one, within a span `request`, and run them: `bad` ones fail, for good or by their options."""

    async def handler(job: Job) -> int:
        if job.name == "bad":
            raise ValueError("no such account")
        return 1

    telemetry = recorded.telemetry
    async with Queue("q", url, prefix=prefix, telemetry=telemetry) as queue:
        with recorded.tracer.start_as_current_span("request"):
            for name, options in jobs:
                await queue.add(name, {}, **options)
        expected = sum(options.get("attempts", 1) if name == "bad" else 1 for name, options in jobs)
        async with Worker("q", handler, url, prefix=prefix, telemetry=telemetry, concurrency=1):
            await eventually(lambda: _settled(recorded) == expected)


def _settled(recorded: Recorded) -> int:
    counted = recorded.measures()
    return sum(sum(points.values()) for name, points in counted.items() if name.startswith("bullmq.jobs."))


async def test_the_consumers_span_is_a_child_of_the_producers(
    recorded: Recorded, redis_socket_url: str, prefix: str
) -> None:
    """BMQ-138."""
    await run(recorded, redis_socket_url, prefix, ("ok", {}))

    request, add, process = recorded.one("request"), recorded.one("add q.ok"), recorded.one("process q")
    assert (parent_of(add), parent_of(process)) == (id_of(request), id_of(add))
    assert {trace_of(span) for span in recorded.spans()} == {trace_of(request)}
    assert (add.kind, process.kind, recorded.one("wait q").kind) == (
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
        SpanKind.INTERNAL,
    )
    assert process.parent is not None
    assert process.parent.is_remote


async def test_spans_have_bullmqs_attributes_and_those_of_the_conventions(
    recorded: Recorded, redis_socket_url: str, prefix: str
) -> None:
    await run(recorded, redis_socket_url, prefix, ("ok", {"job_id": "j"}))

    add, process = (dict(recorded.one(name).attributes or {}) for name in ("add q.ok", "process q"))
    both = {
        "bullmq.queue.name": "q",
        "bullmq.job.name": "ok",
        "bullmq.job.id": "j",
        "messaging.system": "bullmq",
        "messaging.destination.name": "q",
        "messaging.message.id": "j",
    }
    assert add.items() >= (both | {"messaging.operation.name": "add", "messaging.operation.type": "send"}).items()
    of_process = {"messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert process.items() >= (both | of_process | {"bullmq.job.attempts.made": 1}).items()


async def test_an_error_is_recorded_with_its_text_and_traceback(
    recorded: Recorded, redis_socket_url: str, prefix: str
) -> None:
    await run(recorded, redis_socket_url, prefix, ("bad", {}))

    process = recorded.one("process q")
    assert (process.status.status_code, process.status.description) == (StatusCode.ERROR, "no such account")
    assert dict(process.attributes or {})["error.type"] == "ValueError"
    (failed, raised) = process.events
    assert (failed.name, raised.name) == ("job failed", "exception")
    assert 'raise ValueError("no such account")' in str((raised.attributes or {})["exception.stacktrace"])


async def test_a_retry_is_linked_to_the_attempt_before(recorded: Recorded, redis_socket_url: str, prefix: str) -> None:
    await run(recorded, redis_socket_url, prefix, ("bad", {"attempts": 2}))

    first, second = recorded.spans("process q")
    assert parent_of(first) == parent_of(second)
    assert [link.context.span_id for link in second.links] == [id_of(first)]


async def test_values_after_three_jobs(recorded: Recorded, redis_socket_url: str, prefix: str) -> None:
    """BMQ-139: BullMQ's names, units and attributes."""
    await run(recorded, redis_socket_url, prefix, ("ok", {}), ("ok", {}), ("bad", {"attempts": 2}))
    async with Queue("q", redis_socket_url, prefix=prefix, telemetry=recorded.telemetry) as queue:
        await queue.record_counts()

    measures = recorded.measures()
    durations = measures.pop("bullmq.job.duration")
    assert {key: count for key, (count, _) in durations.items()} == {
        ("ok", "completed", "q"): 2,
        ("bad", "retried", "q"): 1,
        ("bad", "failed", "q"): 1,
    }
    assert all(0 < milliseconds < 5000 for _, milliseconds in durations.values())
    gauge = measures.pop("bullmq.queue.jobs")
    assert {state: count for (state, _), count in gauge.items() if count} == {"completed": 2, "failed": 1}
    assert measures == {
        "bullmq.jobs.completed": {("ok", "completed", "q"): 2},
        "bullmq.jobs.retried": {("bad", "retried", "q"): 1},
        "bullmq.jobs.failed": {("bad", "failed", "q"): 1},
    }


async def test_measures_may_be_left_out(redis_socket_url: str, prefix: str) -> None:
    recorded = Recorded()
    recorded.telemetry = OpenTelemetry(recorded.provider, measures=False)
    assert recorded.telemetry.meter is None
    async with Queue("q", redis_socket_url, prefix=prefix, telemetry=recorded.telemetry) as queue:
        await queue.add("ok", {})
        assert (await queue.record_counts())["waiting"] == 1
    assert recorded.measures() == {}
    assert recorded.one("add q.ok")


async def test_what_is_sampled_out_stays_out_on_the_other_side(redis_socket_url: str, prefix: str) -> None:
    producers, consumers = Recorded(sampler=ParentBased(ALWAYS_OFF)), Recorded()
    done: list[str] = []

    async def handler(job: Job) -> None:
        done.append(job.id)

    async with Queue("q", redis_socket_url, prefix=prefix, telemetry=producers.telemetry) as queue:
        job = await queue.add("ok", {})
        async with Worker("q", handler, redis_socket_url, prefix=prefix, telemetry=consumers.telemetry):
            await eventually(lambda: done)
    assert job.telemetry is not None
    assert json.loads(str(job.telemetry.metadata)).keys() == {"traceparent"}
    assert (producers.spans(), consumers.spans()) == ([], [])


@pytest.mark.parametrize(
    "carried",
    ["", "{", "null", "17", "[]", "{}", '{"traceparent":7}', '{"traceparent":"00-0-0-0"}', "[" * 5000, "x" * 100_000, '{"traceparent":"\\ud800"}'],
    ids=lambda text: text[:20],
)  # fmt: skip
async def test_anything_may_have_travelled(
    carried: str, recorded: Recorded, redis_socket_url: str, prefix: str
) -> None:
    """Whoever can write to the server writes what he likes: the job runs, and begins a trace of its own."""
    await run(recorded, redis_socket_url, prefix, ("ok", {"telemetry": JobTelemetry(carried)}))

    assert parent_of(recorded.one("process q")) is None


def test_without_an_sdk_nothing_is_begun_and_what_others_began_travels_on() -> None:
    """The API alone: what a library may rely on."""
    telemetry = OpenTelemetry()
    contexts = telemetry.context_manager
    carried = '{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'

    span = telemetry.tracer.start_span("a", kind="internal", context=contexts.root())
    assert not span.is_recording
    assert contexts.inject(span.on_context(contexts.root())) is None
    child = telemetry.tracer.start_span("a", kind="internal", context=contexts.extract(carried))
    assert contexts.inject(child.on_context(contexts.extract(carried))) == carried


def test_the_extra_is_named_where_it_is_missing() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None; import taurine, taurine.app; import taurine.observe.otel"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert 'pip install "taurine[otel]"' in ran.stderr
