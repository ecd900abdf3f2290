"""`/v1/bulk` and `/v1/dead-letters`: many at once, by a durable job, and one by one.

TRG-70, ING-86; A31, A32, A36, A37, A39.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.api import Client, problem
from support.callers import as_caller, of_whoever_says
from support.eventually import eventually
from taurine.app import Taurine
from taurine.http import Access
from taurine.http.access.caller import Scope
from taurine.retry import Retry


@pytest.fixture
def anybody(app: Taurine, client_of: Callable[..., Client]) -> Client:
    """Calls as whoever `as_caller` says."""
    return client_of(app, access=Access(host_login=of_whoever_says))


async def fail(app: Taurine, number: int, **options: Any) -> None:
    """So many invitations that fail for good."""
    for each in range(number):
        payload = {"user": "nobody", "address": f"{each}@example.com"}
        await app.enqueue("invite.send", payload, retry=Retry.NONE, **options)
    before = sum((await app.dead_letters.depth()).values())
    async with app.worker(queues=["mail"]):
        await eventually(lambda: has_failed(app, before + number), 20, "not all have failed")


async def has_failed(app: Taurine, number: int) -> bool:
    return sum((await app.dead_letters.depth()).values()) == number


async def is_over(client: Client, path: str, **headers: Any) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        found = (await client.get(path, **headers)).json()
        return found if found["finished_at"] else None

    over = await eventually(ended, 20, "the operation has not ended")
    assert over is not None
    return over


_CHANGES = ("redrive", "discard")
_TOO_FEW: tuple[tuple[Scope, ...], ...] = ((), ("read",), ("enqueue",))


_WRONG: list[dict[str, Any]] = [
    {"action": "drop", "ids": ["a"]},
    {"action": "cancel"},
    {"action": "cancel", "ids": []},
    {"action": "cancel", "ids": ["a"] * 1001},
    {"action": "cancel", "ids": ["a"], "where": {}, "expected": 1},
    {"action": "cancel", "ids": ["a"], "limit": 0},
    {"action": "cancel", "ids": ["a"], "limit": 1e308},
    {"action": "cancel", "ids": ["a"], "limit": True},
    {"action": "cancel", "ids": ["a"], "limit": "1"},
    {"action": "cancel", "ids": ["a"], "rate": -1},
    {"action": "cancel", "ids": ["a"], "rate": "fast"},
    {"action": "cancel", "ids": ["a"], "sudo": True},
    {"action": "cancel", "where": {"colour": "red"}, "expected": 1},
    {"action": "cancel", "where": {"status": "completed"}, "expected": 1},
    {"action": "redrive", "where": {"tag": "a"}, "expected": 1},
    {"action": "cancel", "where": {}, "expected": -1},
    {"action": "cancel", "where": {}, "expected": 1, "at": "2100-01-01T00:00:00Z"},
    {"action": "cancel", "where": {}, "expected": 1, "at": "2020-01-01"},
]


# Many -----------------------------------------------------------------------------------------------------------------------------


async def test_counted_confirmed_and_carried_out(app: Taurine, client: Client) -> None:
    """TRG-70, A39: the number that was shown is confirmed; progress, result and audit are there to be looked at."""
    await fail(app, 3)
    seen = (await client.get("/v1/bulk/count", params={"action": "redrive", "type": "invite.send"})).json()

    order = {"action": "redrive", "where": {"type": "invite.send"}, "expected": seen["number"], "at": seen["at"]}
    started = await client.post("/v1/bulk", json=order)
    async with app.operations_worker():
        over = await is_over(client, started.headers["location"])
    actions = (await client.get("/v1/audit", params={"action": "bulk_redrive"})).json()["items"]
    listed = (await client.get("/v1/bulk")).json()["items"]

    assert (seen["number"], seen["exact"]) == (3, True)
    assert started.status_code == 202
    assert (started.json()["status"], started.json()["number"], started.json()["done"]) == ("queued", 3, 0)
    assert (over["status"], over["done"], over["progress"]["percentage"]) == ("completed", 3, 100)
    assert over["where"] == {"type": "invite.send"}
    assert [(one["actor"], one["job_id"], one["detail"]["number"]) for one in actions] == [("local", over["id"], 3)]
    assert [one["id"] for one in listed] == [over["id"]]
    assert (await client.get("/v1/dead-letters")).json()["items"] == []


async def test_a_filter_is_shown_without_its_secrets(app: Taurine, client: Client) -> None:
    """A42: somebody may look for the jobs of a tag that is an address."""
    await app.declare("thing.count", int).enqueue(1, tags=["joe@mail.example"], job_id="a")
    order = {"action": "cancel", "where": {"tag": "joe@mail.example"}, "expected": 1}
    started = await client.post("/v1/bulk", json=order)

    assert started.json()["number"] == 1
    texts = [started.text] + [(await client.get(path)).text for path in ("/v1/bulk", "/v1/audit", "/v1/jobs/a")]
    assert ["joe" in text for text in texts] == [False] * 4
    assert started.json()["where"] == {"tag": "[redacted]"}


async def test_more_than_was_seen_is_refused(app: Taurine, client: Client) -> None:
    """A39: 409, and nothing is done; a filter without the number that was seen is 400."""
    for number in range(2):
        await client.enqueue(job_id=f"{number}")

    grown = await client.post("/v1/bulk", json={"action": "cancel", "where": {}, "expected": 1})
    unseen = await client.post("/v1/bulk", json={"action": "cancel", "where": {}})

    assert problem(grown) == (409, "more_than_expected")
    assert "2 are like that by now, and 1 were expected" in grown.json()["detail"]
    assert problem(unseen) == (400, "invalid_request")
    assert [one["pointer"] for one in unseen.json()["errors"]] == ["/expected"]
    assert (await client.get("/v1/bulk")).json()["items"] == []


async def test_stopped_in_the_middle(app: Taurine, client: Client) -> None:
    """TRG-70: what was done is counted, the rest is as it was."""
    await app.enqueue_many("thing.keep", [*range(40)])
    order = {"action": "cancel", "where": {"type": "thing.keep"}, "expected": 40, "rate": 10}
    path = (await client.post("/v1/bulk", json=order)).headers["location"]

    async def has_begun() -> bool:
        return (await client.get(path)).json()["done"] >= 10

    async with app.operations_worker():
        await eventually(has_begun, 20, "it has not begun")
        told = await client.post(f"{path}/cancel")
        over = await is_over(client, path)
    counts = await app.counts(queue="things")

    assert told.status_code == 200
    assert over["status"] == "cancelled"
    assert 10 <= over["done"] < 40
    assert counts["cancelled"].number == over["done"]
    assert problem(await client.post(f"{path}/cancel")) == (409, "transition_refused")


async def test_what_cannot_be_asked(client: Client) -> None:
    """A12, A31, A32."""
    for order in _WRONG:
        answer = await client.post("/v1/bulk", json=order)
        assert problem(answer) in ((400, "invalid_request"), (400, "invalid_option")), order
    assert (await client.get("/v1/bulk")).json()["items"] == []


async def test_a_tenant_reaches_its_own(app: Taurine, anybody: Client) -> None:
    """A37: counts, filters, ids and operations of one tenant are nothing to another."""
    for tenant in ("acme", "globex"):
        await app.enqueue("invite.send", {"user": "eve", "address": "eve@example.com"}, tenant=tenant, job_id=tenant)
    acme = as_caller("read", "operate", tenant="acme")

    seen = await anybody.get("/v1/bulk/count", params={"action": "cancel"}, headers=acme)
    foreign = await anybody.get("/v1/bulk/count", params={"action": "cancel", "tenant": "globex"}, headers=acme)
    started = await anybody.post("/v1/bulk", json={"action": "cancel", "ids": ["acme", "globex"]}, headers=acme)
    path = started.headers["location"]
    async with app.operations_worker():
        over = await is_over(anybody, path, headers=acme)
    globex = as_caller("read", "operate", tenant="globex")
    statuses = [record.status for job_id in ("acme", "globex") if (record := await app.get(job_id)) is not None]

    assert seen.json()["number"] == 1
    assert problem(foreign) == (404, "tenant_not_found")
    assert (over["done"], over["skipped"]) == (1, 1)
    assert statuses == ["cancelled", "queued"]
    assert problem(await anybody.get(path, headers=globex)) == (404, "bulk_not_found")
    assert problem(await anybody.post(f"{path}/cancel", headers=globex)) == (404, "bulk_not_found")
    assert (await anybody.get("/v1/bulk", headers=globex)).json()["items"] == []


# Dead letters, one by one ----------------------------------------------------------------------------------------------------------


async def test_examined_edited_and_run_again(app: Taurine, client: Client) -> None:
    """What failed is looked at, and runs again with what it should have had; a second time is refused."""
    await fail(app, 1)
    (entry,) = (await client.get("/v1/dead-letters")).json()["items"]
    found = (await client.get(entry["links"]["self"])).json()

    wrong = await client.post(entry["links"]["redrive"], json={"payload": {"user": "ada"}})
    again = await client.post(
        entry["links"]["redrive"], json={"payload": {"user": "ada", "address": "ada@example.com"}}
    )
    twice = await client.post(entry["links"]["redrive"])
    resolved = (await client.get("/v1/dead-letters", params={"status": "redriven"})).json()["items"]

    assert (entry["reason"], entry["error"]["type"], entry["status"]) == ("exhausted", "LookupError", "open")
    assert len(found["attempts"]) == 1
    assert problem(wrong) == (422, "payload_invalid")
    assert again.status_code == 202
    assert (again.json()["status"], again.json()["generation"]) == ("queued", 1)
    assert again.headers["location"] == entry["links"]["job"]
    assert problem(twice) == (409, "transition_refused")
    assert [(one["id"], one["resolved_by"]) for one in resolved] == [(entry["id"], "local")]


async def test_put_aside(app: Taurine, client: Client) -> None:
    await fail(app, 1)
    (entry,) = (await client.get("/v1/dead-letters", params={"queue": "mail"})).json()["items"]
    depth = (await client.get("/v1/dead-letters/depth")).json()

    discarded = await client.post(entry["links"]["discard"])

    assert depth == {"queues": {"mail": 1}, "total": 1}
    assert (discarded.status_code, discarded.json()["status"]) == (200, "discarded")
    assert (await client.get("/v1/dead-letters/depth")).json() == {"queues": {}, "total": 0}
    assert problem(await client.post("/v1/dead-letters/none/discard")) == (404, "dead_letter_not_found")


async def test_another_tenant_s_dead_letter_is_none(app: Taurine, anybody: Client) -> None:
    """A37."""
    await fail(app, 1, tenant="acme")
    acme, globex = (as_caller("read", "operate", tenant=tenant) for tenant in ("acme", "globex"))
    (entry,) = (await anybody.get("/v1/dead-letters", headers=acme)).json()["items"]

    assert (await anybody.get("/v1/dead-letters", headers=globex)).json()["items"] == []
    assert problem(await anybody.get(entry["links"]["self"], headers=globex)) == (404, "dead_letter_not_found")
    for word in ("redrive", "discard"):
        answer = await anybody.post(entry["links"][word], headers=globex)
        assert problem(answer) == (404, "dead_letter_not_found")
    assert problem(await anybody.get("/v1/dead-letters/depth", headers=acme)) == (403, "forbidden")


@pytest.mark.parametrize("path", ["/v1/dead-letters", "/v1/bulk", "/v1/audit"])
async def test_parameters_are_typed_and_in_their_range(client: Client, path: str) -> None:
    """A31, A32: 400, whatever they are."""
    for query in ("limit=0", "limit=501", "limit=1e9", "page=-1", "status=lost", "cursor=x", "days=999999999"):
        answer = await client.get(f"{path}?{query}")
        assert problem(answer) in ((400, "invalid_request"), (400, "invalid_option")), query


async def test_who_may_change(anybody: Client) -> None:
    """A36: the server refuses, whatever its pages show."""
    writes = ("", "/none/cancel")
    for path in [f"/v1/bulk{word}" for word in writes] + [f"/v1/dead-letters/none/{word}" for word in _CHANGES]:
        body = {"action": "cancel", "ids": ["a"]} if path == "/v1/bulk" else None
        for scopes in _TOO_FEW:
            assert problem(await anybody.post(path, json=body, headers=as_caller(*scopes))) == (403, "forbidden"), path
        if body is None:
            assert (await anybody.post(path, headers=as_caller("operate"))).status_code == 404, path
    assert (await anybody.get("/v1/bulk", headers=as_caller("read"))).json()["items"] == []
