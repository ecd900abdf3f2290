"""One per id, and one per idempotency key (SEED-016, 017, 085, 086, 227 to 229, CON-14, CON-16, P5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.desk import Ticket, Triage, declare_triage, recorded, ticket
from support.ledger import complete
from taurine import Taurine
from taurine.errors import DuplicateJob, IdempotencyConflict, TenantMismatch
from taurine.ledger.completions import Completion, apply_completions
from taurine.queue import Queue
from taurine.testing import TestClock

NOW = 1_800_000_000.0


async def _complete(app: Taurine, job_id: str, *, fence: int = 1) -> None:
    """What a worker's commit at the end of the job does."""
    at = round(NOW * 1000) + 5
    done = Completion(id=job_id, fence=fence, attempts=1, output='"done"', worker="w", started_at=at, at=at)
    (answer,) = await app._backend().database.write(lambda connection: apply_completions(connection, [done]))
    assert not isinstance(answer, Exception)


@pytest.fixture
def app(app_factory: Callable[..., Taurine], ledger_url: str) -> Taurine:
    return app_factory(clock=TestClock(NOW))


async def test_a_repeat_gives_the_job_that_is_there_and_its_true_status(app: Taurine) -> None:
    """SEED-017, SEED-085, SEED-227, SEED-228, CON-14: also when it has ended, and changes nothing of it."""
    triage = declare_triage(app)
    first = await triage.enqueue(ticket(), user="ann")
    await _complete(app, first.id)
    again = await triage.enqueue(ticket(summary="another text"), user="bob")
    assert (again.id, again.status, again.duplicate) == (first.id, "completed", True)
    assert again.created_at == first.created_at
    record = await again.record()
    assert (record.payload["summary"], record.created_by) == ("it does not print", "ann")


async def test_two_applications_at_once_make_one_job(
    app: Taurine, app_factory: Callable[..., Taurine], redis_socket_url: str, prefix: str
) -> None:
    """SEED-016, SEED-035, P5."""
    types = [declare_triage(app), declare_triage(app_factory("other"))]
    handles = await asyncio.gather(
        *(one.enqueue(ticket(number)) for number in range(20) for one in types for _ in range(3))
    )
    assert sum(not handle.duplicate for handle in handles) == 20
    assert len(await recorded(app)) == 20
    async with Queue("ticket-triage", redis_socket_url, prefix=prefix) as queue:
        assert (await queue.counts())["waiting"] == 20


async def test_an_id_protects_longer_than_the_queue_keeps_it(app: Taurine, redis_socket_url: str, prefix: str) -> None:
    """CON-16, P5: the record refuses, when nothing of the job is left in the queue."""
    triage = declare_triage(app)
    first = await triage.enqueue(ticket())
    await _complete(app, first.id)
    async with Queue("ticket-triage", redis_socket_url, prefix=prefix) as queue:
        await queue.obliterate(force=True)
        assert (await triage.enqueue(ticket())).duplicate
        assert (await queue.counts())["waiting"] == 0


async def test_error_on_a_duplicate(app: Taurine) -> None:
    """CON-14: strict mode."""
    triage = declare_triage(app)
    first = await triage.enqueue(ticket(), on_duplicate="error")
    with pytest.raises(DuplicateJob, match="exists already, and is queued") as refusal:
        await triage.enqueue(ticket(), on_duplicate="error")
    assert refusal.value.job_id == first.id


async def test_rerun_of_a_finished_job(app: Taurine, redis_socket_url: str, prefix: str) -> None:
    """SEED-229, SEED-252: a new generation under the same id, with the new payload; both are linked by it."""
    triage = declare_triage(app)
    first = await triage.enqueue(ticket())
    await _complete(app, first.id)
    async with Queue("ticket-triage", redis_socket_url, prefix=prefix) as queue:
        await queue.obliterate(force=True)
        again = await triage.enqueue(ticket(summary="it still does not"), on_duplicate="rerun")
        assert (again.id, again.status, again.duplicate, again.rerun) == (first.id, "queued", False, True)
        assert repr(again).endswith(", queued, rerun)")
        job = await queue.get_job(first.id)
        assert job is not None
        assert job.data["summary"] == "it still does not"
    record = await again.record()
    assert (record.generation, record.output) == (1, None)


async def test_rerun_of_a_job_that_has_not_ended_is_a_duplicate(app: Taurine) -> None:
    triage = declare_triage(app)
    await triage.enqueue(ticket(), on_duplicate="rerun")
    again = await triage.enqueue(ticket(), on_duplicate="rerun")
    assert (again.duplicate, again.rerun, (await again.record()).generation) == (True, False, 0)


@pytest.mark.parametrize("on_duplicate", ["return", "error", "rerun"])
async def test_an_id_of_another_type_is_not_taken_for_ones_own(app: Taurine, on_duplicate: Any) -> None:
    """The caller would wait for the result of a job that it does not know, or replace it."""
    triage = declare_triage(app)
    first = await triage.enqueue(ticket(), job_id="ticket-7")
    await _complete(app, first.id)
    other = app.declare("ticket.archive", Ticket, Triage, tenant="{tenant_id}")
    with pytest.raises(DuplicateJob, match=r"job of type 'ticket\.triage'"):
        await other.enqueue(ticket(), job_id="ticket-7", on_duplicate=on_duplicate)
    record = await first.record()
    assert (record.type, record.status, record.generation) == ("ticket.triage", "completed", 0)


@pytest.mark.parametrize("on_duplicate", ["return", "error", "rerun"])
async def test_an_id_of_another_tenant_shows_and_changes_nothing(app: Taurine, on_duplicate: Any) -> None:
    """P8."""
    triage = declare_triage(app)
    first = await triage.enqueue(ticket(), job_id="ticket-7")
    await _complete(app, first.id)
    with pytest.raises(TenantMismatch) as refusal:
        await triage.enqueue(ticket(tenant="umbrella"), job_id="ticket-7", on_duplicate=on_duplicate)
    assert "acme" not in str(refusal.value)
    assert "completed" not in str(refusal.value)
    record = await first.record()
    assert (record.status, record.generation, record.payload["tenant_id"]) == ("completed", 0, "acme")


async def test_a_key_stands_for_its_request(app: Taurine) -> None:
    """SEED-067: a repeated webhook is the same job, also of a type whose jobs are new each time."""
    count = app.declare("ticket.count", Ticket, tenant="{tenant_id}")
    first = await count.enqueue(ticket(), idempotency_key="evt_1")
    again = await count.enqueue(ticket(), idempotency_key="evt_1")
    assert (again.id, again.duplicate) == (first.id, True)
    other = await count.enqueue(ticket(), idempotency_key="evt_2")
    assert not other.duplicate


async def test_a_key_of_another_tenant_is_another_key(app: Taurine) -> None:
    count = app.declare("ticket.count", Ticket, tenant="{tenant_id}")
    await count.enqueue(ticket(), idempotency_key="evt_1")
    other = await count.enqueue(ticket(tenant="umbrella"), idempotency_key="evt_1")
    assert not other.duplicate


async def test_a_key_with_another_request_is_a_conflict(app: Taurine) -> None:
    count = app.declare("ticket.count", Ticket, tenant="{tenant_id}")
    await count.enqueue(ticket(), idempotency_key="evt_1")
    with pytest.raises(IdempotencyConflict):
        await count.enqueue(ticket(summary="other data"), idempotency_key="evt_1")
    assert len(await recorded(app)) == 1


async def test_a_key_has_a_life_of_its_own(app_factory: Callable[..., Taurine], ledger_url: str) -> None:
    """CON-16: as long as its type says, whatever becomes of the job."""
    clock = TestClock(NOW)
    app = app_factory(clock=clock)
    count = app.declare("ticket.count", Ticket, keep_keys=3600)
    first = await count.enqueue(ticket(), idempotency_key="evt_1")
    await complete(app._backend().database, first.id)
    clock.advance(3599)
    assert (await count.enqueue(ticket(), idempotency_key="evt_1")).id == first.id
    clock.advance(2)
    assert (await count.enqueue(ticket(), idempotency_key="evt_1")).id != first.id
