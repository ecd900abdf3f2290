"""Dead letters: one for each generation that failed for good, whatever became of its worker, and what may be done with
them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from jobs.operated import Order, declare_orders, ended
from taurine.app import Taurine
from taurine.errors import InvalidOption, NotAuthorized, PayloadInvalid, RecordNotFound, TransitionRefused
from taurine.jobs.enqueue.access import AccessRequest
from taurine.jobs.handler.context import Context
from taurine.ledger.dead_letter_entry import DeadLetter
from taurine.ledger.dead_letters import DeadLetterFilter
from taurine.queue import Queue
from taurine.retry import Fixed, Retry
from taurine.testing import TestClock


async def fail_orders(app: Taurine, number: int, **options: Any) -> list[str]:
    """Orders that have failed for good; the ids of their jobs."""
    orders = app.catalog.get("order")
    handles = [await orders.enqueue(Order(number=each, fail="broken"), **options) for each in range(number)]
    async with app.worker():
        for handle in handles:
            await ended(lambda handle=handle: app.get(handle.id), "failed")
    return [handle.id for handle in handles]


# Exactly one --------------------------------------------------------------------------------------------------------------------


async def killed_workers(app: Taurine, **settings: Any) -> dict[str, int]:
    """Let workers die as `dying_workers` says, and return how many died by each point."""
    settings = {
        "redis_url": app.settings.redis_url,
        "database_url": app.settings.database_url,
        "prefix": app.settings.prefix,
        "home": str(app.settings.home),
        "max_crashes": 3,
        **settings,
    }
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("dying_workers.py")),
        json.dumps(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert program.returncode == 0, errors.decode()
    return json.loads(output)


@pytest.mark.timeout(240)
async def test_kill_at_the_moment_of_the_last_failure(
    ledger_url: str, app: Taurine, figure: Callable[[str], None]
) -> None:
    """SEED-259: a worker is killed 50 times (24 on PostgreSQL) as it records a last failure; afterwards each job has
    failed, with one entry.
    """
    kills = 50 if ledger_url.startswith("sqlite") else 24
    await app.migrate()
    orders = declare_orders(app, retry=Retry.NONE)
    handles = await orders.enqueue_many([Order(number=number, fail="broken") for number in range(kills)])
    started = time.monotonic()

    died = await killed_workers(app, kills=kills, points=["before", "during", "after"])
    async with app.worker(lease=0.5, stalled_interval=0.1):
        for handle in handles:
            await ended(lambda handle=handle: app.get(handle.id), "failed", within=30)
    entries = [entry async for entry in app.dead_letters.list()]

    figure(f"{sum(died.values())} workers killed in {time.monotonic() - started:.1f} s, {len(entries)} dead letters")
    assert sum(died.values()) == kills
    assert min(died.values()) >= kills // 3
    assert sorted(entry.job_id for entry in entries) == sorted(handle.id for handle in handles)
    assert {entry.reason for entry in entries} <= {"exhausted", "crashed"}


async def test_stall_to_exhaustion(app: Taurine) -> None:
    """SEED-260: a job that kills its worker each time ends as a dead letter, although no handler ever failed."""
    orders = declare_orders(app)
    handle = await orders.enqueue(Order(number=1))

    died = await killed_workers(app, kills=3, points=["handler"])
    async with app.worker(lease=0.5, stalled_interval=0.1, max_crashes=3):
        await ended(lambda: app.get(handle.id), "failed", within=20)
    (entry,) = await app.dead_letters.list()

    assert died == {"handler": 3}
    assert (entry.job_id, entry.reason, entry.payload) == (handle.id, "crashed", {"number": 1, "fail": None})
    assert entry.error is not None
    assert entry.error["type"] == "WorkerLost"
    assert "died, or lost its lease" in entry.error["message"]


async def test_exhausted_once_by_default(ledger_url: str, app: Taurine) -> None:
    """SEED-137, SEED-177, CON-06: the last attempt makes the one entry, and the earlier ones make none."""
    await app.migrate()
    declare_orders(app)
    (job_id,) = await fail_orders(app, 1, tenant="acme")

    (entry,) = await app.dead_letters.list()

    assert (entry.job_id, entry.queue, entry.type, entry.tenant) == (job_id, "orders", "order", "acme")
    assert (entry.reason, entry.attempts, entry.generation, entry.status) == ("exhausted", 2, 0, "open")
    assert (entry.error["type"], entry.error["message"]) == ("RuntimeError", "broken")
    record = await app.get(job_id)
    assert record is not None
    assert entry.failed_at == record.finished_at


async def test_permanent_error_is_dead_and_never_completed(app: Taurine, redis_socket_url: str, prefix: str) -> None:
    """SEED-135, CON-05: one attempt, an entry, and neither the record nor the queue ever says completed."""
    orders = declare_orders(app)
    async with app.worker():
        handle = await orders.enqueue(Order(number=1, fail="permanent"))
        record = await ended(lambda: app.get(handle.id), "failed")
    (entry,) = await app.dead_letters.list()
    async with Queue("orders", redis_socket_url, prefix=prefix) as queue:
        counts = await queue.counts("completed", "failed")

    assert (record.attempts, entry.reason, entry.attempts) == (1, "permanent", 1)
    assert counts == {"completed": 0, "failed": 1}


@pytest.mark.parametrize("own", [1, 4])
async def test_attempts_are_those_of_the_job(app: Taurine, own: int) -> None:
    """SEED-261: a job's own number of attempts counts, not the type's, nor a library's default."""
    orders = declare_orders(app)
    async with app.worker():
        handle = await orders.enqueue(Order(number=1, fail="broken"), retry=Retry(attempts=own, backoff=Fixed(0.001)))
        await ended(lambda: app.get(handle.id), "failed")
    (entry,) = await app.dead_letters.list()

    assert entry.attempts == own
    assert len(await app.attempts(handle.id)) == own


async def test_log_line_at_error_level(app: Taurine, caplog: pytest.LogCaptureFixture) -> None:
    """SEED-139: id, queue, error and attempts are in one line."""
    declare_orders(app)
    with caplog.at_level(logging.ERROR, "taurine.jobs"):
        (job_id,) = await fail_orders(app, 1)

    (line,) = [line for line in caplog.records if "is dead" in line.getMessage()]
    assert job_id in line.getMessage()
    assert "2 of 2 attempts" in line.getMessage()
    assert (line.levelno, line.__dict__["queue"], line.__dict__["job_id"]) == (logging.ERROR, "orders", job_id)
    assert "broken" in caplog.text


def test_fields_are_a_superset_of_the_usual_ones() -> None:
    """SEED-136, SEED-138, SEED-198, CON-07: original job, queue, id, data, error, time of failure, attempts; one view
    with the queue as a field.
    """
    names = {entry.name for entry in fields(DeadLetter)} | {"payload", "error"}

    assert names >= {"job_id", "type", "queue", "tenant", "payload", "error", "failed_at", "attempts", "reason"}


# Judging ------------------------------------------------------------------------------------------------------------------------


async def test_everything_needed_to_judge(ledger_url: str, app: Taurine) -> None:
    """All attempts with their errors and times, the lines, the payload, and who did what; a later generation's attempts
    are not among them.
    """
    await app.migrate()

    @app.job("flaky", queue="flaky", retry=Retry(attempts=2, backoff=Fixed(0.001)))
    async def flaky(payload: Order, ctx: Context) -> None:
        ctx.log(f"try {ctx.attempt} of {payload.number}")
        raise ValueError(f"wrong {ctx.attempt}") if ctx.attempt == 1 else ConnectionError("no route")

    async with app.worker():
        handle = await flaky.enqueue(Order(number=1), user="ann", retry=Retry(attempts=2, backoff=Fixed(0.001)))
        await ended(lambda: app.get(handle.id), "failed")
        first = (await app.dead_letters.list())[0]
        await app.dead_letters.redrive(first, payload={"number": 2}, user="bob")
        await ended(lambda: app.get(handle.id), "failed")
        second = (await app.dead_letters.list())[0]
    before, after = await app.dead_letters.examine(first.id), await app.dead_letters.examine(second)

    errors = [attempt.error for attempt in before.attempts]
    assert [(error or {})["type"] for error in errors][-1:] == ["ConnectionError"] or len(errors) == 1
    assert {attempt.generation for attempt in before.attempts} == {0}
    assert {attempt.generation for attempt in after.attempts} == {0, 1}
    assert all(attempt.started_at and attempt.finished_at and attempt.error for attempt in after.attempts)
    assert before.lines[0].message == "try 1 of 1"
    assert (before.entry.payload["number"], after.entry.payload["number"]) == (1, 2)
    assert before.record is not None
    assert before.record.generation == 1
    assert [(action.action, action.actor) for action in after.actions] == [("enqueue", "ann"), ("redrive", "bob")]
    with pytest.raises(RecordNotFound):
        await app.dead_letters.examine("0" * 32)


async def test_listing_by_what_they_are(app: Taurine) -> None:
    """One view over all queues, with pages; a fingerprint finds all of one cause."""
    orders = declare_orders(app)

    @app.job("other", queue="others", retry=Retry.NONE)
    async def other(payload: Order) -> None:
        raise LookupError("elsewhere")

    await fail_orders(app, 3, tenant="acme")
    async with app.worker():
        handle = await other.enqueue(Order(number=9), tenant="globex")
        await ended(lambda: app.get(handle.id), "failed")
        permanent = await orders.enqueue(Order(number=5, fail="permanent"))
        await ended(lambda: app.get(permanent.id), "failed")
    letters = app.dead_letters

    async def found(**filters: Any) -> list[str]:
        return [entry.type + str(entry.payload["number"]) async for entry in letters.list(**filters)]

    everything = await found()
    assert sorted(everything) == ["order0", "order1", "order2", "order5", "other9"]
    assert await found(limit=2) == everything
    assert await found(queue="others") == await found(type="other") == await found(tenant="globex") == ["other9"]
    (cause,) = {entry.error_fingerprint async for entry in letters.list(type="order") if entry.reason == "exhausted"}
    assert sorted(await found(fingerprint=cause)) == ["order0", "order1", "order2"]
    assert await found(status="discarded") == []
    assert await letters.depth() == {"orders": 4, "others": 1}
    entry = (await letters.list(queue="others"))[0]
    assert await letters.get(entry.id, tenant="acme") is None
    assert await letters.get(entry.id, tenant="globex") == entry
    assert await letters.get("nothing") is None


async def test_an_entry_is_got_by_its_id_and_the_latest_by_that_of_its_job(ledger_url: str, app: Taurine) -> None:
    await app.migrate()
    declare_orders(app)
    (job_id,) = await fail_orders(app, 1, tenant="acme")
    (first,) = await app.dead_letters.list()
    await app.dead_letters.redrive(first)
    async with app.worker():
        await ended(lambda: app.get(job_id), "failed")
    (second,) = await app.dead_letters.list()

    get = app.dead_letters.get
    assert [await get(first.id), await get(second.id)] == [first_as_it_is := await get(first.id), second]
    assert first_as_it_is is not None
    assert (first_as_it_is.status, second.generation) == ("redriven", 1)
    assert await get(job_id) == await get(job_id, tenant="acme") == second
    assert await get(job_id, tenant="umbrella") is None
    assert await get("nobody's") is None


# Dealing with them --------------------------------------------------------------------------------------------------------------


async def test_redrive_one_with_an_edited_payload(ledger_url: str, app: Taurine) -> None:
    """SEED-217: checked against its type, run as a new generation of the same job, and noted with who did it."""
    await app.migrate()
    declare_orders(app)
    (job_id,) = await fail_orders(app, 1)
    (entry,) = await app.dead_letters.list()

    with pytest.raises(PayloadInvalid):
        await app.dead_letters.redrive(entry.id, payload={"number": "many"})
    record = await app.dead_letters.redrive(entry.id, payload=Order(number=6), user="ann")
    async with app.worker():
        done = await ended(lambda: app.get(job_id), "completed")
    after = await app.dead_letters.get(entry.id)

    assert (record.id, record.status, record.generation, record.attempts) == (job_id, "queued", 1, 0)
    assert done.output == {"price": 12}
    assert after is not None
    assert (after.status, after.resolved_by, after.redriven_as) == ("redriven", "ann", f"{job_id}#1")
    assert after.payload == {"number": 0, "fail": "broken"}
    with pytest.raises(TransitionRefused, match="was redriven by ann already"):
        await app.dead_letters.redrive(entry.id)
    with pytest.raises(TransitionRefused):
        await app.dead_letters.discard(entry.id)


async def test_redrive_many_in_stages(app: Taurine) -> None:
    """SEED-217: a few first, then all; those that fail again get an entry of their own and are not taken twice."""
    declare_orders(app)
    ids = await fail_orders(app, 5, tenant="acme")
    everything = DeadLetterFilter(tenant="acme")
    newest_first = [entry.job_id async for entry in app.dead_letters.list()]

    few = await app.dead_letters.redrive(everything, limit=2, user="ann")
    left = [entry.job_id async for entry in app.dead_letters.list()]
    rest = await app.dead_letters.redrive(everything)
    none = await app.dead_letters.redrive(everything)
    async with app.worker():
        for job_id in ids:
            await ended(lambda job_id=job_id: app.get(job_id), "failed")

    assert ([record.id for record in few.done], few.refused) == (newest_first[:2], [])
    assert left == newest_first[2:]
    assert ([record.id for record in rest.done], none.done) == (left, [])
    again = [entry async for entry in app.dead_letters.list()]
    assert sorted(entry.job_id for entry in again) == sorted(ids)
    assert {entry.generation for entry in again} == {1}


async def test_redrive_by_ids_tells_which_were_refused(app: Taurine) -> None:
    declare_orders(app)
    await fail_orders(app, 3)
    newest, middle, oldest = await app.dead_letters.list()
    await app.dead_letters.discard(middle, user="ann")

    outcomes = await app.dead_letters.redrive([newest.id, middle, "nothing", oldest])

    assert [record.id for record in outcomes.done] == [newest.job_id, oldest.job_id]
    assert sorted(type(error).__name__ for error in outcomes.refused) == ["RecordNotFound", "TransitionRefused"]


async def test_redrive_at_a_rate(app_factory: Callable[..., Taurine]) -> None:
    """No faster than was asked for: three seconds for six entries at two a second, on a clock that is moved by hand."""
    app = app_factory()
    declare_orders(app)
    await fail_orders(app, 6)
    clock = TestClock()
    slow = app_factory(clock=clock)
    declare_orders(slow)
    begun = clock.monotonic()

    redriving = asyncio.create_task(slow.dead_letters.redrive(DeadLetterFilter(), rate=2))
    steps: list[int] = []
    while not redriving.done():
        if clock.sleepers:
            steps.append(6 - sum((await app.dead_letters.depth()).values()))
            clock.advance(1.0)
        await asyncio.sleep(0.005)

    assert len((await redriving).done) == 6
    assert steps[:3] == [2, 4, 6]
    assert clock.monotonic() - begun >= 2
    with pytest.raises(InvalidOption, match="rate"):
        await slow.dead_letters.redrive(DeadLetterFilter(), rate=0)


async def test_discard(app: Taurine) -> None:
    """The job stays failed; the entry is kept, and can be found as discarded."""
    declare_orders(app)
    (job_id,) = await fail_orders(app, 1, tenant="acme")
    (entry,) = await app.dead_letters.list()

    with pytest.raises(RecordNotFound):
        await app.dead_letters.discard(entry.id, tenant="globex")
    aside = await app.dead_letters.discard(entry.id, user="ann")

    assert (aside.status, aside.resolved_by) == ("discarded", "ann")
    assert list(await app.dead_letters.list()) == []
    assert [one.id for one in await app.dead_letters.list(status="discarded")] == [entry.id]
    record = await app.get(job_id)
    assert record is not None
    assert record.status == "failed"
    assert [(one.action, one.actor) for one in await app.audit(job_id)] == [("discard", "ann")]


async def test_discard_all_of_a_filter(app: Taurine) -> None:
    declare_orders(app)
    await fail_orders(app, 3, tenant="acme")
    await fail_orders(app, 1, tenant="globex")

    outcomes = await app.dead_letters.discard(DeadLetterFilter(queue="orders"), tenant="acme")

    assert len(outcomes.done) == 3
    assert [entry.tenant async for entry in app.dead_letters.list()] == ["globex"]


async def test_only_one_entry_can_be_edited(app: Taurine) -> None:
    declare_orders(app)
    with pytest.raises(InvalidOption, match="one entry"):
        await app.dead_letters.redrive([], payload={"number": 1})  # pyright: ignore[reportCallIssue, reportArgumentType]


async def test_the_hook_is_asked(app_factory: Callable[..., Taurine]) -> None:
    """Of several, all or none: one that may not be redriven leaves its step as it is."""
    asked: list[AccessRequest] = []

    def authorize(request: AccessRequest) -> bool:
        asked.append(request)
        return request.action == "enqueue" or (request.user == "ann" and request.tenant != "globex")

    app = app_factory(authorize=authorize)
    declare_orders(app)
    await fail_orders(app, 1, tenant="acme")
    await fail_orders(app, 1, tenant="globex")
    (globex, acme) = await app.dead_letters.list()

    with pytest.raises(NotAuthorized, match="may not redrive"):
        await app.dead_letters.redrive(DeadLetterFilter(), user="ann")
    with pytest.raises(NotAuthorized, match="may not discard"):
        await app.dead_letters.discard(globex, user="ann")
    with pytest.raises(NotAuthorized):  # who may not do it learns nothing of what a payload has to be
        await app.dead_letters.redrive(globex, payload={"number": "none"}, user="ann")
    assert await app.dead_letters.depth() == {"orders": 2}
    await app.dead_letters.redrive(acme, user="ann")

    assert await app.dead_letters.depth() == {"orders": 1}
    assert {(request.action, request.job_type) for request in asked} == {
        ("enqueue", "order"),
        ("redrive", "order"),
        ("discard", "order"),
    }


async def test_redrive_outlives_the_record(app: Taurine) -> None:
    """An entry whose record was purged has what it takes to run the job again."""
    declare_orders(app)
    (job_id,) = await fail_orders(app, 1)
    (entry,) = await app.dead_letters.list()
    await purge_record(app, job_id)

    examined = await app.dead_letters.examine(entry)
    record = await app.dead_letters.redrive(entry, payload={"number": 3})
    async with app.worker():
        done = await ended(lambda: app.get(job_id), "completed")

    assert (examined.record, examined.attempts, examined.entry.error["message"]) == (None, [], "broken")
    assert record.generation == 1
    assert done.output == {"price": 6}


async def test_a_redrive_without_a_record_has_the_attempts_of_its_type(app: Taurine) -> None:
    """It failed for good in its first attempt, which says nothing of how often it may be tried."""
    orders = declare_orders(app, retry=Retry(attempts=5))
    handle = await orders.enqueue(Order(number=1, fail="permanent"))
    async with app.worker():
        await ended(lambda: app.get(handle.id), "failed")
    (entry,) = await app.dead_letters.list()
    await purge_record(app, handle.id)

    record = await app.dead_letters.redrive(entry)

    assert (entry.attempts, record.max_attempts) == (1, 5)


async def purge_record(app: Taurine, job_id: str) -> None:
    from sqlalchemy import delete

    from taurine.ledger.database import open_database
    from taurine.ledger.schema import job

    assert app.settings.database_url is not None
    database = open_database(app.settings.database_url)
    await database.write(lambda connection: connection.execute(delete(job).where(job.c.id == job_id)).close())
    await database.close()
