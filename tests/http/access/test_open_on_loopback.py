"""Without any credential configured the API answers this machine alone, and in development alone; `serve` refuses to
listen elsewhere (A23, A55).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.api import Client, declare_invites, problem
from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.http.access.access import Access
from taurine.http.access.caller import Caller
from taurine.http.access.refuse_open import refuse_open
from taurine.testing import TestClock


async def test_who_calls_from_this_machine_may_do_everything_until_there_is_a_credential(
    app: Taurine, client_of: Callable[..., Client]
) -> None:
    client = client_of(app)
    assert (await client.enqueue()).status_code == 202
    await app.api_keys.create("first", scopes=["read"])
    assert problem(await client.get("/v1/jobs")) == (401, "unauthenticated")


async def test_an_admin_is_a_credential_too(app: Taurine, client_of: Callable[..., Client]) -> None:
    client = client_of(app)
    assert (await client.get("/v1/jobs")).status_code == 200
    await app.admins.add("ada", "a password of twelve")
    assert problem(await client.get("/v1/jobs")) == (401, "unauthenticated")


async def test_who_calls_from_elsewhere_may_not(app: Taurine, client_of: Callable[..., Client]) -> None:
    """A55: also when the Host header says localhost."""
    api = client_of(app)._transport.app  # pyright: ignore[reportAttributeAccessIssue]
    for address in ("192.168.1.7", "10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "testclient"):
        async with Client(api, address=address) as client:
            assert problem(await client.get("/v1/jobs")) == (401, "unauthenticated"), address


async def test_a_proxy_on_this_machine_is_not_who_calls(app: Taurine, client_of: Callable[..., Client]) -> None:
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        answer = await client_of(app).get("/v1/jobs", headers={header: "203.0.113.9"})
        assert problem(answer) == (401, "unauthenticated"), header


async def test_a_name_that_was_made_to_point_here_is_not_this_machines(
    app: Taurine, client_of: Callable[..., Client]
) -> None:
    """A33: also where every Host is let through."""
    client = client_of(app, access=Access(hosts=["*"]))
    assert (await client.get("/v1/jobs")).status_code == 200
    assert problem(await client.get("/v1/jobs", headers={"Host": "evil.example"})) == (401, "unauthenticated")


async def test_in_production_nobody_may_without_a_credential(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    app = app_factory(env="production")
    declare_invites(app)
    assert problem(await client_of(app).get("/v1/jobs")) == (401, "unauthenticated")


async def test_listening_beyond_loopback_needs_credentials(app: Taurine) -> None:
    """A23."""
    hosts = ("0.0.0.0", "::", "", "192.168.1.7", "jobs.example.com", "127.0.0.1.example.com")
    gate = Access().gate(app)
    for host in hosts:
        with pytest.raises(InvalidOption, match="taurine keys create"):
            await refuse_open(host, gate)
        await refuse_open(host, gate, anyway=True)
    await app.api_keys.create("first", scopes=["read"])
    for host in hosts:
        await refuse_open(host, gate)


async def test_listening_on_loopback_needs_none(app: Taurine) -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"):
        await refuse_open(host, Access().gate(app))


async def test_the_hosts_own_login_is_a_credential(app: Taurine, clock: TestClock) -> None:
    async def nobody(_: object) -> Caller | None:
        return None

    await refuse_open("0.0.0.0", Access(host_login=nobody).gate(app))
