"""`/metrics` and `/health/…` as probes and scrapers see them, and what they do not show."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from support.api import Client, problem
from taurine.app import Taurine
from taurine.http import Access
from taurine.ledger.schema import VERSION

CLOSED = Access(open_on_loopback=False)

ClientOf = Callable[..., Client]


async def with_key(app: Taurine, *scopes: str, tenant: str | None = None) -> dict[str, str]:
    created = await app.api_keys.create("a key", scopes=list(scopes), tenant=tenant)  # pyright: ignore[reportArgumentType] - of the test
    return {"Authorization": f"Bearer {created.text}"}


# Metrics --------------------------------------------------------------------------------------------------------------------------


async def test_a_scrape_parses(app: Taurine, client: Client) -> None:
    """SEED-071, ING-84."""
    await client.enqueue()
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert {sample.value for sample in families["taurine_up"].samples} == {1.0}
    assert "bullmq_job_count" in families


@pytest.mark.parametrize(
    ("scopes", "tenant", "metrics_for", "status"),
    [
        (("admin",), None, "admin", 200),
        (("read", "operate", "enqueue"), None, "admin", 403),
        (("read",), None, "read", 200),
        (("enqueue",), None, "read", 403),
        (("admin",), "acme", "admin", 403),
        (("read",), "acme", "read", 403),
    ],
)
async def test_metrics_are_for_admins_unless_the_host_says_otherwise(
    app: Taurine, client_of: ClientOf, *, scopes: tuple[str, ...], tenant: str | None, metrics_for: str, status: int
) -> None:
    """SEED-215, SEED-274."""
    client = client_of(app, access=CLOSED, metrics_for=metrics_for)
    headers = await with_key(app, *scopes, tenant=tenant)
    assert (await client.get("/metrics", headers=headers)).status_code == status


async def test_without_credentials_health_says_a_word_and_metrics_nothing(app: Taurine, client_of: ClientOf) -> None:
    """A24, SEED-274: probes have no credentials, and see no name."""
    client = client_of(app, access=CLOSED)
    assert problem(await client.get("/metrics")) == (401, "unauthenticated")
    expected = {"/health/live": "ok", "/health/ready": "ready", "/health/queues": "ok"}
    for path, status in expected.items():
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": status, "healthy": True})


# Ready ----------------------------------------------------------------------------------------------------------------------------


async def test_without_the_store_the_api_is_degraded_and_accepts(
    app_factory: Callable[..., Taurine], client_of: ClientOf
) -> None:
    app = app_factory(redis_url="redis://127.0.0.1:1")
    answer = await client_of(app).get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["store"] == "no answer"
    assert (await client_of(app).get("/health/live")).status_code == 200, "an outage restarts nothing"


async def test_tables_of_another_version_are_not_ready(app: Taurine, client_of: ClientOf) -> None:
    client = client_of(app, access=CLOSED)
    assert (await client.get("/health/ready")).status_code == 200
    await app._backend().database.write(
        lambda connection: connection.execute(text("UPDATE taurine_version SET version_num = '9999'"))
    )
    assert VERSION != "9999"
    answer = await client_of(app, access=CLOSED).get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "unready", "healthy": False})


# Queues ---------------------------------------------------------------------------------------------------------------------------


async def test_totals_are_looked_at_where_they_are_asked_for(app: Taurine, client_of: ClientOf) -> None:
    """SEED-155, SEED-190, SEED-272: more than 100 wait, both sides of the limit, 200 and 503."""
    reader = client_of(app, access=CLOSED, answer_within=30.0)
    headers = await with_key(app, "read")
    send = app.catalog.get("invite.send")
    await send.enqueue_many([{"user": "ada", "address": "ada@example.com"}] * 100)
    assert (await reader.get("/health/queues?totals=true")).status_code == 200
    await send.enqueue({"user": "ada", "address": "ada@example.com"})
    fresh = client_of(app, access=CLOSED, answer_within=30.0)
    answer = await fresh.get("/health/queues?totals=true")
    assert (answer.status_code, answer.json()) == (503, {"status": "unhealthy", "healthy": False})
    assert (await fresh.get("/health/queues")).status_code == 200
    seen = await fresh.get("/health/queues?totals=true", headers=headers)
    mail = seen.json()["queues"]["mail"]
    assert (seen.status_code, mail["healthy"], mail["waiting"]) == (503, False, 101)
    assert mail["troubles"] == [{"kind": "waiting", "value": 101, "limit": 100}]
    higher = await fresh.get("/health/queues?totals=true&max_waiting=101", headers=headers)
    assert higher.status_code == 200


async def test_limits_are_chosen_by_those_who_may_read(app: Taurine, client_of: ClientOf) -> None:
    """Who may set limits finds out counts: one question for each bit."""
    client = client_of(app, access=CLOSED)
    assert problem(await client.get("/health/queues?max_dead_letters=3")) == (401, "unauthenticated")
    tenants = await with_key(app, "read", tenant="acme")
    assert problem(await client.get("/health/queues?max_waiting=3", headers=tenants)) == (403, "forbidden")
    assert (await client.get("/health/queues", headers=tenants)).json() == {"status": "ok", "healthy": True}
    reader = await with_key(app, "read")
    assert (await client.get("/health/queues?max_waiting=-1", headers=reader)).status_code == 400
    assert (await client.get("/health/queues?max_wating=1", headers=reader)).status_code == 400


async def test_a_wrong_credential_is_refused_also_where_none_is_needed(app: Taurine, client_of: ClientOf) -> None:
    client = client_of(app, access=CLOSED)
    answer = await client.get("/health/queues", headers={"Authorization": "Bearer taurine_none"})
    assert answer.status_code == 401


async def test_without_the_ledger_nothing_is_known(app: Taurine, client_of: ClientOf) -> None:
    await app._backend().ready()
    await app._backend().database.write(lambda connection: connection.execute(text("DROP TABLE taurine_tally")))
    answer = await client_of(app).get("/health/queues")
    assert (answer.status_code, json.loads(answer.text)["status"]) == (503, "unknown")
