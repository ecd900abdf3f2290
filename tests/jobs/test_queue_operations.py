"""`app.queues`: how queues stand, and stopping, emptying and removing one. On both databases."""

from __future__ import annotations

import asyncio
import json
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
from taurine.options import RateLimit
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


async def test_draining_stops_at_its_limit(app: Taurine) -> None:
    """Whatever else waits: jobs of a later time are not gone through one by one."""
    write = declare(app)
    for number in range(3):
        await write.enqueue("a", job_id=f"due-{number}")
        await write.enqueue("b", job_id=f"a-later-{number}", delay=600)

    drained = [await app.queues.drain("notes", limit=2) for _ in range(3)]

    assert drained == [2, 1, 0]
    with pytest.raises(InvalidOption, match="limit"):
        await app.queues.drain("notes", limit=0)


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


async def test_cleaning_by_status_and_age(app: Taurine, raw: RawStore, prefix: str) -> None:
    """BMQ-042: what has ended for long enough goes, with what the server has of it; dead letters stay, and what is
    younger.
    """
    write = declare(app)
    for number in range(3):
        await write.enqueue("a", job_id=f"done-{number}")
    await write.enqueue("bad", job_id="failing", retry=Retry.NONE)
    async with app.worker(queues=["notes"]):
        await eventually(lambda: has_status(app, "done-2", "completed"), 20)
        await eventually(lambda: has_status(app, "failing", "failed"), 20)

    too_young = await app.queues.clean("notes", "completed", older_than=3600)
    some = await app.queues.clean("notes", "completed", limit=2)
    rest = await app.queues.clean("notes", "completed")
    failed = await app.queues.clean("notes", "failed", user="ada")
    left = [record.id async for record in app.list()]
    jobs = [key async for key in raw.scan_iter(match=f"{prefix}:notes:done-*")]

    assert (too_young, some, rest, failed) == (0, 2, 1, 1)
    assert left == []
    assert jobs == []
    assert await app.dead_letters.depth() == {"notes": 1}
    (cleaned,) = await app.actions(actor="ada")
    assert (cleaned.action, cleaned.job_id) == ("clean_queue", None)


async def test_cleaning_what_waits_cancels_it(app: Taurine) -> None:
    """BMQ-042: a job that was accepted and is not wanted any more keeps its record."""
    write = declare(app)
    await write.enqueue("a", job_id="old")

    young = await app.queues.clean("notes", "queued", older_than=3600)
    cleaned = await app.queues.clean("notes", "queued")

    assert (young, cleaned) == (0, 1)
    assert await has_status(app, "old", "cancelled")
    with pytest.raises(InvalidOption, match="did you mean 'failed'"):
        await app.queues.clean("notes", "faild")  # pyright: ignore[reportArgumentType] - that is the test


async def test_limits_are_set_and_lifted(app_factory: Callable[..., Taurine]) -> None:
    """BMQ-046, BMQ-047, BMQ-049: over all workers, asked for and noted."""
    asked: list[str] = []
    app = app_factory(authorize=lambda request: asked.append(request.action))
    declare(app)

    await app.queues.set_concurrency("notes", 3, user="ada")
    await app.queues.set_rate_limit("notes", RateLimit(10, 1.0), user="ada")
    limited = (await app.queues.get("notes")).standing
    await app.queues.set_concurrency("notes", None)
    await app.queues.set_rate_limit("notes", None)
    lifted = (await app.queues.get("notes")).standing
    details = [json.loads(entry.detail or "") async for entry in app.actions(actor="ada", action="limit_queue")]

    assert limited is not None
    assert (limited.concurrency, limited.rate_limit) == (3, RateLimit(10, 1.0))
    assert lifted is not None
    assert (lifted.concurrency, lifted.rate_limit) == (None, None)
    assert details == [
        {"queue": "notes", "rate_limit": {"max": 10, "duration": 1.0}},
        {"queue": "notes", "concurrency": 3},
    ]
    assert asked == ["limit_queue"] * 4


@pytest.mark.parametrize("concurrency", [0, -1, True, 1 << 31])
async def test_a_limit_out_of_range(app_factory: Callable[..., Taurine], concurrency: int) -> None:
    """A12."""
    app = app_factory()
    declare(app)

    with pytest.raises(InvalidOption, match="concurrency"):
        await app.queues.set_concurrency("notes", concurrency)


async def test_listening_leaves_nothing_behind(app: Taurine) -> None:
    """Also where it is left in the middle, with reads of other queues under way."""
    for name in ("one", "two"):
        app.declare(f"{name}.job", int, queue=name)
    await app.enqueue("one.job", 1)
    before = asyncio.all_tasks()

    async with app.queues.events("one", "two", since=60) as happenings:
        async for queue, event in happenings:
            assert (queue, event.name) == ("one", "added")
            break

    assert asyncio.all_tasks() == before
