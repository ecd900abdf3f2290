"""The host application's own login: a hook from a request to a caller (SEED-234)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.requests import HTTPConnection

from support.api import Client, problem
from taurine.app import Taurine
from taurine.http.access.access import Access
from taurine.http.access.caller import Caller


@pytest.fixture
def client(app: Taurine, client_of: Callable[..., Client]) -> Client:
    async def of_the_shop(connection: HTTPConnection) -> Caller | None:
        user = connection.headers.get("x-shop-user")
        return None if user is None else Caller(name=user, scopes=frozenset({"read", "enqueue"}), tenant=f"{user}-org")

    return client_of(app, access=Access(host_login=of_the_shop))


async def test_who_the_host_knows_is_the_caller_in_its_own_tenant(app: Taurine, client: Client) -> None:
    """SEED-234, SEED-275: another tenant's job is none."""
    ada, eve = {"x-shop-user": "ada"}, {"x-shop-user": "eve"}
    accepted = await client.post("/v1/jobs/thing.keep", json={"payload": 1}, headers=ada)
    assert accepted.status_code == 202
    at = accepted.json()["links"]["self"]
    record = (await client.get(at, headers=ada)).json()
    assert (record["created_by"], record["tenant"]) == ("ada", "ada-org")
    assert problem(await client.get(at, headers=eve)) == (404, "job_not_found")
    assert problem(await client.get(at)) == (401, "unauthenticated")
    assert problem(await client.post("/v1/tokens", json={"job_id": "a"}, headers=ada)) == (403, "forbidden")


async def test_a_key_goes_before_it(app: Taurine, client: Client) -> None:
    made = await app.api_keys.create("machine", scopes=["read"])
    who = await client.get("/v1/session", headers={"x-shop-user": "ada", "Authorization": f"Bearer {made.text}"})
    assert who.json()["name"] == "machine"
