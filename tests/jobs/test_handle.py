"""What an enqueue returns: the result, typed, or why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.desk import Triage, declare_triage, ticket
from support.eventually import eventually
from taurine import JobCancelled, JobExpired, JobFailed, RecordNotFound, Taurine, WaitTimeout
from taurine.errors import InvalidOption, PayloadInvalid
from taurine.ledger.completions import Completion, apply_completions
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.starts import Start, apply_starts
from taurine.testing import TestClock

NOW = 1_800_000_000.0
AT = round(NOW * 1000) + 5


async def _complete(app: Taurine, job_id: str, output: str) -> None:
    done = Completion(id=job_id, fence=1, attempts=1, output=output, worker="w", started_at=AT, at=AT)
    await app._backend().database.write(lambda connection: apply_completions(connection, [done]))


async def _end(app: Taurine, job_id: str, status: Any, **values: Any) -> None:
    usual: dict[str, Any] = {"attempts": 1, "at": AT, "worker": "w", "started_at": AT}
    ending = Ending(id=job_id, fence=1, status=status, **(usual | values))
    (answer,) = await app._backend().database.write(lambda connection: apply_endings(connection, [ending]))
    assert not isinstance(answer, Exception)


@pytest.fixture
def app(app_factory: Callable[..., Taurine]) -> Taurine:
    class Clock(TestClock):
        """Records have a fixed time; sleeping takes the machine's."""

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    return app_factory(clock=Clock(NOW))


async def test_the_result_is_typed(app: Taurine) -> None:
    handle = await declare_triage(app).enqueue(ticket())
    waiting = asyncio.create_task(handle.result(timeout=10))
    await asyncio.sleep(0)
    await _complete(app, handle.id, '{"category":"print","priority":2}')
    assert await waiting == Triage(category="print", priority=2)
    assert (handle.status, handle.phase) == ("completed", "completed")
    assert (await handle.result()).priority == 2


async def test_a_result_that_is_not_what_is_declared(app: Taurine) -> None:
    """Another version of the worker wrote it."""
    handle = await declare_triage(app).enqueue(ticket())
    await _complete(app, handle.id, '{"category":"print"}')
    with pytest.raises(PayloadInvalid, match="the result is not valid: priority"):
        await handle.result()


async def test_a_failed_job(app: Taurine) -> None:
    handle = await declare_triage(app).enqueue(ticket())
    await _end(
        app,
        handle.id,
        "failed",
        error='{"type":"ValueError","message":"no paper"}',
        error_fingerprint="f",
        dead_letter="exhausted",
    )
    with pytest.raises(JobFailed) as failure:
        await handle.result()
    assert (failure.value.reason, failure.value.job_id) == ("no paper", handle.id)
    assert handle.status == "failed"


async def test_a_cancelled_job(app: Taurine) -> None:
    handle = await declare_triage(app).enqueue(ticket())
    record = await handle.cancel(reason="closed by the customer")
    assert (record.status, handle.status) == ("cancelled", "cancelled")
    with pytest.raises(JobCancelled, match="closed by the customer"):
        await handle.result()


async def test_an_expired_job(app: Taurine) -> None:
    handle = await declare_triage(app).enqueue(ticket(), expires_in=1)
    await _end(app, handle.id, "expired")
    with pytest.raises(JobExpired):
        await handle.result()


async def test_a_job_that_takes_longer_than_one_waits(app: Taurine) -> None:
    handle = await declare_triage(app).enqueue(ticket())
    with pytest.raises(
        WaitTimeout, match=r"did not end within 0\.05 s; it is queued \(no worker is known to have it\) and goes on"
    ) as late:
        await handle.result(timeout=0.05)
    assert f"`await app.why({handle.id!r})` says" in str(late.value)
    with pytest.raises(TimeoutError):  # what a caller expects of `timeout`
        await handle.result(timeout=0)
    with pytest.raises(InvalidOption):
        await handle.result(timeout=-1)


async def test_a_running_job_is_not_said_to_wait_for_a_worker(app: Taurine) -> None:
    handle = await declare_triage(app).enqueue(ticket())
    begun = Start(id=handle.id, fence=1, attempts=1, worker="w", started_at=AT, at=AT)
    await app._backend().database.write(lambda connection: apply_starts(connection, [begun]))
    with pytest.raises(WaitTimeout, match="it is running and goes on"):
        await handle.result(timeout=0)


async def test_a_record_that_is_gone(app: Taurine) -> None:
    handle = await declare_triage(app).enqueue(ticket())
    handle.id = "gone"
    for ask in (handle.record, handle.result, handle.cancel):
        with pytest.raises(RecordNotFound):
            await ask()


async def test_many_waiters_share_one_query(app: Taurine, monkeypatch: pytest.MonkeyPatch) -> None:
    triage = declare_triage(app)
    handles = await triage.enqueue_many([ticket(number) for number in range(50)])
    backend, reads = app._backend(), 0
    waiting = [asyncio.create_task(handle.result(timeout=20)) for handle in handles for _ in range(4)]
    await eventually(lambda: sum(map(len, backend.watch._waiting.values())) == 200, 10, "not all wait")
    read = backend.database.read

    async def counted(work: Any) -> Any:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        return await read(work)

    monkeypatch.setattr(backend.database, "read", counted)
    await eventually(lambda: reads >= 4, 10, "nobody looks")
    # A look in 10 to 250 ms, however many wait: 200 waiters that looked themselves would have made 200 reads in each pause.
    assert reads < 50
    for handle in handles:
        await _complete(app, handle.id, '{"category":"a","priority":1}')
    assert len(await asyncio.gather(*waiting)) == 200
    assert backend.watch._waiting == {}


async def test_who_cancels_and_of_which_tenant(app: Taurine) -> None:
    """SEED-234: by a handle as by an id."""
    handle = await declare_triage(app).enqueue(ticket())
    with pytest.raises(RecordNotFound):
        await handle.cancel(tenant="globex")
    assert (await handle.cancel(tenant="acme", user="ann")).status == "cancelled"
    assert [(action.action, action.actor) for action in await app.audit(handle.id)][-1] == ("cancel", "ann")


async def test_what_it_shows(app: Taurine) -> None:
    triage = declare_triage(app)
    assert repr(await triage.enqueue(ticket())) == "JobHandle('ticket-triage:acme:7', queued)"
    assert repr(await triage.enqueue(ticket())) == "JobHandle('ticket-triage:acme:7', queued, duplicate)"
