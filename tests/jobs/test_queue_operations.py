"""`app.queues`: how queues stand, and stopping, emptying and removing one. On both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import update

from jobs.reconciling import NO_UPKEEP, backend_of, reconciler
from support.eventually import eventually
from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import InvalidOption, NotAuthorized
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.enqueue.access import AccessRequest
from taurine.ledger.schema import job
from taurine.retry import Fixed, Retry


@pytest.fixture
def app(app_factory: Callable[..., Taurine], ledger_url: str) -> Taurine:
    """On each of the two databases."""
    return app_factory()


def declare(app: Taurine) -> JobType[str, None]:
    @app.job("note.write", queue="notes", retry=Retry(3, Fixed(600)))
    async def write(text: str) -> None:
        if text == "bad":
            raise ConnectionError(text)

    @app.job("page.print", queue="pages")
    async def print_page(number: int) -> None: ...

    return write


async def test_how_a_queue_stands(app: Taurine) -> None:
    """Numbers from the records, the rest from the server; who waits does not begin to wait anew by being looked at."""
    write = declare(app)
    await write.enqueue("a")
    await write.enqueue("b", delay=600)

    pages, notes = sorted(await app.queues.list(), key=lambda view: view.name, reverse=True)

    assert (notes.name, notes.declared, notes.records["queued"]) == ("notes", True, (2, True))
    assert notes.oldest_waiting is not None
    assert 0 <= notes.oldest_waiting < 60
    assert notes.standing is not None
    assert (notes.standing.counts["waiting"], notes.standing.counts["delayed"], notes.standing.paused) == (1, 1, False)
    assert (pages.records["queued"], pages.oldest_waiting, pages.dead_letters) == ((0, True), None, 0)


async def test_work_is_what_is_due_or_has_begun(app: Taurine) -> None:
    """PEER-128: a retry is work, however long it waits; a job that was accepted for a later time is none."""
    write = declare(app)
    await write.enqueue("later", delay=600)
    before = await app.queues.has_work(["notes"])
    await write.enqueue("bad", job_id="bad")
    due, elsewhere = await app.queues.has_work(["notes"]), await app.queues.has_work(["pages"])
    async with app.worker():
        await eventually(lambda: has_status(app, "bad", "retrying"), 20)

    assert (before, due, elsewhere) == (False, True, False)
    assert await app.queues.has_work(["notes"])
    await app.cancel("bad")
    assert not await app.queues.has_work(["notes"])


async def has_status(app: Taurine, job_id: str, status: str) -> bool:
    record = await app.get(job_id)
    return record is not None and record.status == status


async def test_draining_takes_what_is_due_and_on_request_what_is_not(app: Taurine) -> None:
    write = declare(app)
    await asyncio.gather(*(write.enqueue("a", job_id=f"due-{number:03}") for number in range(250)))
    await write.enqueue("b", job_id="later", delay=600)
    await app.enqueue("page.print", 1, job_id="other")

    drained = await app.queues.drain("notes", reason="not needed", user="ada")
    later = await app.get("later")
    rest = await app.queues.drain("notes", delayed=True)

    assert (drained, rest) == (250, 1)
    assert later is not None
    assert later.status == "queued"
    assert await has_status(app, "due-249", "cancelled")
    assert await has_status(app, "other", "queued")
    assert (await app.compare()).total == 0


async def _put_back_before_its_next_attempt(app: Taurine, raw: RawStore, prefix: str) -> None:
    """The queue loses the job `bad` while it waits for its second attempt, in ten minutes."""
    await declare(app).enqueue("bad", job_id="bad")
    async with app.worker(upkeep=NO_UPKEEP):
        await eventually(lambda: has_status(app, "bad", "retrying"), 20)
    await raw.delete(*[key async for key in raw.scan_iter(match=f"{prefix}:*")])
    assert (await reconciler(app).run_once()).put_back == 1


async def test_a_retry_that_was_put_back_is_still_one(app: Taurine, raw: RawStore, prefix: str) -> None:
    """It is not due, so draining leaves it, and it can be run at once by hand."""
    await _put_back_before_its_next_attempt(app, raw, prefix)

    view = await app.queues.get("notes")
    drained = await app.queues.drain("notes")
    hastened = await app.retry("bad")

    assert (view.records["retrying"].number, view.oldest_waiting, drained) == (1, None, 0)
    assert (hastened.status, hastened.generation, hastened.next_attempt_at) == ("retrying", 1, None)


async def test_a_queued_job_is_due_at_its_next_attempt(app: Taurine, raw: RawStore, prefix: str) -> None:
    """As an earlier version has put it back: queued, with the time of its next attempt."""
    await _put_back_before_its_next_attempt(app, raw, prefix)
    as_it_was = update(job).where(job.c.id == "bad").values(status="queued")
    await backend_of(app).database.write(lambda connection: connection.execute(as_it_was))

    view, work = await app.queues.get("notes"), await app.queues.has_work(["notes"])
    drained = await app.queues.drain("notes")
    rest = await app.queues.drain("notes", delayed=True)

    assert (view.records["queued"].number, view.oldest_waiting, work) == (1, None, False)
    assert (drained, rest) == (0, 1)


async def test_removing_a_queue_leaves_the_others(app: Taurine) -> None:
    write = declare(app)
    await write.enqueue_many(["a"] * 5)
    await app.enqueue("page.print", 1, job_id="other")

    removed = await app.queues.remove("notes")
    left = [record.id async for record in app.list()]

    assert (removed, left) == (5, ["other"])
    assert (await app.compare()).total == 0


async def test_pausing_is_asked_for_and_noted(app_factory: Callable[..., Taurine]) -> None:
    asked: list[tuple[str, str | None]] = []

    def authorize(request: AccessRequest) -> bool:
        asked.append((request.action, request.user))
        return request.user == "ada"

    app = app_factory(authorize=authorize)
    declare(app)

    await app.queues.pause("notes", user="ada")
    with pytest.raises(NotAuthorized):
        await app.queues.resume("notes", user="bob")
    with pytest.raises(InvalidOption, match="did you mean 'notes'"):
        await app.queues.pause("note", user="ada")
    view = await app.queues.get("notes")

    assert view.standing is not None
    assert view.standing.paused
    assert asked == [("pause_queue", "ada"), ("resume_queue", "bob")]
