"""What a caller is shown of payloads and errors, and what logs and texts say of secrets (A22, A42, A56, SEED-255,
SEED-277).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest

from support.api import Client
from taurine.app import Taurine
from taurine.errors import Unauthenticated
from taurine.http.access.access import Access
from taurine.http.access.caller import Scope
from taurine.http.access.oidc import OpenIdConnect
from taurine.jobs.reporting.redaction import Redact
from taurine.settings import Settings

WithKey = Callable[..., Awaitable[Client]]


async def test_who_sees_what_is_secret_is_said_by_scope(with_key: WithKey) -> None:
    """A42, SEED-255: redacted for everybody by default; and for all but the scopes that the application names."""
    payload = {"user": "ada", "address": "ada@example.com"}
    cases: list[tuple[tuple[Scope, ...], set[str]]] = [
        ((), set()),
        (("admin",), {"admin"}),
        (("operate",), {"operate", "admin"}),
    ]
    for unredacted, sees in cases:
        access = Access(unredacted=unredacted) if unredacted else Access()
        admin = await with_key("admin", access=access)
        await admin.enqueue(job_id="a", payload=payload)
        for scopes in (("read",), ("read", "operate"), ("admin",)):
            shown = (await (await with_key(*scopes, access=access)).get("/v1/jobs/a")).text
            assert ("ada@example.com" in shown) == bool({*scopes} & sees), (unredacted, scopes)


async def test_logs_of_logins_name_no_address(app: Taurine, caplog: pytest.LogCaptureFixture) -> None:
    """SEED-277: who logs in with an e-mail address, or types the password into the field of the name."""
    with caplog.at_level(logging.DEBUG, "taurine"), pytest.raises(Unauthenticated):
        await app.admins.check("ada@example.com", "correct horse battery", address="203.0.113.9")
    assert "a login as" in caplog.text
    assert "ada@example.com" not in caplog.text
    assert "battery" not in caplog.text


def test_no_text_of_the_settings_shows_a_secret() -> None:
    """A56."""
    secret = "a secret of the tests, and of nobody else"
    oidc = OpenIdConnect(issuer="https://a.b", client_id="x", client_secret=secret, domains={"a.b": "viewer"})
    for shown in (Access(secret=secret, oidc=oidc), Access(secret=[secret]), oidc, Settings.read(secret=secret)):
        assert secret not in repr(shown)
        assert secret not in str(shown)


async def test_our_own_credentials_are_redacted_wherever_they_stand(app: Taurine) -> None:
    """A22: in an error that a handler raised, for example."""
    key = (await app.api_keys.create("a", scopes=["read"])).text
    tokens = Access().gate(app).tokens
    assert tokens is not None
    for credential in (key, tokens.issue(job_id="a")):
        assert Redact.DEFAULT.text(f"GET /v1/jobs?x={credential} failed") == "GET /v1/jobs?x=[redacted] failed"
