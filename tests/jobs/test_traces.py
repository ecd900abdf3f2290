"""The trace of a job, from the call that accepts it to what its handler does: SEED-040, SEED-239, BMQ-138."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from support.eventually import eventually
from support.telemetry import FakeTelemetry, Recorded, id_of, parent_of, trace_of
from taurine import Context, Fixed, JobFailed, Pipeline, Retry, Snooze, Taurine
from taurine.queue import Queue

MakeApp = Callable[..., Taurine]


class Task(BaseModel):
    to: str = "ann@example.com"


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def app(app_factory: MakeApp, recorded: Recorded) -> Taurine:
    return app_factory(telemetry=recorded.telemetry)


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_one_trace_from_the_request_to_the_attempt(app: Taurine, recorded: Recorded) -> None:
    """BMQ-138; the attempt knows its job, type, queue, tenant and number."""

    @app.job("mail.send", queue="mails", tenant="acme")
    async def send(_: Task) -> int:
        return 1

    with recorded.tracer.start_as_current_span("POST /mails"):
        handle = await send.enqueue(Task(), job_id="mail:1")
    async with app.worker():
        await handle.result(timeout=20)
        await eventually(lambda: recorded.spans("process mails"))

    request, enqueue, add = (
        recorded.one("POST /mails"),
        recorded.one("enqueue mail.send"),
        recorded.one("add mails.mail.send"),
    )
    wait, process = recorded.one("wait mails"), recorded.one("process mails")
    assert [parent_of(span) for span in (enqueue, add, wait, process)] == [id_of(request), *[id_of(enqueue)] * 3]
    assert {trace_of(span) for span in recorded.spans()} == {trace_of(request)}
    about = {
        "bullmq.queue.name": "mails",
        "bullmq.job.name": "mail.send",
        "bullmq.job.id": "mail:1",
        "taurine.tenant": "acme",
    }
    assert attributes(enqueue).items() >= about.items()
    assert attributes(process).items() >= (about | {"taurine.job.attempt": 1, "taurine.job.max_attempts": 3}).items()


async def test_the_record_and_the_lines_have_the_trace(
    app: Taurine, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """The record keeps the context as it travels, and each line the trace's id, by which one searches."""

    @app.job("mail.send", queue="mails")
    async def send(_: Task, ctx: Context) -> str:
        ctx.log("sending")
        return str(ctx.trace)

    with caplog.at_level(logging.INFO, "taurine"):
        handle = await send.enqueue(Task())
        async with app.worker():
            carried = await handle.result(timeout=20)
            await eventually(lambda: recorded.spans("process mails"))
    trace_id = trace_of(recorded.one("enqueue mail.send"))
    lines = [line for line in caplog.records if getattr(line, "job_id", None) == handle.id]
    assert len(lines) == 3
    assert {line.__dict__["trace"] for line in lines} == {trace_id}
    assert trace_id in str((await handle.record()).trace)
    assert f"{id_of(recorded.one('process mails')):016x}" in carried, "what a handler passes on is its attempt"


async def test_what_a_handler_does_and_enqueues_is_within_its_attempt(app: Taurine, recorded: Recorded) -> None:
    """Stages, effects, and jobs that are enqueued; on the loop and in threads."""

    @app.job("note.keep", queue="notes")
    def keep(_: Task) -> None:
        pass

    async def fetch(task: Task, ctx: Context) -> Task:
        await ctx.once("fetch:ann@example.com", lambda: 1)
        return task

    def render(task: Task, ctx: Context) -> str:
        ctx.once_sync("render", lambda: 1)
        with recorded.tracer.start_as_current_span("inside of the thread"):
            keep.enqueue_sync(task)
        return task.to

    report = app.pipeline(Pipeline("report", [fetch, render]), name="report.make", queue="reports", tenant="acme")
    handle = await report.enqueue(Task())
    async with app.worker():
        await handle.result(timeout=20)
        await eventually(lambda: recorded.spans("process notes") and recorded.spans("process reports"))

    process, first, second = recorded.one("process reports"), recorded.one("stage fetch"), recorded.one("stage render")
    in_loop, in_thread = recorded.spans("once")
    own, enqueue = recorded.one("inside of the thread"), recorded.one("enqueue note.keep")
    assert [parent_of(span) for span in (first, second, in_loop, in_thread, own, enqueue)] == [
        *(id_of(process), id_of(process), id_of(first), id_of(second), id_of(second), id_of(own)),
    ]
    assert parent_of(recorded.one("process notes")) == id_of(enqueue)
    for step in (first, second, in_loop, in_thread):
        assert attributes(step)["bullmq.job.id"] == handle.id
        assert attributes(step)["taurine.tenant"] == "acme"
        assert attributes(step)["taurine.job.attempt"] == 1
    assert attributes(first)["taurine.stage"] == "fetch"
    assert attributes(in_loop)["taurine.effect.key"] == "fetch:[redacted]"


async def test_a_retry_is_a_linked_sibling_and_its_error_is_redacted(app: Taurine, recorded: Recorded) -> None:
    @app.job("mail.send", queue="mails", retry=Retry(attempts=2, backoff=Fixed(0)))
    async def send(task: Task, ctx: Context) -> None:
        raise ValueError(f"no mailbox {task.to}")

    handle = await send.enqueue(Task(), job_id="mail:ann@example.com")
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=20)
        await eventually(lambda: len(recorded.spans("process mails")) == 2)
    first, second = recorded.spans("process mails")
    assert parent_of(first) == parent_of(second) == id_of(recorded.one("enqueue mail.send"))
    assert [link.context.span_id for link in second.links] == [id_of(first)]
    assert [attributes(span)["taurine.job.attempt"] for span in (first, second)] == [1, 2]
    assert [(span.status.status_code, span.status.description) for span in (first, second)] == [
        (StatusCode.ERROR, "no mailbox [redacted]")
    ] * 2
    assert {attributes(span)["error.type"] for span in (first, second)} == {"ValueError"}
    everything = "".join(span.to_json() for span in recorded.spans())
    assert "ann@example.com" not in everything
    assert "mail:[redacted]#" in everything


async def test_a_stage_that_fails_is_told_by_the_same_rules_and_one_that_leaves_is_no_error(
    app: Taurine, recorded: Recorded
) -> None:
    async def fail(task: Task, ctx: Context) -> Task:
        if task.to == "later":
            raise Snooze(60)
        raise ValueError(f"no mailbox {task.to}")

    mail = app.pipeline(Pipeline("mail", [fail]), name="mail.send", queue="mails", retry=Retry(attempts=1))
    handles = [await mail.enqueue(Task()), await mail.enqueue(Task(to="later"))]
    async with app.worker():
        with pytest.raises(JobFailed):
            await handles[0].result(timeout=20)
        await eventually(lambda: len(recorded.spans("process mails")) == 2)
    failed, left = (
        next(span for span in recorded.spans("stage fail") if attributes(span)["bullmq.job.id"] == handle.id)
        for handle in handles
    )
    assert (failed.status.description, attributes(failed)["error.type"]) == ("no mailbox [redacted]", "ValueError")
    assert (left.status.status_code, [event.name for event in left.events]) == (StatusCode.UNSET, ["left"])
    assert "ann@example.com" not in "".join(span.to_json() for span in recorded.spans())


async def test_what_the_outbox_hands_over_belongs_to_who_asked_for_it(
    app: Taurine, recorded: Recorded, sqlite_url: str
) -> None:
    """The rest of the caller's transaction, and the hand-over, come later; the trace is in the record."""

    @app.job("mail.send", queue="mails")
    async def send(_: Task) -> None:
        pass

    await app.migrate()
    engine = create_engine(sqlite_url)
    with recorded.tracer.start_as_current_span("request"), Session(engine) as session:
        handles = [await send.enqueue(Task(), session=session) for _ in range(2)]
        session.commit()
    engine.dispose()
    async with app.worker():
        for handle in handles:
            await handle.result(timeout=20)
        await eventually(lambda: len(recorded.spans("process mails")) == 2)
    request, enqueued = recorded.one("request"), recorded.spans("enqueue mail.send")
    assert [parent_of(span) for span in enqueued] == [id_of(request)] * 2
    assert {parent_of(span) for span in recorded.spans("process mails")} == {id_of(span) for span in enqueued}
    bulk = [span for span in recorded.spans() if span.name.startswith(("addBulk", "add "))]
    told = {link.context.span_id for span in bulk for link in span.links} | {parent_of(span) for span in bulk}
    assert told >= {id_of(span) for span in enqueued}


async def test_a_job_that_another_has_put_into_a_shared_queue_keeps_its_trace(
    app: Taurine, recorded: Recorded, redis_socket_url: str, prefix: str
) -> None:
    @app.job("mail.send", queue="mails")
    async def send(_: Task) -> None:
        pass

    app.queue("mails", shared=True)
    others = Recorded()
    async with Queue("mails", redis_socket_url, prefix=prefix, telemetry=others.telemetry) as queue:
        await queue.add("mail.send", {"to": "x"}, job_id="theirs")
    async with app.worker():
        await eventually(lambda: recorded.spans("process mails"))
    add = others.one("add mails.mail.send")
    assert parent_of(recorded.one("process mails")) == id_of(add)
    record = await app.get("theirs")
    assert record is not None
    assert trace_of(add) in str(record.trace)


async def test_an_accepted_list_is_one_span(app: Taurine, recorded: Recorded) -> None:
    @app.job("mail.send", queue="mails")
    async def send(_: Task) -> None:
        pass

    await send.enqueue_many([Task(to="a"), Task(to="b")])
    enqueue, bulk = recorded.one("enqueueMany mail.send"), recorded.one("addBulk mails")
    assert parent_of(bulk) == id_of(enqueue)
    assert attributes(enqueue)["bullmq.job.bulk.count"] == 2
    assert {record.trace async for record in app.list()} == {
        f'{{"traceparent":"00-{trace_of(enqueue)}-{id_of(enqueue):016x}-{_flags(enqueue)}"}}'
    }


def _flags(span: Any) -> str:
    return f"{span.get_span_context().trace_flags:02x}"


async def test_operators_calls_are_children_of_who_makes_them(app: Taurine, recorded: Recorded) -> None:
    @app.job("mail.send", queue="mails")
    async def send(_: Task) -> None:
        pass

    with recorded.tracer.start_as_current_span("admin"):
        await app.queues.pause("mails")
    assert parent_of(recorded.one("pause mails")) == id_of(recorded.one("admin"))


async def test_a_fake_telemetry_is_enough_for_an_application(app_factory: MakeApp) -> None:
    """BMQ-140."""
    fake = FakeTelemetry()
    app = app_factory(telemetry=fake)

    @app.job("mail.send", queue="mails")
    async def send(_: Task, ctx: Context) -> str:
        return f"{ctx.trace}"

    handle = await send.enqueue(Task())
    async with app.worker():
        assert (await handle.result(timeout=20)).startswith("span ")
        await eventually(lambda: any(name == "bullmq.jobs.completed" for name, _, _ in fake.told))
    enqueue, add, wait, process = fake.spans[:4]
    assert [span.name for span in (enqueue, add)] == ["enqueue mail.send", "add mails.mail.send"]
    assert {wait.name, process.name} == {"wait mails", "process mails"}
    assert {span.parent for span in (add, wait, process)} == {enqueue.number}
    assert app.telemetry is fake


def declare_two(app: Taurine) -> None:
    """`mail.send`, which enqueues `note.keep` and returns its id."""

    @app.job("note.keep", queue="notes")
    async def keep(_: Task) -> None:
        pass

    @app.job("mail.send", queue="mails")
    async def send(task: Task) -> str:
        return (await keep.enqueue(task)).id


async def test_without_a_telemetry_a_handlers_jobs_go_on_with_what_came(
    app_factory: MakeApp, recorded: Recorded
) -> None:
    """A worker that tells nobody does not tear a trace apart either: the context of the request goes on to the jobs of
    its job.
    """
    accepting, working = app_factory(telemetry=recorded.telemetry), app_factory()
    for app in (accepting, working):
        declare_two(app)

    handle = await accepting.enqueue("mail.send", Task())
    async with working.worker():
        inner = await handle.result(timeout=20)
        record = await working.get(inner)
    assert record is not None
    assert record.trace == (await handle.record()).trace
    assert trace.get_current_span() is trace.INVALID_SPAN
