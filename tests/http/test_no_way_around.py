"""What a caller of one tenant cannot reach in a roundabout way: orders of Taurine's own, and what another tenant has
put in the place of its jobs (A36, A37).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.api import Client, problem
from taurine import Retry, Taurine
from taurine.errors import JobIdUnusable, UnknownJobType
from taurine.http import Access
from taurine.jobs.operations.bulk_orders import BulkOrder
from taurine.ledger.schema import job

ORDER: dict[str, Any] = {
    "action": "cancel",
    "before": 4_000_000_000_000,
    "limit": 100_000,
    "reason": "x",
    "tenant": None,
}


async def keyed(app: Taurine, client_of: Callable[..., Client], *scopes: Any, tenant: str | None = "acme") -> Client:
    key = await app.api_keys.create("web", scopes=list(scopes), tenant=tenant)
    client = client_of(app, access=Access(secret="s" * 32))
    client.headers["Authorization"] = f"Bearer {key.text}"
    return client


async def test_nobody_puts_in_an_order_of_our_own(app: Taurine, client_of: Callable[..., Client]) -> None:
    client = await keyed(app, client_of, "enqueue", "read", "operate")
    for path, body in (
        ("/v1/jobs/taurine.bulk", {"payload": ORDER}),
        ("/v1/jobs/taurine.bulk/batch", {"payloads": [ORDER]}),
    ):
        assert problem(await client.post(path, json=body)) == (404, "unknown_job_type")
    answer = await client.post("/v1/tokens", json={"job_type": "taurine.bulk"})
    assert problem(answer) == (404, "unknown_job_type")
    with pytest.raises(UnknownJobType):
        await app.enqueue("taurine.bulk", ORDER)


async def test_an_order_is_not_edited_and_reaches_no_other_tenant(
    app: Taurine, client_of: Callable[..., Client]
) -> None:
    client = await keyed(app, client_of, "enqueue", "read", "operate")
    mine = await app.enqueue("thing.keep", {}, tenant="acme")
    other = await app.enqueue("thing.keep", {}, tenant="globex")
    started = await app.bulk.start("cancel", ids=[mine.id], tenant="acme")
    async with app.operations_worker():
        await app.wait(started.id, 30)
    answer = await client.post(f"/v1/jobs/{started.id}/retry", json={"payload": ORDER})
    assert answer.status_code in (404, 409), answer.text
    # However it came there, an order about others than its own job's tenant is not carried out.
    order = BulkOrder.model_validate({**ORDER, "before": 4_000_000_000_000})
    forged = await app.bulk.job_type.enqueue(order, tenant="acme")
    async with app.operations_worker():
        ended = await app.wait(forged.id, 30)
    assert ended is not None
    assert ended.status == "failed"
    record = await app.get(other.id)
    assert record is not None
    assert record.status == "queued"


async def test_an_entry_shows_nothing_of_who_has_its_id_now(app: Taurine, client_of: Callable[..., Client]) -> None:
    client = await keyed(app, client_of, "read", "operate")
    nobody = {"user": "nobody", "address": "n@example.com"}
    await app.enqueue("invite.send", nobody, job_id="x", tenant="acme", retry=Retry.NONE)
    async with app.worker():
        await app.wait("x", 30)
    (entry,) = (await app.dead_letters.list(tenant="acme")).items
    await app._backend().database.write(lambda connection: connection.execute(job.delete().where(job.c.id == "x")))
    await app.enqueue("thing.keep", {"private": 1}, job_id="x", tenant="globex", user="eve")
    answer = await client.get(f"/v1/dead-letters/{entry.id}")
    assert answer.status_code == 200, answer.text
    assert "globex" not in answer.text
    assert "eve" not in answer.text
    assert "private" not in answer.text
    with pytest.raises(JobIdUnusable):
        await app.dead_letters.redrive(entry.id, tenant="acme")
