"""Quotas by rate: how many jobs a tenant may add in a time (SEED-019)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, select

from support.desk import declare_triage, recorded, ticket
from taurine import Quota, QuotaExceeded, RateLimit, Taurine
from taurine.errors import InvalidOption
from taurine.ledger.schema import audit, quota
from taurine.testing import TestClock

PER_MINUTE = RateLimit(3, 60)


@pytest.fixture
def clock() -> TestClock:
    return TestClock(1_800_000_000.0)


@pytest.fixture
def app(app_factory: Callable[..., Taurine], clock: TestClock, ledger_url: str) -> Taurine:
    return app_factory(clock=clock)


async def test_what_is_above_the_rate_is_refused_and_stores_nothing_until_there_is_room(
    app: Taurine, clock: TestClock
) -> None:
    """SEED-019: no job, and the seconds after which there is room."""
    triage = declare_triage(app)
    await app.set_quota("acme", max_rate=PER_MINUTE)
    await triage.enqueue_many([ticket(1), ticket(2), ticket(3)])
    with pytest.raises(QuotaExceeded, match=r"tenant 'acme' may add 3 jobs in 60 s; try again in 20 s") as over:
        await triage.enqueue(ticket(4))
    assert (over.value.retry_after, over.value.max_rate, over.value.max_open) == (20.0, PER_MINUTE, None)
    assert len(await recorded(app)) == 3
    assert (await triage.enqueue(ticket(1))).duplicate  # a repeat adds nothing
    await triage.enqueue(ticket(4, tenant="globex"))

    clock.advance(19.999)
    with pytest.raises(QuotaExceeded, match=r"try again in 0\.001 s"):
        await triage.enqueue(ticket(4))
    clock.advance(0.001)
    assert (await triage.enqueue(ticket(4))).status == "queued"
    with pytest.raises(QuotaExceeded):
        await triage.enqueue(ticket(5))


async def test_what_is_refused_takes_nothing_of_the_rate(app: Taurine, clock: TestClock) -> None:
    triage = declare_triage(app)
    await app.set_quota("acme", max_rate=PER_MINUTE)
    with pytest.raises(QuotaExceeded):
        await triage.enqueue_many([ticket(number) for number in range(4)])  # all or nothing
    assert await recorded(app) == []
    await triage.enqueue_many([ticket(number) for number in range(3)])


async def test_of_many_at_once_in_two_processes_exactly_so_many_are_accepted(
    app_factory: Callable[..., Taurine], clock: TestClock, ledger_url: str
) -> None:
    """SEED-019."""
    apps = [app_factory(clock=clock) for _ in range(2)]
    types = [declare_triage(app) for app in apps]
    await apps[0].set_quota("acme", max_rate=RateLimit(7, 3600))

    async def attempt(number: int) -> bool:
        try:
            await types[number % 2].enqueue(ticket(number))
        except QuotaExceeded:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(number) for number in range(30)))) == 7
    assert len(await recorded(apps[0])) == 7


async def test_both_kinds_hold_and_what_is_not_said_is_no_longer_limited(app: Taurine) -> None:
    triage = declare_triage(app)
    await app.set_quota("acme", max_open=2, max_rate=PER_MINUTE)
    await app.set_quota("acme", max_rate=RateLimit(1, 1), type="ticket.triage")
    both = [Quota("acme", 2, None, PER_MINUTE), Quota("acme", None, "ticket.triage", RateLimit(1, 1.0))]
    assert await app.quotas("acme") == both
    await triage.enqueue(ticket(1))
    with pytest.raises(QuotaExceeded, match=r"of type 'ticket\.triage' in 1 s"):
        await triage.enqueue(ticket(2))
    await app.set_quota("acme", type="ticket.triage")
    await triage.enqueue(ticket(2))
    with pytest.raises(QuotaExceeded, match="2 unfinished jobs") as over:
        await triage.enqueue(ticket(3))
    assert over.value.retry_after is None
    await app.set_quota("acme", max_rate=PER_MINUTE)
    await triage.enqueue(ticket(3))
    with pytest.raises(QuotaExceeded):  # the first two counted on
        await triage.enqueue(ticket(4))
    await app.set_quota("acme")
    assert await app.quotas("acme") == []
    await triage.enqueue(ticket(4))
    rows = await app._backend().database.read(
        lambda connection: list(connection.execute(select(audit.c.detail).where(audit.c.action == "set_quota")))
    )
    assert rows[0].detail == '{"type": null, "max_open": 2, "max_rate": [3, 60.0]}'


async def test_only_tenants_that_have_one_pay(app: Taurine) -> None:
    """The others' enqueues write nothing into the table of quotas."""
    triage = declare_triage(app)
    await app.set_quota("acme", max_rate=PER_MINUTE)
    await app.set_quota("globex", max_open=5)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    from sqlalchemy.engine import Engine

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for tenant, number in (("globex", 0), ("acme", 1), ("initech", 0)):
            statements.clear()
            await triage.enqueue(ticket(1, tenant=tenant))
            assert sum(f"UPDATE {quota.name}" in statement for statement in statements) == number, tenant
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_a_rate_that_cannot_be_is_refused(app: Taurine) -> None:
    with pytest.raises(InvalidOption, match="1,000,000"):
        await app.set_quota("acme", max_rate=RateLimit(1_000_001, 60))
