"""Enqueueing: authorise, check, record, queue, in this order; what each option does; and what happens while a server is
away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.desk import Ticket, declare_triage, recorded, ticket
from support.eventually import eventually
from support.server import ValkeyServer
from taurine import Exponential, Fixed, Retry, Taurine
from taurine.errors import (
    DuplicateJob,
    InvalidOption,
    LedgerUnavailable,
    NotAuthorized,
    PayloadError,
    PayloadInvalid,
    PayloadTooLarge,
    TenantMismatch,
)
from taurine.jobs.enqueue.access import AccessRequest
from taurine.jobs.handler.context import Context
from taurine.jobs.reporting.lines import current_context
from taurine.ledger.database import Database
from taurine.ledger.migrate import migrate
from taurine.ledger.records import NewRecord
from taurine.ledger.requests import accept_records
from taurine.queue import Queue
from taurine.testing import TestClock

NOW = 1_800_000_000.0


@pytest.fixture
async def queue(redis_socket_url: str, prefix: str) -> Any:
    """The queue of the tickets."""
    async with Queue("ticket-triage", redis_socket_url, prefix=prefix) as queue:
        yield queue


# The order ------------------------------------------------------------------------------------------------------------------


async def test_authorise_then_check_then_record_then_queue(
    app_factory: Callable[..., Taurine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEED-001, SEED-014, SEED-043."""
    steps: list[str] = []

    def authorize(request: AccessRequest) -> None:
        steps.append("authorise")

    app = app_factory(authorize=authorize)
    triage = declare_triage(app)
    await triage.enqueue(ticket(0))
    steps.clear()
    backend = app._backend()
    accept, write = triage.payload.accept, backend.database.write
    add_jobs = backend.dispatcher._add

    def check(payload: Any) -> Any:
        steps.append("check")
        return accept(payload)

    async def record(work: Any) -> Any:
        answer = await write(work)
        steps.append("record")
        return answer

    async def add(*arguments: Any) -> None:
        steps.append("queue")
        await add_jobs(*arguments)

    monkeypatch.setattr(triage.payload, "accept", check)
    monkeypatch.setattr(backend.database, "write", record)
    monkeypatch.setattr(backend.dispatcher, "_add", add)
    await triage.enqueue(ticket(1))
    assert steps[:4] == ["authorise", "check", "record", "queue"]


async def test_what_is_not_allowed_or_not_valid_leaves_nothing(
    app_factory: Callable[..., Taurine], queue: Queue
) -> None:
    """SEED-001, SEED-002, SEED-041."""
    app = app_factory(authorize=lambda request: request.user == "ann")
    triage = declare_triage(app)
    bad: Any = {"tenant_id": "acme", "ticket_id": "1", "summary": ""}
    with pytest.raises(NotAuthorized):
        await triage.enqueue(bad, user="bob")
    with pytest.raises(PayloadInvalid):
        await triage.enqueue(bad, user="ann")
    with pytest.raises(PayloadInvalid):
        await triage.enqueue_many([ticket(1), bad, ticket(2)], user="ann")
    assert await recorded(app) == []
    assert (await queue.counts())["waiting"] == 0


async def test_what_comes_back(app: Taurine, queue: Queue) -> None:
    """SEED-015: the id and "queued"; the job stands in the queue under its id, with its payload plain for Node."""
    handle = await declare_triage(app).enqueue(ticket())
    assert (handle.id, handle.status, handle.phase, handle.duplicate) == (
        "ticket-triage:acme:7",
        "queued",
        "queued",
        False,
    )
    assert (handle.type, handle.queue) == ("ticket.triage", "ticket-triage")
    job = await queue.get_job(handle.id)
    assert job is not None
    assert (job.name, job.data) == ("ticket.triage", ticket().model_dump())
    record = await handle.record()
    assert record.created_at == handle.created_at
    assert await eventually(lambda: _dispatched(app, handle.id), 5, "it was not stamped")


async def _dispatched(app: Taurine, job_id: str) -> datetime | None:
    record = await app.get(job_id)
    assert record is not None
    return record.dispatched_at


# Options --------------------------------------------------------------------------------------------------------------------


async def test_the_options_of_a_call_are_on_the_record_and_the_job(
    app_factory: Callable[..., Taurine], queue: Queue
) -> None:
    """SEED-056, SEED-088, SEED-199."""
    app = app_factory(clock=TestClock(NOW))
    handle = await declare_triage(app).enqueue(
        ticket(),
        delay=timedelta(hours=24),
        expires_in=60,
        priority=3,
        retry=Retry(attempts=5, backoff=Fixed(30)),
        tags=["vip", "print", "vip"],
        metadata={"route": "/tickets", "n": 2**60},
        user="ann",
        source="api",
    )
    record, job = await handle.record(), await queue.get_job(handle.id)
    assert job is not None
    start = datetime.fromtimestamp(NOW + 86_400, UTC)
    assert (record.scheduled_for, record.expires_at) == (start, start + timedelta(seconds=60))
    assert (record.priority, record.max_attempts, record.tenant) == (3, 5, "acme")
    assert (record.tags, record.metadata) == (["vip", "print"], {"route": "/tickets", "n": 2**60})
    assert (record.created_by, record.source) == ("ann", "api")
    assert (job.options.delay, job.options.priority, job.options.attempts) == (86_400.0, 3, 5)
    assert job.options.backoff == Fixed(30)
    assert (await queue.counts())["delayed"] == 1


async def test_the_defaults(app: Taurine, queue: Queue) -> None:
    """SEED-008, SEED-055, SEED-089: three attempts, exponential from one second."""
    handle = await declare_triage(app).enqueue(ticket())
    record, job = await handle.record(), await queue.get_job(handle.id)
    assert job is not None
    assert (record.max_attempts, record.priority, record.scheduled_for, record.tags) == (3, 0, None, [])
    assert isinstance(job.options.backoff, Exponential)
    assert job.options.backoff.base == 1.0


async def test_the_platform_fills_in_when_and_where_from(app_factory: Callable[..., Taurine]) -> None:
    """SEED-171, CON-21: created at, user and source are filled, and records are found by them."""
    app = app_factory("support-desk", clock=TestClock(NOW))
    triage = declare_triage(app)
    await triage.enqueue(ticket(1), user="ann", tags=["vip"])
    await triage.enqueue(ticket(2))
    first, second = sorted(await recorded(app), key=lambda record: record.id)
    assert first.created_at.timestamp() == NOW
    assert (first.created_by, first.source) == ("ann", "support-desk")
    assert (second.created_by, second.source) == (None, "support-desk")
    assert [record.id async for record in app.list(user="ann")] == [first.id]
    assert [record.id async for record in app.list(tag="vip")] == [first.id]


@contextmanager
def _in_handler(**values: Any) -> Generator[None]:
    context = Context.__new__(Context)
    for name, value in values.items():
        setattr(context, name, value)
    token = current_context.set(context)
    yield
    current_context.reset(token)


async def test_a_handler_passes_on_who_asked(app: Taurine) -> None:
    """SEED-171: what a handler enqueues says from which job it came, and for whom."""
    triage = declare_triage(app)
    with _in_handler(job_id="import:1", user="ann", trace="00-aa-bb-01"):
        record = await (await triage.enqueue(ticket(1))).record()
        named = await (await triage.enqueue(ticket(2), source="api", user="bob")).record()
    assert (record.created_by, record.source, record.trace) == ("ann", "job import:1", "00-aa-bb-01")
    assert (named.created_by, named.source) == ("bob", "api")


async def test_run_at_and_delay(app_factory: Callable[..., Taurine]) -> None:
    app = app_factory(clock=TestClock(NOW))
    triage = declare_triage(app)
    at = datetime.fromtimestamp(NOW + 3600, UTC)
    assert (await (await triage.enqueue(ticket(1), run_at=at)).record()).scheduled_for == at
    past = datetime.fromtimestamp(NOW - 3600, UTC)
    assert (await (await triage.enqueue(ticket(2), run_at=past)).record()).scheduled_for == past
    assert (await (await triage.enqueue(ticket(3), delay=0)).record()).scheduled_for is None


async def test_a_type_that_expires_counts_from_the_start(app_factory: Callable[..., Taurine]) -> None:
    triage = declare_triage(app_factory(clock=TestClock(NOW)), expires_in=60)
    at_once, later = (
        await (await triage.enqueue(ticket(1))).record(),
        await (await triage.enqueue(ticket(2), delay=600)).record(),
    )
    assert at_once.expires_at == datetime.fromtimestamp(NOW + 60, UTC)
    assert later.expires_at == datetime.fromtimestamp(NOW + 660, UTC)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delays": 1}, "did you mean 'delay'"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"delay": "1"}, "delay"),
        ({"delay": 1, "run_at": datetime.now(UTC)}, "delay or run_at"),
        ({"run_at": datetime(2027, 1, 1)}, "aware"),  # noqa: DTZ001 - what is refused
        ({"run_at": "tomorrow"}, "aware"),
        ({"run_at": datetime(9999, 1, 1, tzinfo=UTC)}, "run_at"),
        ({"expires_in": 0}, "expires_in"),
        ({"priority": -1}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 1 << 21}, "priority"),
        ({"retry": 5}, "Retry"),
        ({"tags": "vip"}, "tags"),
        ({"tags": ["a\nb"]}, "tag"),
        ({"tags": [""]}, "tag"),
        ({"tags": [None]}, "tag"),
        ({"tags": [str(n) for n in range(101)]}, "at most 100"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": 5}, "tenant"),
        ({"user": "a\0"}, "user"),
        ({"source": "x" * 300}, "source"),
        ({"idempotency_key": "k\n"}, "idempotency_key"),
        ({"on_duplicate": "replace"}, "on_duplicate"),
        ({"session": "db"}, "session"),
    ],
)
async def test_a_wrong_option_is_refused_before_anything_is_stored(
    app: Taurine, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        await declare_triage(app).enqueue(ticket(), **options)
    assert await recorded(app) == []


async def test_metadata_of_a_batch_are_counted_for_each_of_its_jobs(app: Taurine) -> None:
    """Otherwise a request of 68 KB would write 64 MB; small ones may be as many as payloads are."""
    triage, tickets = declare_triage(app), [ticket(str(number)) for number in range(1000)]
    overhead = len('{"a":""}')
    await triage.enqueue_many(tickets, metadata={"a": "é" * ((1024 - overhead) // 2)})
    await triage.enqueue_many(tickets[:16], metadata={"a": "x" * (65_536 - overhead)})

    for payloads, size in ((tickets, 1049), (tickets[:17], 65_536)):
        with pytest.raises(PayloadTooLarge) as caught:
            await triage.enqueue_many(payloads, metadata={"a": "x" * (size - overhead)})
        assert str(caught.value) == (
            f"metadata of {size:,} bytes for each of {len(payloads):,} jobs are {size * len(payloads):,} bytes, "
            "above the limit of 1,048,576; keep them to 1,024, or send fewer payloads at once"
        )
    assert len(await recorded(app)) == 1000


async def test_metadata_that_are_no_json_are_refused(app: Taurine) -> None:
    with pytest.raises(PayloadError, match="metadata"):
        await declare_triage(app).enqueue(ticket(), metadata={"client": object()})


async def test_what_the_caller_hands_in_is_not_changed(app: Taurine) -> None:
    """SEED-225: one options object for all adds."""
    triage = declare_triage(app)
    options: dict[str, Any] = {"tags": ["a", "a"], "metadata": {"a": [1]}, "priority": 1, "retry": Retry.EMAIL}
    payload, before = ticket().model_dump(), {**options, "tags": ["a", "a"], "metadata": {"a": [1]}}
    for number in range(3):
        await app.enqueue("ticket.triage", {**payload, "ticket_id": str(number)}, **options)
    await triage.enqueue_many([ticket(8), ticket(9)], **options)
    assert options == before
    assert payload == ticket().model_dump()


async def test_the_tenant_is_the_payloads(app: Taurine) -> None:
    """SEED-019, SEED-020."""
    triage = declare_triage(app)
    with pytest.raises(TenantMismatch):
        await triage.enqueue(ticket(), tenant="umbrella")
    assert (await (await triage.enqueue(ticket(), tenant="acme")).record()).tenant == "acme"
    plain = app.declare("ticket.count", Ticket)
    assert (await (await plain.enqueue(ticket(), tenant="umbrella")).record()).tenant == "umbrella"


# Many -----------------------------------------------------------------------------------------------------------------------


async def test_many_in_order(app: Taurine, queue: Queue) -> None:
    triage = declare_triage(app)
    handles = await triage.enqueue_many((ticket(number) for number in range(2500)), tags=["bulk"])
    assert [handle.id for handle in handles] == [f"ticket-triage:acme:{number}" for number in range(2500)]
    assert (await queue.counts())["waiting"] == 2500
    waiting = await queue.get_jobs(["waiting"], ascending=True)
    assert [job.id for job in waiting] == [handle.id for handle in handles]
    assert await triage.enqueue_many([]) == []


async def test_many_are_recorded_whole_or_not_at_all(app: Taurine, queue: Queue) -> None:
    """An error of one undoes its thousand; those before stay."""
    triage = declare_triage(app)
    await triage.enqueue(ticket(1500))
    with pytest.raises(DuplicateJob):
        await triage.enqueue_many([ticket(number) for number in range(1000, 1800)], on_duplicate="error")
    assert len(await recorded(app)) == 1
    with pytest.raises(DuplicateJob):
        await triage.enqueue_many([ticket(number) for number in range(1800)], on_duplicate="error")
    assert len(await recorded(app)) == 1001
    assert (await queue.counts())["waiting"] == 1001


async def test_many_with_duplicates_among_them(app: Taurine, queue: Queue) -> None:
    triage = declare_triage(app)
    await triage.enqueue(ticket(1))
    handles = await triage.enqueue_many([ticket(number) for number in (0, 1, 2, 2, 0)])
    assert [handle.duplicate for handle in handles] == [False, True, False, True, True]
    assert (await queue.counts())["waiting"] == 3


@pytest.mark.parametrize("option", ["job_id", "idempotency_key"])
async def test_many_have_no_option_of_one_job(app: Taurine, option: str) -> None:
    options: Any = {option: "x"}
    with pytest.raises(InvalidOption, match="one job only"):
        await declare_triage(app).enqueue_many([ticket()], **options)


async def test_concurrent_first_calls_make_the_tables_once(app: Taurine, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Database] = []

    async def counted(database: Database, **options: Any) -> None:
        made.append(database)
        await migrate(database, **options)

    monkeypatch.setattr("taurine.jobs.backend.migrate", counted)
    await asyncio.gather(*(app._backend().ready() for _ in range(50)))
    assert len(made) == 1


async def test_concurrent_enqueues_share_commits(app: Taurine, monkeypatch: pytest.MonkeyPatch) -> None:
    triage = declare_triage(app)
    await triage.enqueue(ticket("first"))
    backend, commits = app._backend(), 0
    write = backend.database.write

    async def counted(work: Any) -> Any:
        nonlocal commits
        commits += 1
        return await write(work)

    monkeypatch.setattr(backend.database, "write", counted)
    handles = await asyncio.gather(*(triage.enqueue(ticket(number)) for number in range(300)))
    assert len({handle.id for handle in handles}) == 300
    assert commits < 30


# Servers that are away ------------------------------------------------------------------------------------------------------


async def _enqueue_bounded(triage: Any, number: int) -> float:
    started = time.monotonic()
    handle = await triage.enqueue(ticket(number))
    assert handle.status == "queued"
    return time.monotonic() - started


async def test_redis_down_does_not_block(
    app_factory: Callable[..., Taurine],
    server_factory: Callable[..., ValkeyServer],
    prefix: str,
    figure: Callable[[str], None],
) -> None:
    """P2, SEED-035, SEED-036, CON-10: the record is committed, the call returns, and the outbox delivers when the
    server is back.
    """
    server = server_factory()
    app = app_factory(redis_url=server.url)
    triage = declare_triage(app)
    server.stop()
    waits = [await _enqueue_bounded(triage, number) for number in range(5)]
    figure(f"enqueue with the server of queues down: at most {max(waits) * 1000:.0f} ms")
    assert max(waits) < 2
    assert [record.dispatched_at for record in await recorded(app)] == [None] * 5
    server.start()
    await eventually(lambda: _all_dispatched(app), 10, "the outbox did not deliver")
    async with Queue("ticket-triage", server.url, prefix=prefix) as queue:
        assert (await queue.counts())["waiting"] == 5


async def test_a_server_that_answers_nothing_does_not_block(
    app_factory: Callable[..., Taurine], server_factory: Callable[..., ValkeyServer], figure: Callable[[str], None]
) -> None:
    """P2: it takes connections and is silent, as behind a firewall that drops packets."""
    server = server_factory()
    app = app_factory(redis_url=server.url)
    triage = declare_triage(app)
    await triage.enqueue(ticket("first"))
    server.freeze()
    waits = [await _enqueue_bounded(triage, number) for number in range(5)]
    figure(
        f"enqueue with a silent server of queues: at most {max(waits) * 1000:.0f} ms, then {min(waits) * 1000:.1f} ms"
    )
    assert max(waits) < 2
    server.thaw()
    await eventually(lambda: _all_dispatched(app), 15, "the outbox did not deliver")


async def _all_dispatched(app: Taurine) -> bool:
    left = [record.id for record in await recorded(app) if record.dispatched_at is None]
    assert not left, f"not delivered: {left}"
    return True


async def test_a_caller_that_gives_up_leaves_its_job_to_the_outbox(
    app: Taurine, monkeypatch: pytest.MonkeyPatch
) -> None:
    triage = declare_triage(app)
    await triage.enqueue(ticket("first"))
    dispatcher = app._backend().dispatcher
    add, handing_over = dispatcher._add, asyncio.Event()

    async def stuck(*arguments: Any) -> None:
        if handing_over.is_set():
            await add(*arguments)
        else:
            handing_over.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(dispatcher, "_add", stuck)
    caller = asyncio.create_task(triage.enqueue(ticket(1)))
    await handing_over.wait()
    caller.cancel()
    await asyncio.wait({caller})
    await eventually(lambda: _all_dispatched(app), 10, "the outbox did not deliver")


async def test_sql_down_is_a_typed_error_in_bounded_time(app_factory: Callable[..., Taurine]) -> None:
    """P2, CON-10, SEED-036: nothing is accepted, and the caller may repeat the call."""
    app = app_factory(database_url="postgresql://nobody:secret@127.0.0.1:1/none")
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable) as refusal:
        await declare_triage(app).enqueue(ticket())
    assert refusal.value.retryable
    assert "secret" not in str(refusal.value)
    assert time.monotonic() - started < 10


async def test_record_first(app: Taurine, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEED-014: the store of records fails, so there is no job."""
    triage = declare_triage(app)
    await triage.enqueue(ticket("first"))

    async def fails(apply: Any, record: NewRecord) -> None:
        assert apply is accept_records
        raise LedgerUnavailable("gone")

    monkeypatch.setattr(app._backend().group, "submit", fails)
    with pytest.raises(LedgerUnavailable):
        await triage.enqueue(ticket(1))
    assert (await queue.counts())["waiting"] == 1


async def test_domain_code_depends_on_a_port(app: Taurine) -> None:
    """SEED-062, SEED-063: whoever enqueues is handed something with `enqueue`, so a test hands in a recorder."""
    asked: list[Any] = []

    class Recorder:
        async def enqueue(self, payload: Ticket) -> None:
            asked.append(payload)

    async def when_ticket_is_opened(opened: Ticket, jobs: Any) -> None:
        await jobs.enqueue(opened)

    await when_ticket_is_opened(ticket(), Recorder())
    await when_ticket_is_opened(ticket(), declare_triage(app))
    assert asked == [ticket()]
    assert len(await recorded(app)) == 1
