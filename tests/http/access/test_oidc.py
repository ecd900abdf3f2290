"""Logging in by an issuer of OpenID Connect: the code flow with state, nonce and PKCE; who may is decided by the exact
domain, or by a hook (A26).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.api import Answer, Client, problem
from support.issuer import CLIENT, Issuer, issuer, shared_secret
from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.http.access.access import Access
from taurine.http.access.caller import Caller
from taurine.http.access.oidc import OpenIdConnect
from taurine.testing import TestClock


@pytest.fixture
async def site(clock: TestClock) -> AsyncIterator[Issuer]:
    async with issuer(clock.now) as made:
        yield made


def access_by(site: Issuer, **options: Any) -> Access:
    who: Any = {} if "who" in options else {"domains": {"example.com": "operator"}}
    return Access(oidc=OpenIdConnect(issuer=site.url, client_id=CLIENT[0], client_secret=CLIENT[1], **who, **options))


@pytest.fixture
def client(app: Taurine, site: Issuer, client_of: Callable[..., Client]) -> Client:
    return client_of(app, access=access_by(site))


async def log_in(client: Client, site: Issuer, after: str = "/admin", **answer: str) -> Answer:
    begun = await client.get("/v1/login/oidc", params={"after": after})
    assert begun.status_code == 303, begun.text
    return await client.get(site.log_in(begun.headers["location"], **answer))


async def test_a_login_ends_with_a_session(client: Client, site: Issuer) -> None:
    assert problem(await client.get("/v1/session")) == (401, "unauthenticated")
    back = await log_in(client, site)
    assert (back.status_code, back.headers["location"]) == (303, "/admin")
    who = (await client.get("/v1/session")).json()
    assert (who["name"], who["scopes"]) == ("ada@example.com", ["enqueue", "operate", "read"])
    assert "taurine_login" not in client.cookies
    assert (await client.delete("/v1/session")).status_code == 204
    assert problem(await client.get("/v1/session")) == (401, "unauthenticated")


async def test_the_domain_must_be_exactly_the_one(client: Client, site: Issuer) -> None:
    """A26."""
    for address in (
        *("a@example.com.evil.org", "a@evil.org", "a@xexample.com", "a@sub.example.com", "a@example.com@evil.org"),
        *("example.com", "@example.com", "a@example.com ", "a@example.com.", "a@example.com\n", "", None),
        ["a@example.com"],
    ):
        site.person["email"] = address
        assert problem(await log_in(client, site)) == (403, "forbidden"), address
        assert problem(await client.get("/v1/session")) == (401, "unauthenticated"), address


async def test_an_address_that_nobody_has_confirmed_is_none(client: Client, site: Issuer) -> None:
    """A26: anybody can write down an address of somebody else's."""
    for verified in (False, None, "true", 1):
        site.person["email_verified"] = verified
        assert problem(await log_in(client, site)) == (403, "forbidden"), verified


FORGED: dict[str, Callable[[Issuer], object]] = {
    "another issuer's": lambda site: setattr(site, "change", lambda claims: claims.update(iss="https://evil.example")),
    "for another client": lambda site: setattr(site, "change", lambda claims: claims.update(aud="another")),
    "for several, of which another is meant": lambda site: setattr(
        site, "change", lambda claims: claims.update(aud=[CLIENT[0], "x"], azp="x")
    ),
    "of another login": lambda site: setattr(site, "change", lambda claims: claims.update(nonce="another")),
    "without a nonce": lambda site: setattr(site, "change", lambda claims: claims.pop("nonce")),
    "expired": lambda site: setattr(site, "change", lambda claims: claims.update(exp=claims["iat"] - 61)),
    "without an end": lambda site: setattr(site, "change", lambda claims: claims.pop("exp")),
    "without a subject": lambda site: setattr(site, "change", lambda claims: claims.pop("sub")),
    "signed by nobody known": lambda site: setattr(site, "signs", type(site.key).generate_key("P-256")),
    "signed with what is no key of its own": lambda site: (
        setattr(site, "signs", shared_secret()),
        site.header.update(alg="HS256"),
    ),
}


async def test_an_identity_token_that_does_not_hold_is_refused(client: Client, site: Issuer) -> None:
    for case, forge in FORGED.items():
        site.be_honest()
        forge(site)
        assert problem(await log_in(client, site)) == (401, "unauthenticated"), case
    site.be_honest()
    assert (await log_in(client, site)).status_code == 303


async def test_a_login_that_this_browser_has_not_begun_is_refused(
    app: Taurine, client: Client, site: Issuer, clock: TestClock
) -> None:
    """A27: an attacker's own code, planted in somebody else's browser."""
    begun = await client.get("/v1/login/oidc")
    back = site.log_in(begun.headers["location"])
    kept = dict(client.cookies)
    client.cookies.clear()
    assert problem(await client.get(back)) == (401, "unauthenticated")
    client.cookies.update(kept)
    assert problem(await client.get(back.replace("state=", "state=x"))) == (401, "unauthenticated")
    assert problem(await client.get(back + "&iss=https%3A%2F%2Fevil.example")) == (401, "unauthenticated")
    assert problem(await client.get(back.replace("code=", "code=x"))) == (401, "unauthenticated")
    assert problem(await client.get(back.replace("code=", "error="))) == (401, "unauthenticated")
    clock.advance(600.0)
    assert problem(await client.get(back)) == (401, "unauthenticated")


async def test_a_login_sends_nobody_elsewhere(client: Client, site: Issuer) -> None:
    for after in ("https://evil.example", "//evil.example", "/\\evil.example", "evil", "/a\\b", ""):
        assert (await log_in(client, site, after)).headers["location"] == "/", after


async def test_an_issuer_that_changes_its_key_is_asked_again(client: Client, site: Issuer) -> None:
    assert (await log_in(client, site)).status_code == 303
    asked = len(site.asked)
    assert (await log_in(client, site)).status_code == 303
    assert len(site.asked) == asked  # what it says of itself is remembered
    site.new_key()
    assert (await log_in(client, site)).status_code == 303


async def test_an_issuer_that_is_down_or_another_is_503(client: Client, site: Issuer) -> None:
    site.metadata["issuer"] = "https://evil.example"
    assert problem(await client.get("/v1/login/oidc")) == (503, "issuer_unavailable")
    site.down = True
    assert problem(await client.get("/v1/login/oidc")) == (503, "issuer_unavailable")


async def test_a_hook_decides_who_may_and_whose_jobs_they_see(
    app: Taurine, site: Issuer, client_of: Callable[..., Client]
) -> None:
    async def who(claims: Mapping[str, Any]) -> Caller | None:
        if claims.get("org") is None:
            return None
        return Caller(name=claims["sub"], scopes=frozenset({"read"}), tenant=claims["org"])

    client = client_of(app, access=access_by(site, who=who))
    assert problem(await log_in(client, site)) == (403, "forbidden")
    site.person["org"] = "acme"
    assert (await log_in(client, site)).status_code == 303
    assert (await client.get("/v1/session")).json()["tenant"] == "acme"


async def test_over_https_the_way_back_is_https(app: Taurine, client: Client, site: Issuer) -> None:
    client.base_url = "https://localhost"
    back = await log_in(client, site)
    assert back.headers["set-cookie"].count("Secure") == 1
    assert urlsplit(str(back.url)).scheme == "https"
    assert (await client.get("/v1/session")).status_code == 200


@pytest.mark.parametrize(
    "options",
    [
        {"issuer": "http://login.example.com", "domains": {"example.com": "viewer"}},
        {"issuer": "https://login.example.com"},
        {"issuer": "https://login.example.com", "domains": {"example.com": "viewer"}, "who": lambda _: None},
        {"issuer": "https://login.example.com", "domains": {".*@example.com": "viewer"}},
        {"issuer": "https://login.example.com", "domains": {"example.com": "root"}},
        {"issuer": "https://login.example.com", "domains": {"example.com": "viewer"}, "scopes": ["email"]},
    ],
)
def test_options_that_would_let_in_too_many_are_refused(options: Any) -> None:
    """A26."""
    with pytest.raises(InvalidOption):
        OpenIdConnect(client_id="x", **options)


async def test_without_an_issuer_there_is_no_such_login(anybody: Client) -> None:
    assert problem(await anybody.get("/v1/login/oidc"))[0] == 404
