"""What one tenant finds out about others by the way: by ids that are taken, by filters, by why its own jobs wait (A37)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.api import Answer, Client, problem
from support.ledger import put_in as put_in_ledger
from taurine.app import Taurine

WithKey = Callable[..., Awaitable[Client]]


def said(answer: Answer) -> dict[str, Any]:
    """What a refusal says, but for the path."""
    document = answer.json()
    return {name: value for name, value in document.items() if name != "instance"}


async def put_in(app: Taurine, job_id: str, *, tenant: str | None = None, **columns: Any) -> None:
    """A record as it stands in the ledger, also of a type that nobody declares any more."""
    await app._backend().ready()
    await put_in_ledger(app._backend().database, job_id, tenant=tenant, **columns)


# Ids that are taken -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_duplicate", ["return", "error", "rerun"])
async def test_an_id_that_is_not_ones_own_is_refused_in_the_same_words_whatever_has_it(
    app: Taurine, with_key: WithKey, on_duplicate: str
) -> None:
    """A37, SEED-234: nothing tells whose it is, of which type, or whether it has ended."""
    await app.enqueue("invite.send", {"user": "a", "address": "a@b.example"}, job_id="x", tenant="acme")
    await put_in(app, "y", tenant=None, type="thing.old", queue="old")
    await app.enqueue("thing.keep", 1, job_id="z", tenant="initech")
    await app.cancel("z")
    globex = await with_key("enqueue", tenant="globex")

    answers = {one: await globex.enqueue(job_id=one, on_duplicate=on_duplicate) for one in "xyz"}

    assert [problem(answer) for answer in answers.values()] == [(409, "job_id_unusable")] * 3
    words = {str(said(answer)).replace(f"'{one}'", "'…'") for one, answer in answers.items()}
    assert len(words) == 1
    assert "tenant" not in answers["x"].text


async def test_a_batch_whose_type_makes_the_ids_is_refused_in_the_same_words(app: Taurine, with_key: WithKey) -> None:
    app.declare("report.make", dict[str, str], queue="reports", job_id="report:{user}")
    await app.enqueue("report.make", {"user": "ada"}, tenant="acme")
    globex = await with_key("enqueue", tenant="globex")

    batch = await globex.post("/v1/jobs/report.make/batch", json={"payloads": [{"user": "eve"}, {"user": "ada"}]})
    one = await globex.post("/v1/jobs/report.make", json={"payload": {"user": "ada"}})

    assert problem(batch) == (409, "job_id_unusable")
    assert said(batch) == said(one)
    assert await app.get("report:eve") is None


async def test_an_idempotency_key_does_not_come_to_stand_for_anothers_job(app: Taurine, with_key: WithKey) -> None:
    """It would tell by and by that the job has ended and is no longer kept.

    The client may use it for another id at once.
    """
    await app.enqueue("thing.keep", 1, job_id="x", tenant="acme")
    globex = await with_key("enqueue", tenant="globex")
    globex.headers["Idempotency-Key"] = "evt-1"

    refused = await globex.enqueue(job_id="x")
    other = await globex.enqueue(job_id="own")

    assert (problem(refused), other.status_code) == ((409, "job_id_unusable"), 202)
    assert (await globex.enqueue(job_id="own")).json()["duplicate"]


# Filters ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/jobs?type=", "/v1/jobs?queue=", "/v1/counts?queue="])
async def test_a_filter_tells_nothing_of_what_others_have(app: Taurine, with_key: WithKey, path: str) -> None:
    """A37: of a type or queue that is no longer declared there may be records of other tenants, or none at all."""
    globex, acme = await with_key("read", tenant="globex"), await with_key("read", tenant="acme")
    before = await globex.get(f"{path}retired")
    await put_in(app, "theirs", tenant="acme", type="retired", queue="retired")

    assert (await globex.get(f"{path}retired")).json() == before.json()
    assert (await acme.get(f"{path}retired")).status_code == 200


# Why, and where -----------------------------------------------------------------------------------------------------------------


async def test_why_tells_nothing_of_those_who_share_a_queue(app: Taurine, with_key: WithKey) -> None:
    """A37, SEED-234: the same words whether three others are before it or one, to a tenant and to a page with a public
    token.
    """
    payload = {"user": "a", "address": "a@b.example"}
    globex, server = await with_key("read", tenant="globex"), await with_key("read", "operate")
    token = (await server.post("/v1/tokens", json={"job_id": "mine"})).json()["token"]
    page = {"Authorization": f"Bearer {token}"}

    async def asked() -> list[Any]:
        answers = [await globex.get("/v1/jobs/mine/why"), await server.get("/v1/jobs/mine/why", headers=page)]
        return [answer.json()["reasons"] for answer in answers]

    await app.enqueue("invite.send", payload, job_id="first", tenant="acme", priority=1)
    await app.enqueue("invite.send", payload, job_id="mine", tenant="globex", priority=2)
    behind_one = await asked()
    for number in range(2):
        await app.enqueue("invite.send", payload, job_id=f"more-{number}", tenant="acme", priority=1)
    operators = (await server.get("/v1/jobs/mine/why")).json()["reasons"]

    assert behind_one == await asked()
    assert behind_one[0] == behind_one[1]
    assert [reason["details"] for reason in behind_one[0]] == [{}, {}]
    assert operators[1]["details"]["ahead"] == 3


async def test_a_tenant_is_not_told_which_hosts_work(app: Taurine, with_key: WithKey) -> None:
    payload = {"user": "a", "address": "a@b.example"}
    globex, server = await with_key("read", tenant="globex"), await with_key("read")
    await app.enqueue("invite.send", payload, job_id="mine", tenant="globex")
    async with app.worker(name="host-7"):
        await app.wait("mine", 10)

    for path in ("/v1/jobs/mine", "/v1/jobs/mine/attempts", "/v1/jobs/mine/why"):
        assert "host-7" not in (await globex.get(path)).text
    assert (await server.get("/v1/jobs/mine")).json()["worker"] == "host-7"
    assert (await server.get("/v1/jobs/mine/attempts")).json()["items"][0]["worker"] == "host-7"
