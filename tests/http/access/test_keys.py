"""API keys: who shows one may do what its scopes say, in its tenant; what is kept of it is a hash (SEED-019, SEED-070,
SEED-192, A22, A24).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from support.api import Client, problem
from taurine.app import Taurine
from taurine.errors import InvalidOption, NotAuthorized, Unauthenticated
from taurine.http.access.access import Access
from taurine.jobs.enqueue.access import AccessRequest
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.schema import api_key, audit
from taurine.testing import TestClock

WithKey = Callable[..., Awaitable[Client]]


async def test_anonymous_401_user_403_admin_200(anybody: Client, with_key: WithKey) -> None:
    """SEED-070, SEED-192: with and without a credential, with and without the scope."""
    assert problem(await anybody.get("/v1/keys")) == (401, "unauthenticated")
    reader, admin = await with_key("read", "enqueue", "operate"), await with_key("admin")
    assert problem(await reader.get("/v1/keys")) == (403, "forbidden")
    assert (await admin.get("/v1/keys")).status_code == 200


async def test_each_scope_stands_for_itself_and_admin_for_all(with_key: WithKey) -> None:
    """SEED-215."""
    for scope, reads, enqueues in (
        ("read", 200, 403),
        ("enqueue", 403, 202),
        ("operate", 403, 403),
        ("admin", 200, 202),
    ):
        client = await with_key(scope)
        assert (await client.get("/v1/jobs")).status_code == reads, scope
        assert (await client.enqueue(job_id=scope)).status_code == enqueues, scope


async def test_what_is_refused_says_how_to_call(anybody: Client) -> None:
    """A24."""
    answer = await anybody.get("/v1/jobs")
    assert answer.headers["www-authenticate"] == 'Bearer realm="taurine"'
    assert "`Authorization`, as `Bearer <key>`" in answer.json()["detail"]
    for wrong in (
        "taurine_0123456789abcdef_" + "0" * 64,
        "taurine_",
        "taurine_x_y",
        "nonsense",
        "",
        "taurine_public_x",
    ):
        answer = await anybody.get("/v1/jobs", headers={"Authorization": f"Bearer {wrong}"})
        assert problem(answer) == (401, "unauthenticated"), wrong
        assert "[redacted]" not in answer.json()["detail"], wrong
    assert problem(await anybody.get("/v1/jobs", headers={"Authorization": "Basic YTpi"})) == (401, "unauthenticated")


async def test_a_key_that_expired_or_was_revoked_is_refused_within_seconds(
    app: Taurine, client_of: Callable[..., Client], clock: TestClock
) -> None:
    client = client_of(app)
    lasting = await app.api_keys.create("lasting", scopes=["read"])
    short = await app.api_keys.create("short", scopes=["read"], expires_in=3)
    first, second = ({"Authorization": f"Bearer {made.text}"} for made in (lasting, short))
    assert (await client.get("/v1/jobs", headers=first)).status_code == 200
    assert (await client.get("/v1/jobs", headers=second)).status_code == 200

    await app.api_keys.revoke(lasting.key.id)
    clock.advance(3.0)
    assert (await client.get("/v1/jobs", headers=second)).status_code == 401  # remembered, and over all the same
    clock.advance(2.0)
    assert (await client.get("/v1/jobs", headers=first)).status_code == 401
    assert (await client.get("/v1/jobs", headers=first)).status_code == 401


async def test_a_key_that_was_just_seen_costs_no_read(
    app: Taurine, with_key: WithKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await with_key("read")
    assert (await client.get("/v1/session")).status_code == 200

    async def fail(*_: Any) -> Any:
        raise AssertionError("the database was asked")

    monkeypatch.setattr("taurine.jobs.credentials.api_keys.ApiKeys.verify", fail)
    assert (await client.get("/v1/session")).json()["scopes"] == ["read"]


async def test_a_secret_is_in_the_answer_and_nowhere_else(app: Taurine, with_key: WithKey) -> None:
    """A22: not in the table, not in lists, not in the audit, not in a text of the object; and scanners and our own
    redaction know its form.
    """
    admin = await with_key("admin")
    made = (await admin.post("/v1/keys", json={"name": "web shop", "scopes": ["enqueue"]})).json()
    secret = re.fullmatch(r"taurine_[0-9a-f]{16}_([0-9a-f]{64})", made["text"])
    assert secret is not None
    seen = (await admin.get("/v1/keys")).text
    assert "web shop" in seen
    rows = await app._backend().database.read(
        lambda connection: [*connection.execute(select(api_key)), *connection.execute(select(audit))]
    )
    assert "web shop" in repr(rows)
    new = await app.api_keys.create("other", scopes=["read"])
    for shown in (seen, repr(rows), repr(new)):
        assert secret[1] not in shown
        assert new.text not in shown
    assert made["text"] not in Redact.DEFAULT.text(f"calling with {made['text']} failed")


async def test_what_is_done_to_keys_is_in_the_audit(app: Taurine, with_key: WithKey) -> None:
    admin = await with_key("admin")
    made = (await admin.post("/v1/keys", json={"name": "web shop", "scopes": ["enqueue"], "tenant": "acme"})).json()
    assert (await admin.delete(f"/v1/keys/{made['key']['id']}")).json()["revoked_at"] is not None
    assert (await admin.delete(f"/v1/keys/{made['key']['id']}")).status_code == 200  # nothing more happens
    rows = await app._backend().database.read(lambda connection: list(connection.execute(select(audit))))
    assert [(row.actor, row.action, row.tenant) for row in rows if "web shop" in (row.detail or "")] == [
        ("admin", "create_key", "acme"),
        ("admin", "revoke_key", "acme"),
    ]


async def test_the_last_use_is_known_to_about_a_minute(app: Taurine, clock: TestClock) -> None:
    made = await app.api_keys.create("a", scopes=["read"])
    first = clock.now()
    for _ in range(3):
        await app.api_keys.verify(made.text)
        clock.advance(25.0)
    assert [key.last_used for key in await app.api_keys.list()] == [first]
    await app.api_keys.verify(made.text)
    assert [key.last_used for key in await app.api_keys.list()] == [first + 75.0]


async def test_what_cannot_be_a_key_is_refused(app: Taurine) -> None:
    with pytest.raises(InvalidOption, match="did you mean 'read'"):
        await app.api_keys.create("a", scopes=["reed"])
    with pytest.raises(InvalidOption, match="at least one scope"):
        await app.api_keys.create("a", scopes=[])
    with pytest.raises(InvalidOption, match=r'such as \["read"\]'):
        await app.api_keys.create("a", scopes="read")
    with pytest.raises(InvalidOption, match="printable"):
        await app.api_keys.create("a\nb", scopes=["read"])
    with pytest.raises(InvalidOption, match="there is no API key 'zz'"):
        await app.api_keys.revoke("zz")
    with pytest.raises(Unauthenticated, match="this is no API key"):
        await app.api_keys.verify("taurine_zz")
    assert await app.api_keys.list() == []


async def test_keys_are_listed_in_pages(app: Taurine, with_key: WithKey) -> None:
    """The newest first; those of one millisecond too are gone through once."""
    admin = await with_key("admin", tenant="acme")
    for number in range(4):
        await app.api_keys.create(f"k{number}", scopes=["read"], tenant="acme")
    await app.api_keys.create("other", scopes=["read"], tenant="globex")

    whole = [key.id async for key in app.api_keys.list(tenant="acme", limit=2)]
    first = (await admin.get("/v1/keys", params={"limit": 3})).json()
    rest = (await admin.get("/v1/keys", params={"limit": 3, "cursor": first["next_cursor"]})).json()

    assert len(whole) == len(set(whole)) == 5
    assert [key["id"] for key in (*first["items"], *rest["items"])] == whole
    assert rest["next_cursor"] is None
    assert problem(await admin.get("/v1/keys", params={"cursor": "zz"})) == (400, "invalid_option")


async def test_the_hook_of_the_application_is_asked(app_factory: Callable[..., Taurine]) -> None:
    asked: list[AccessRequest] = []

    def authorize(request: AccessRequest) -> bool:
        asked.append(request)
        return False

    app = app_factory(authorize=authorize)
    with pytest.raises(NotAuthorized):
        await app.api_keys.create("a", scopes=["read"], tenant="acme", user="eve")
    assert [(request.action, request.tenant, request.user) for request in asked] == [("create_key", "acme", "eve")]


async def test_keys_can_be_switched_off(app: Taurine, client_of: Callable[..., Client]) -> None:
    made = await app.api_keys.create("a", scopes=["read"])
    client = client_of(app, access=Access(keys=False))
    answer = await client.get("/v1/jobs", headers={"Authorization": f"Bearer {made.text}"})
    assert problem(answer) == (401, "unauthenticated")


async def test_keys_live_in_either_database(app_factory: Callable[..., Taurine], ledger_url: str) -> None:
    app = app_factory(database_url=ledger_url)
    made = await app.api_keys.create("a", scopes=["read", "operate"], tenant="acme", expires_in=60, user="ada")
    key = await app.api_keys.verify(made.text)
    assert (key.scopes, key.tenant, key.created_by) == ({"read", "operate"}, "acme", "ada")
    assert [other.id for other in await app.api_keys.list(tenant="globex")] == []
    await app.api_keys.revoke(made.text)  # the whole key names it too
    with pytest.raises(Unauthenticated):
        await app.api_keys.verify(made.text)
    assert await app.api_keys.any_credential()
