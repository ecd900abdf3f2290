"""Quotas: how many jobs that have not ended a tenant may have (SEED-019)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.desk import declare_triage, recorded, ticket
from taurine import AccessRequest, NotAuthorized, Quota, QuotaExceeded, Taurine
from taurine.errors import InvalidOption, UnknownJobType
from taurine.ledger.schema import audit


@pytest.fixture
def app(app_factory: Callable[..., Taurine], ledger_url: str) -> Taurine:
    return app_factory()


async def test_what_is_above_the_quota_is_refused_and_stores_nothing(app: Taurine) -> None:
    """SEED-019: no job; the error says which quota, and that a later try may succeed."""
    triage = declare_triage(app)
    await app.set_quota("acme", max_open=2)
    first, _ = await triage.enqueue_many([ticket(1), ticket(2)])
    with pytest.raises(QuotaExceeded, match="tenant 'acme' may have 2 unfinished jobs; try again") as over:
        await triage.enqueue(ticket(3))
    assert (over.value.tenant, over.value.max_open, over.value.job_type) == ("acme", 2, None)
    assert over.value.retryable
    assert len(await recorded(app)) == 2
    assert (await triage.enqueue(ticket(1))).duplicate  # opens no further job
    await triage.enqueue(ticket(3, tenant="globex"))

    await first.cancel()
    assert (await triage.enqueue(ticket(3))).status == "queued"


async def test_a_quota_is_set_anew_shown_and_taken_away(app: Taurine) -> None:
    triage = declare_triage(app)
    assert await app.quotas("acme") == []
    await app.set_quota("acme", max_open=0, type="ticket.triage")
    await app.set_quota("acme", max_open=5)
    await app.set_quota("acme", max_open=7)
    await app.set_quota("globex", max_open=1)
    assert await app.quotas("acme") == [Quota("acme", 7), Quota("acme", 0, "ticket.triage")]
    with pytest.raises(QuotaExceeded, match=r"may have 0 unfinished jobs of type 'ticket\.triage'"):
        await triage.enqueue(ticket())

    await app.set_quota("acme", max_open=None, type="ticket.triage")
    assert await app.quotas("acme") == [Quota("acme", 7)]
    await triage.enqueue(ticket())
    await app.set_quota("acme", max_open=None)
    await app.set_quota("acme", max_open=None, type="a type that is gone")
    assert await app.quotas("acme") == []
    assert await app.quotas("globex") == [Quota("globex", 1)]


async def test_a_quota_that_cannot_be_is_refused(app: Taurine) -> None:
    declare_triage(app)
    with pytest.raises(UnknownJobType, match=r"did you mean 'ticket\.triage'"):
        await app.set_quota("acme", max_open=1, type="ticket.triag")
    wrong: Any
    for wrong in (-1, 1 << 31, "5", True):
        with pytest.raises(InvalidOption, match="max_open"):
            await app.set_quota("acme", max_open=wrong)
    for wrong in ("", "a\nb", None):
        with pytest.raises(InvalidOption, match="tenant"):
            await app.set_quota(wrong, max_open=1)
    assert await app.quotas("acme") == []


async def test_who_may_set_one_and_who_did(app_factory: Callable[..., Taurine], ledger_url: str) -> None:
    asked: list[AccessRequest] = []

    def authorize(request: AccessRequest) -> bool:
        asked.append(request)
        return request.user == "ops"

    app = app_factory(authorize=authorize)
    with pytest.raises(NotAuthorized, match="ann may not set_quota 'all types'"):
        await app.set_quota("acme", max_open=9, user="ann")
    await app.set_quota("acme", max_open=2, user="ops")
    assert asked[-1] == AccessRequest(action="set_quota", job_type="", tenant="acme", user="ops")
    assert await app.quotas("acme") == [Quota("acme", 2)]
    rows = await app._backend().database.read(lambda connection: connection.execute(audit.select()).all())
    assert [(row.actor, row.action, row.tenant, row.detail) for row in rows] == [
        ("ops", "set_quota", "acme", '{"type": null, "max_open": 2}')
    ]
