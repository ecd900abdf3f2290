"""Quotas as callers meet them: 429, when to come back, and no job (SEED-019)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from support.api import Client, problem
from taurine import RateLimit, Taurine
from taurine.testing import TestClock

WithKey = Callable[..., Awaitable[Client]]


async def test_over_its_rate_a_tenant_is_told_when_to_come_back(
    app: Taurine, with_key: WithKey, clock: TestClock
) -> None:
    """SEED-019: the whole batch or nothing, and other tenants are not concerned."""
    acme, globex = await with_key("enqueue", "read", tenant="acme"), await with_key("enqueue", tenant="globex")
    await app.set_quota("acme", max_rate=RateLimit(2, 60))
    three = {"payloads": [1, 2, 3]}
    assert problem(await acme.post("/v1/jobs/thing.keep/batch", json=three)) == (429, "quota_exceeded")
    for number in range(2):
        assert (await acme.enqueue("thing.keep", number)).status_code == 202
    refused = await acme.enqueue("thing.keep", 3)
    assert problem(refused) == (429, "quota_exceeded")
    assert refused.headers["retry-after"] == "30"
    assert len((await acme.get("/v1/jobs")).json()["items"]) == 2
    assert (await globex.enqueue("thing.keep", 3)).status_code == 202
    clock.advance(30.0)
    assert (await acme.enqueue("thing.keep", 3)).status_code == 202


async def test_over_its_open_jobs_it_is_told_to_try_again(app: Taurine, with_key: WithKey) -> None:
    acme = await with_key("enqueue", "operate", tenant="acme")
    await app.set_quota("acme", max_open=1)
    first = (await acme.enqueue("thing.keep", 1)).json()
    refused = await acme.enqueue("thing.keep", 2)
    assert problem(refused) == (429, "quota_exceeded")
    assert int(refused.headers["retry-after"]) > 0
    assert (await acme.post(first["links"]["cancel"])).status_code == 200
    assert (await acme.enqueue("thing.keep", 2)).status_code == 202
