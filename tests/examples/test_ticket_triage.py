from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from taurine import InvalidOption, JobRecord, PayloadError
from taurine.app import Taurine
from taurine.options import Keep
from taurine.queue import Queue
from taurine.testing import Recorder, TestClock, drain, run_at_failpoints

TICKET = {"tenant_id": "acme", "ticket_id": "7", "summary": "urgent"}
ADA = "token-of-ada"


@pytest.fixture
def example(imported: Callable[..., Any]) -> Any:
    return imported("ticket_triage", clock=TestClock())


async def post(example: Any, token: str = ADA, **changed: str) -> tuple[HTTPStatus, dict[str, str]]:
    return await example.post_ticket(json.dumps(TICKET | changed).encode(), token)


async def records(example: Any) -> list[JobRecord]:
    return [record async for record in example.app.list()]


def test_the_program_triages_one_ticket_and_refuses_the_rest(started: Callable[..., str]) -> None:
    """SEED-018, SEED-019."""
    lines = started("ticket_triage").splitlines()

    assert [line[:3] for line in lines[:5]] == ["202", "202", "403", "400", "429"]
    assert lines[5:] == [
        'completed {"tenant_id": "acme", "ticket_id": "7", "category": "outage", "urgent": true, "team": "on-call"}',
        "stages: load, classify, route, notify",
        "told: ['on-call: ticket 7']",
    ]


async def test_accepted_is_a_job_and_its_record(example: Any, redis_socket_url: str, prefix: str) -> None:
    """SEED-013, SEED-014, SEED-015, SEED-018: 202 with the id and "queued"; the record has the tenant and the ticket."""
    answer = await post(example)
    (record,) = await records(example)
    async with Queue(example.QUEUE, redis_socket_url, prefix=prefix) as queue:
        (job,) = await queue.get_jobs()

    assert answer == (HTTPStatus.ACCEPTED, {"job": "ticket-triage:acme:7", "status": "queued"})
    assert (record.id, record.tenant, record.payload) == ("ticket-triage:acme:7", "acme", TICKET)
    assert (record.queue, record.created_by, record.source) == ("ticket-triage", "ada@acme", "POST /tickets")
    assert job.id == record.id


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"token": "nobody's"}, HTTPStatus.UNAUTHORIZED),
        ({"token": "token-of-grace"}, HTTPStatus.FORBIDDEN),
        ({"tenant_id": "globex"}, HTTPStatus.FORBIDDEN),
        ({"summary": ""}, HTTPStatus.BAD_REQUEST),
        ({"ticket_id": ""}, HTTPStatus.BAD_REQUEST),
    ],
)
async def test_what_is_refused_leaves_nothing(
    example: Any, asked: dict[str, str], status: HTTPStatus, redis_socket_url: str, prefix: str
) -> None:
    """SEED-001, SEED-002, SEED-019: neither a record nor a job."""
    assert (await post(example, **asked))[0] == status

    assert await records(example) == []
    async with Queue(example.QUEUE, redis_socket_url, prefix=prefix) as queue:
        assert await queue.get_jobs() == []


async def test_a_body_that_is_no_ticket_is_refused(example: Any) -> None:
    """SEED-002: it is no JSON; the summary is missing; and without a tenant nobody may."""
    bodies = (b"{", b'{"tenant_id": "acme", "ticket_id": "7"}', b'{"ticket_id": "7", "summary": "x"}')
    statuses = [(await example.post_ticket(body, ADA))[0] for body in bodies]

    assert statuses == [HTTPStatus.BAD_REQUEST, HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN]
    assert await records(example) == []


async def test_above_the_quota_is_429_and_no_job(example: Any) -> None:
    """SEED-019."""
    await example.app.set_quota("acme", max_open=1, user="operator")
    statuses = [(await post(example, ticket_id=number))[0] for number in ("7", "8")]

    assert statuses == [HTTPStatus.ACCEPTED, HTTPStatus.TOO_MANY_REQUESTS]
    assert len(await records(example)) == 1


async def test_ten_requests_at_once_are_one_job(example: Any) -> None:
    """SEED-016, SEED-017: the record's id is unique in the ledger, so that all get the same job."""
    answers = await asyncio.gather(*(post(example) for _ in range(10)))

    assert {json.dumps(answer) for _, answer in answers} == {'{"job": "ticket-triage:acme:7", "status": "queued"}'}
    assert len(await records(example)) == 1


async def test_a_client_object_is_no_payload(example: Any) -> None:
    """SEED-004."""
    payload: dict[str, object] = {**TICKET, "summary": example.Desk()}
    with pytest.raises(PayloadError):
        await example.triage_ticket.enqueue(payload, user="ada@acme")
    assert await records(example) == []


async def test_a_ticket_of_another_tenant_is_triaged_for_nobody(
    example: Any, redis_socket_url: str, prefix: str
) -> None:
    """SEED-020: a number that is globex's; and a job whose tenant was changed in the queue."""
    desk = example.Desk()
    desk.texts = {("globex", "7"): "Charged twice"}
    await post(example)
    await post(example, ticket_id="8")
    async with Queue(example.QUEUE, redis_socket_url, prefix=prefix) as queue:
        job = await queue.get_job("ticket-triage:acme:8")
        assert job is not None
        await job.update_data({**TICKET, "tenant_id": "globex"})
    failed = (await drain(example.app, deps=desk)).failed

    assert {record.id: (record.error or {})["type"] for record in failed} == {
        "ticket-triage:acme:7": "Permanent",
        "ticket-triage:acme:8": "TenantMismatch",
    }
    assert [record.attempts for record in failed] == [1, 1]
    assert desk.notified == []


async def test_three_attempts_after_five_and_ten_seconds(example: Any) -> None:
    """SEED-008, SEED-009, SEED-012."""

    class Away(example.Desk):
        def notify(self, team: str, ticket_id: str) -> None:
            raise ConnectionRefusedError("the chat is away")

    await post(example)
    (record,) = (await drain(example.app, until="ended", deps=Away())).failed
    starts = [attempt.started_at for attempt in await example.app.attempts(record.id)]

    assert [(start - starts[0]).total_seconds() for start in starts] == [0, 5, 15]


async def test_whoever_dies_wherever_one_team_is_told_once(example: Any) -> None:
    desk = example.Desk()
    await run_at_failpoints(
        example.triage_ticket,
        example.Ticket(**TICKET),
        outside=lambda: desk.notified,
        reset=desk.__init__,
        deps=desk,
        tenant="acme",
    )

    assert desk.notified == ["on-call: ticket 7"]


def test_the_rules_of_a_triage(example: Any) -> None:
    """SEED-005, SEED-010, SEED-011."""
    options = example.triage_ticket.options

    assert (options.queue, example.QUEUE) == ("ticket-triage", "ticket-triage")
    assert options.keep_completed == Keep(age=24 * 3600, count=1000)
    assert options.keep_failed == Keep(age=7 * 24 * 3600)


async def test_the_address_of_the_queues_is_the_environments(
    example: Any, imported: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEED-006: REDIS_URL; in production an enqueue without one says what to set."""
    monkeypatch.setenv("REDIS_URL", "redis://queues.internal:6379")
    assert Taurine("support-desk").settings.redis_url == "redis://queues.internal:6379"
    monkeypatch.delenv("REDIS_URL")
    monkeypatch.setenv("TAURINE_ENV", "production")
    without = imported("ticket_triage", redis_url=None)
    with pytest.raises(InvalidOption, match="REDIS_URL"):
        await post(without)


async def test_a_worker_may_take_another_way_to_the_queues(example: Any, redis_url: str) -> None:
    """SEED-007: producers by the socket, the worker by TCP."""
    desk = example.Desk()
    await post(example)
    async with example.app.worker(redis_url=redis_url, deps=desk):
        record = await example.app.wait("ticket-triage:acme:7", timeout=10)

    assert record.status == "completed"


async def test_the_endpoint_without_a_server(example: Any) -> None:
    """What a team writes first: who is asked, and what was enqueued."""
    with Recorder(example.app) as recorder:
        assert (await post(example))[0] == HTTPStatus.ACCEPTED
        assert (await post(example, "token-of-grace"))[0] == HTTPStatus.FORBIDDEN
    recorder.assert_enqueued("ticket-triage", tenant="acme", user="ada@acme", summary="urgent")
    assert len(recorder.jobs) == 1
