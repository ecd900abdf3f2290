"""A pipeline as a job type: with the real queue, ledger and worker."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from pipeline.desk import Heard, Ticket, Triage, classify, load, route
from taurine import (
    Context,
    Fixed,
    InvalidOption,
    JobCancelled,
    JobFailed,
    JobHandle,
    JobRecord,
    PayloadInvalid,
    Permanent,
    Pipeline,
    Retry,
    Stage,
    StageEvent,
    StageObserver,
    Taurine,
    TaurineWarning,
)
from taurine.queue import Queue

TICKET = Ticket(number=7, summary="The INVOICE is wrong")
TWICE = Retry(attempts=2, backoff=Fixed(0.01))


async def record_when(handle: JobHandle[Any], progress: str) -> JobRecord:
    """The record once its progress shows this message."""
    async with asyncio.timeout(20):
        while True:
            record = await handle.record()
            if record.progress is not None and record.progress["message"] == progress:
                return record
            await asyncio.sleep(0.02)


async def test_its_payload_and_result_are_those_of_the_first_and_the_last_stage(app: Taurine) -> None:
    """SEED-044: success writes status and output."""
    triage = app.pipeline(Pipeline("ticket-triage", (load, classify)), queue="triage", retry=TWICE)
    assert (triage.name, triage.queue, triage.options.retry) == ("ticket-triage", "triage", TWICE)
    async with app.worker():
        handle = await triage.enqueue(TICKET)
        assert await handle.result(timeout=20) == Triage(number=7, category="billing")
    record = await handle.record()
    assert (record.status, record.output) == ("completed", {"number": 7, "category": "billing"})


async def test_called_like_its_function_it_runs_right_here() -> None:
    """SEED-048."""
    app = Taurine("support-desk")
    triage = app.pipeline(Pipeline("ticket-triage", (load, classify, route)), name="ticket.triage")
    assert triage.name == "ticket.triage"
    assert await triage(TICKET) == "billing/7"


async def test_a_payload_that_the_first_stage_does_not_take_is_refused_before_anything_is_stored(app: Taurine) -> None:
    """SEED-041."""
    triage = app.pipeline(Pipeline("ticket-triage", (load, classify)))
    with pytest.raises(PayloadInvalid, match="ticket-triage: the payload is not valid: summary"):
        await triage.enqueue({"number": 7, "summary": ""})  # pyright: ignore[reportArgumentType] - what is tested
    assert len(await app.list(type="ticket-triage")) == 0


async def test_two_enqueues_of_one_ticket_are_one_job(app: Taurine) -> None:
    """SEED-042, SEED-043: the record is there, pending, before anything runs."""
    triage = app.pipeline(Pipeline("ticket-triage", (load, classify)), job_id="triage:{number}")
    first, second = await triage.enqueue(TICKET), await triage.enqueue(TICKET)
    assert (first.id, second.id, second.duplicate) == ("triage:7", "triage:7", True)
    assert (await first.record()).status == "queued"


async def test_stages_are_seen_in_the_record_while_they_run_and_after(app: Taurine) -> None:
    """SEED-047, and SEED-038: they are in the ledger, not only in the queue."""
    go_on = asyncio.Event()

    async def slowly(loaded: Triage, ctx: Context) -> Triage:
        await ctx.progress(1, 2, "half of it")
        await go_on.wait()
        return loaded

    pipeline = Pipeline("ticket-triage", (load, classify, Stage("slowly", slowly, weight=2)))
    triage = app.pipeline(pipeline, queue="triage")
    async with app.worker():
        handle = await triage.enqueue(TICKET)
        progress = (await record_when(handle, "half of it")).progress or {}
        assert (progress["stage"], progress["index"], progress["count"], progress["share"]) == ("slowly", 2, 3, 0.75)
        assert list(progress["durations"]) == ["load", "classify"]
        go_on.set()
        await handle.result(timeout=20)
    async with Queue("triage", app.settings.redis_url or "", prefix=app.settings.prefix) as queue:
        await queue.obliterate(force=True)
    progress = (await handle.record()).progress or {}
    assert (progress["stage"], progress["percentage"]) == ("slowly", 100)
    assert list(progress["durations"]) == ["load", "classify", "slowly"]
    assert all(seconds >= 0 for seconds in progress["durations"].values())


async def test_lines_carry_job_and_stage(app: Taurine, caplog: pytest.LogCaptureFixture) -> None:
    """SEED-027, SEED-040."""
    caplog.set_level("INFO", "taurine")

    def talk(ticket: Ticket, ctx: Context) -> Ticket:
        ctx.log.info("talking")
        return ticket

    triage = app.pipeline(Pipeline("ticket-triage", (talk, load)))
    async with app.worker():
        handle = await triage.enqueue(TICKET)
        await handle.result(timeout=20)
    lines = [
        (line.message.partition(" in ")[0], (line.fields or {}).get("stage")) for line in await app.logs(handle.id)
    ]
    assert lines == [("talking", "talk"), ("stage 'talk' completed", "talk"), ("stage 'load' completed", "load")]
    written = [record.__dict__ for record in caplog.records if record.name == "taurine.handler"]
    assert [(record["job_id"], record["stage"]) for record in written] == [
        *[(handle.id, "talk"), (handle.id, "talk"), (handle.id, "load")]
    ]
    others = [record.__dict__ for record in caplog.records if record.name == "taurine.jobs"]
    assert all("stage" not in record for record in others), "what is about the job alone has no stage"


async def test_a_failure_names_its_stage_and_leaves_the_retry_to_the_queue(app: Taurine) -> None:
    """SEED-045: the error's own type is what is classified; no stage enqueues anything."""
    attempts: list[int] = []

    async def ask_the_model(ticket: Ticket, ctx: Context) -> Ticket:
        attempts.append(ctx.attempt)
        raise ConnectionError("the model is away")

    triage = app.pipeline(Pipeline("ticket-triage", (ask_the_model, load)), retry=TWICE)
    async with app.worker():
        handle = await triage.enqueue(TICKET)
        with pytest.raises(JobFailed, match="the model is away"):
            await handle.result(timeout=20)
    record = await handle.record()
    assert attempts == [1, 2]
    assert (record.status, record.attempts) == ("failed", 2)
    error = record.error or {}
    assert (error["type"], error["message"]) == ("ConnectionError", "the model is away")
    assert error["traceback"].endswith("in stage 'ask_the_model' (1 of 2) of pipeline 'ticket-triage'")
    assert "taurine/pipeline" not in error["traceback"], "it begins where the stage's own code does"
    assert (record.progress or {})["stage"] == "ask_the_model"
    assert len(await app.list(type="ticket-triage")) == 1


async def test_the_word_of_a_stage_about_its_attempt_counts(app: Taurine) -> None:
    async def refuse(ticket: Ticket) -> Ticket:
        raise Permanent("no such customer")

    triage = app.pipeline(Pipeline("ticket-triage", (refuse, load)), retry=TWICE)
    async with app.worker():
        handle = await triage.enqueue(TICKET)
        with pytest.raises(JobFailed, match="no such customer"):
            await handle.result(timeout=20)
    assert (await handle.record()).attempts == 1


async def test_an_effect_of_a_stage_happens_once_although_a_later_stage_fails(app: Taurine) -> None:
    """SEED-046."""
    sent: list[int] = []

    async def notify(ticket: Ticket, ctx: Context) -> Ticket:
        await ctx.once(f"notify:{ticket.number}", sent.append, ticket.number)
        return ticket

    def archive(ticket: Ticket, ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("the archive is away")
        return ticket.number

    triage = app.pipeline(Pipeline("ticket-triage", (notify, archive)), retry=TWICE)
    async with app.worker():
        assert await (await triage.enqueue(TICKET)).result(timeout=20) == 7
    assert sent == [7]


async def test_a_cancel_is_heard_between_stages(app: Taurine) -> None:
    ran: list[str] = []

    async def hold(ticket: Ticket, ctx: Context) -> Ticket:
        ran.append("hold")
        ctx.progress(0, message="holding")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return ticket  # as if nothing had been said
        return ticket

    async def after(ticket: Ticket) -> Ticket:
        ran.append("after")
        return ticket

    triage = app.pipeline(Pipeline("ticket-triage", (hold, after)))
    async with app.worker():
        handle = await triage.enqueue(TICKET)
        await record_when(handle, "holding")
        await handle.cancel(reason="no longer needed")
        with pytest.raises(JobCancelled, match="no longer needed"):
            await handle.result(timeout=20)
    assert ran == ["hold"]


async def test_a_time_limit_ends_a_plain_stage(app: Taurine) -> None:
    interrupted = threading.Event()

    def turn(ticket: Ticket) -> int:
        try:
            while True:
                pass
        finally:
            interrupted.set()

    triage = app.pipeline(
        Pipeline("ticket-triage", (load, Stage("turn", _ignoring(turn)))), timeout=0.3, retry=Retry.NONE
    )
    async with app.worker():
        handle = await triage.enqueue(TICKET)
        with pytest.raises(JobFailed, match="time limit"):
            await handle.result(timeout=20)
    assert ((await handle.record()).error or {})["type"] == "TimeLimitExceeded"
    assert interrupted.wait(5)


def _ignoring(turn: Any) -> Any:
    def call(value: Any) -> int:
        return turn(value)

    call.__annotations__["value"] = Any
    return call


async def test_observers_do_not_make_the_state_of_the_product(app: Taurine) -> None:
    """SEED-028, SEED-238: with a broken observer, the record is as right as without; SEED-239: it hears the job's id."""

    class Broken(StageObserver):
        async def stage_started(self, event: StageEvent) -> None:
            raise RuntimeError("no metrics today")

    heard = Heard()
    triage = app.pipeline(Pipeline("ticket-triage", (load, classify), observers=[Broken(), heard]))
    async with app.worker():
        handle = await triage.enqueue(TICKET)
        await handle.result(timeout=20)
    assert (await handle.record()).status == "completed"
    assert {event.job_id for _, event in heard.events} == {handle.id}
    assert heard.story[-1] == "classify completed"


@pytest.mark.parametrize("runs_in", ["thread", "process"])
def test_it_runs_on_the_loop_and_says_what_to_write_for_elsewhere(runs_in: Any) -> None:
    app = Taurine("support-desk")
    with pytest.raises(InvalidOption, match=r"return await pipeline\.run\(payload, ctx\)"):
        app.pipeline(Pipeline("ticket-triage", (load,)), runs_in=runs_in)


def test_options_are_those_of_a_job() -> None:
    app = Taurine("support-desk")
    with pytest.raises(InvalidOption, match="did you mean 'queue'"):
        app.pipeline(Pipeline("ticket-triage", (load,)), que="mail")  # pyright: ignore[reportCallIssue] - what is tested
    with pytest.warns(TaurineWarning, match="'run' does not say what the job does"):
        app.pipeline(Pipeline("ticket-triage", (load,)), name="run")
