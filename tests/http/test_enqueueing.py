"""`POST /v1/jobs/{type}`: SEED-001, SEED-018, SEED-111, SEED-112, SEED-169 to 171; A09 to A13, A20."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.api import Client, problem
from taurine.app import Taurine
from taurine.errors import NotAuthorized
from taurine.jobs.enqueue.access import AccessRequest


async def test_a_job_is_accepted_with_202_its_id_its_status_and_where_it_is_found(client: Client) -> None:
    """SEED-018, SEED-111, SEED-112."""
    answer = await client.enqueue(job_id="invite:ada")

    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/jobs/invite%3Aada"
    body = answer.json()
    assert (body["id"], body["status"], body["phase"], body["duplicate"]) == ("invite:ada", "queued", "queued", False)
    assert body["links"]["self"] == answer.headers["location"]
    found = (await client.get(body["links"]["self"])).json()
    assert (found["id"], found["payload"]["user"]) == ("invite:ada", "ada")


async def test_who_asked_and_from_where_is_in_the_record(client: Client) -> None:
    """SEED-171."""
    accepted = (await client.enqueue(tags=["spring"], metadata={"ticket": 7})).json()
    found = (await client.get(accepted["links"]["self"])).json()

    assert (found["created_by"], found["source"]) == ("local", "POST /v1/jobs")
    assert found["created_at"] == accepted["created_at"]
    assert (found["tags"], found["metadata"]) == (["spring"], {"ticket": 7})


async def test_a_repeated_key_gives_the_same_job_and_another_request_under_it_is_refused(client: Client) -> None:
    """A20."""
    path, body = "/v1/jobs/invite.send", {"payload": {"user": "ada", "address": "ada@example.com"}}
    key = {"Idempotency-Key": "k-1"}
    first = await client.post(path, json=body, headers=key)
    again = await client.post(path, json=body, headers=key)
    other = await client.post(path, json={"payload": {**body["payload"], "user": "eve"}}, headers=key)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == {**first.json(), "duplicate": True}
    assert again.headers["location"] == first.headers["location"]
    assert problem(other) == (409, "idempotency_conflict")
    assert len((await client.get("/v1/jobs")).json()["items"]) == 1


async def test_an_id_that_is_taken_may_be_an_error(client: Client) -> None:
    await client.enqueue(job_id="a")

    assert (await client.enqueue(job_id="a")).json()["duplicate"]
    assert problem(await client.enqueue(job_id="a", on_duplicate="error")) == (409, "duplicate_job")


async def test_a_start_may_be_asked_for(client: Client) -> None:
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    delayed = (await client.enqueue(delay=3600)).json()
    at = (await client.enqueue(run_at=in_an_hour.isoformat())).json()

    for accepted in (delayed, at):
        found = (await client.get(accepted["links"]["self"])).json()
        assert abs(datetime.fromisoformat(found["scheduled_for"]) - in_an_hour) < timedelta(seconds=60)


async def test_many_are_accepted_in_their_order_or_none(client: Client) -> None:
    payloads = [{"user": f"u{number}", "address": "a@example.com"} for number in range(5)]
    answer = await client.post("/v1/jobs/invite.send/batch", json={"payloads": payloads, "tags": ["spring"]})
    refused = await client.post("/v1/jobs/invite.send/batch", json={"payloads": [*payloads, {"user": "x"}]})

    assert answer.status_code == 202
    ids = [item["id"] for item in answer.json()["items"]]
    looked_up = (await client.post("/v1/lookup", json={"ids": ids})).json()["items"]
    assert [item["payload"]["user"] for item in looked_up] == [f"u{number}" for number in range(5)]
    assert problem(refused) == (422, "payload_invalid")
    assert len((await client.get("/v1/jobs")).json()["items"]) == 5
    assert [one["pointer"] for one in refused.json()["errors"]] == [f"/payloads/{len(payloads)}/address"]
    assert f"payloads[{len(payloads)}]: invite.send" in refused.json()["detail"]


async def test_a_small_batch_does_not_write_its_metadata_a_thousand_times(app: Taurine, client: Client) -> None:
    """A01: a body below the limit, and records above it."""
    body = {"payloads": [0] * 1000, "metadata": {"a": "x" * 64_000}}
    answer = await client.post("/v1/jobs/thing.keep/batch", json=body)

    assert problem(answer) == (413, "payload_too_large")
    assert "for each of 1,000 jobs" in answer.json()["detail"]
    assert [record async for record in app.list()] == []


@pytest.mark.parametrize("payloads", [[], [{}] * 1001, {}, None, "ab"], ids=lambda value: str(value)[:12])
async def test_a_batch_has_from_1_to_1000_payloads(client: Client, payloads: Any) -> None:
    answer = await client.post("/v1/jobs/thing.keep/batch", json={"payloads": payloads})
    assert problem(answer) == (400, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "/payloads"


async def test_a_payload_that_does_not_fit_is_told_by_pointers_without_its_values(client: Client) -> None:
    """SEED-170: the same check as in the library."""
    answer = await client.enqueue(payload={"user": 7, "address": "x7"})

    assert problem(answer) == (422, "payload_invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/payload/user", "/payload/address"]
    assert "x7" not in answer.text


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "..%2F..%2Fetc%2Fpasswd", "invite.sen", "__import__", "taurine.app", "%2e%2e"],
)
async def test_a_type_is_looked_up_and_never_imported(client: Client, name: str) -> None:
    """A09."""
    assert problem(await client.post(f"/v1/jobs/{name}", json={"payload": {}})) in {
        (404, "unknown_job_type"),
        (404, "not_found"),
        (405, "method_not_allowed"),
    }


async def test_a_misspelt_type_is_told_the_near_miss(client: Client) -> None:
    answer = await client.enqueue("invite.sen")
    assert "did you mean 'invite.send'?" in answer.json()["detail"]


@pytest.mark.parametrize("job_id", ["a\nb", "a\x00b", "", "x" * 10_240, "wait", "repeat:x:1", 7, ["a"], {}, True])
async def test_an_id_that_no_job_can_have_is_refused(client: Client, job_id: Any) -> None:
    """A10."""
    status, _ = problem(await client.enqueue(job_id=job_id))
    assert status == 400


@pytest.mark.parametrize("job_id", ["a:b", "a b", "42", "0:7", "a/b/../c", "100%", "?x#y", "é:ü", "{a}", "%2F", "a+b"])
async def test_an_id_of_any_printable_characters_is_found_under_its_link(client: Client, job_id: str) -> None:
    """A10."""
    accepted = (await client.enqueue(job_id=job_id)).json()
    found = await client.get(accepted["links"]["self"])
    assert (found.status_code, found.json()["id"]) == (200, job_id)
    assert (await client.get(found.json()["links"]["audit"])).status_code == 200


@pytest.mark.parametrize(
    "option",
    [
        *({"priority": value} for value in (-1, 1.5, 1e308, "1", True, 2_097_152, 10**400, [])),
        *({"delay": value} for value in (-1, "1", True, 1e308, 10**400, {}, 1e12)),
        *({"expires_in": value} for value in (0, -1, "1", True, 1e300)),
        *({"run_at": value} for value in ("tomorrow", "2030-01-01T00:00:00", 7, "9999-12-31T23:59:59Z", "", [])),
        *({"tags": value} for value in ("a", [7], [""], ["x" * 256], ["a"] * 101, {}, ["a\nb"])),
        *({"metadata": value} for value in ("a", [], 7)),
        *({"tenant": value} for value in (7, "", "a\nb", [])),
        *({"on_duplicate": value} for value in ("x", 7, [], {})),
        {"delay": 1, "run_at": "2030-01-01T00:00:00Z"},
        {"attempts": 10**9},
        {"prioritty": 1},
    ],
    ids=lambda option: str(option)[:40],
)
async def test_an_option_out_of_its_range_is_refused_with_the_range(client: Client, option: dict[str, Any]) -> None:
    """A12, A13."""
    answer = await client.enqueue(**option)
    status, _ = problem(answer)
    assert status == 400, answer.text
    assert (await client.get("/v1/jobs")).json()["items"] == []


async def test_an_unknown_member_is_told_the_near_miss(client: Client) -> None:
    answer = await client.enqueue(prioritty=1)
    assert "did you mean 'priority'?" in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == "/prioritty"


async def test_a_payload_that_is_the_body_itself_is_told_what_to_send(client: Client) -> None:
    answer = await client.post("/v1/jobs/invite.send", json={"user": "ada", "address": "ada@example.com"})
    assert problem(answer) == (400, "invalid_request")
    assert "expected the member 'payload'" in answer.json()["detail"]


async def test_the_hook_is_asked_before_anything_is_looked_at(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    """SEED-001: authorise, then validate, then record, then queue; who may not leaves nothing behind, whatever the
    payload.
    """
    asked: list[AccessRequest] = []

    def refuse(request: AccessRequest) -> bool:
        asked.append(request)
        raise NotAuthorized("not you")

    app = app_factory(authorize=refuse)
    app.declare("thing.keep", dict[str, int])
    client = client_of(app)
    answer = await client.enqueue("thing.keep", {"wrong": "x"})

    assert problem(answer) == (403, "not_authorized")
    assert [(request.action, request.user) for request in asked] == [("enqueue", "local")]
    assert (await client.get("/v1/jobs")).json()["items"] == []
