"""Queries and bodies: what may stand in them, and what is said of what may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from support.api import Client, problem
from taurine import Retry, Taurine
from taurine.http.access.access import Access
from taurine.http.access.caller import Caller


async def test_a_public_token_may_stand_in_each_query_of_its_job(client: Client) -> None:
    """TRG-62: a browser can send no header of ours with everything."""
    await client.enqueue(job_id="a", tags=["t"])
    token = (await client.post("/v1/tokens", json={"job_id": "a"})).json()["token"]
    for part in ("", "/attempts", "/logs", "/audit", "/why"):
        answer = await client.get(f"/v1/jobs/a{part}", params={"access_token": token})
        assert answer.status_code == 200, answer.text
    token = (await client.post("/v1/tokens", json={"tag": "t"})).json()["token"]
    answer = await client.get("/v1/jobs", params={"access_token": token, "tag": "t", "limit": 1})
    assert [item["id"] for item in answer.json()["items"]] == ["a"]


async def test_tracebacks_are_for_those_who_see_all(app: Taurine, client_of: Callable[..., Client]) -> None:
    """A53: they show the program and its paths."""

    async def login(connection: object) -> Caller:
        tenant = "acme" if "x-tenant" in connection.headers else None  # pyright: ignore[reportAttributeAccessIssue] - a request
        return Caller(name="ann", scopes=frozenset({"read", "operate"}), tenant=tenant)

    client = client_of(app, access=Access(host_login=login))
    nobody = {"user": "nobody", "address": "n@example.com"}
    handle = await app.enqueue("invite.send", nobody, job_id="a", tenant="acme", retry=Retry.NONE)
    async with app.worker():
        await app.wait(handle.id, 30)
    paths = ("/v1/jobs/a", "/v1/jobs/a/attempts", "/v1/dead-letters", "/v1/dead-letters/a", "/v1/jobs")
    for path in paths:
        whole = await client.get(path)
        shown = await client.get(path, headers={"x-tenant": "acme"})
        assert "api.py" in whole.text, path
        assert "no such user" in shown.text, path
        assert "api.py" not in shown.text, path
        assert "traceback" not in shown.text, path


@pytest.mark.parametrize(("path", "wrong"), [("cancel", {"reason": "a"}), ("reschedule", {"delay": 1})])
async def test_a_body_that_does_not_say_that_it_is_json(client: Client, path: str, wrong: dict[str, object]) -> None:
    """A31: as on the route that accepts jobs."""
    await client.enqueue(job_id="a")
    answer = await client.post(f"/v1/jobs/a/{path}", content=str(wrong), headers={"content-type": "text/plain"})
    assert problem(answer) == (415, "unsupported_media_type")
    assert "Content-Type: application/json" in answer.json()["detail"]


async def test_a_body_of_very_many_members_is_refused_as_a_whole(client: Client) -> None:
    """A03: each would be an error to make."""
    many = {f"m{number}": 0 for number in range(50_000)}
    async with asyncio.timeout(30):
        for path in ("/v1/tokens", "/v1/jobs/invite.send", "/v1/lookup"):
            answer = await client.post(path, json=many)
            assert problem(answer) == (400, "malformed_body"), answer.text[:200]
            assert len(answer.text) < 1000
        scopes = await client.post("/v1/tokens", json={"scopes": [1] * 100_000})
        assert problem(scopes) == (400, "invalid_request")
        assert len(scopes.text) < 2000
        long = await client.post("/v1/jobs/invite.send", json={"payload": {}, "x" * 100_000: 1})
        assert len(long.text) < 1000
