"""Operators hear of callers who are refused again and again, and cannot be flooded by them (SEED-032 at the boundary)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from support.api import Client, declare_invites, problem
from support.callers import as_caller, of_whoever_says
from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import LedgerUnavailable
from taurine.http.access.access import Access
from taurine.http.access.subjects import OTHER_TENANTS, OTHERS, WRONG_KEYS
from taurine.jobs.credentials.api_keys import ApiKeys
from taurine.jobs.operations.alerts import AlertView
from taurine.jobs.reporting.alerts import Alert
from taurine.testing import TestClock

WithKey = Callable[..., Awaitable[Client]]
WINDOW, HOUR = 300, 3600
GLOBEX = "'read-enqueue' of tenant 'globex'"


async def of_refusals(app: Taurine, number: int) -> Sequence[AlertView]:
    """The alerts about refusals, once there are so many."""

    async def found() -> Sequence[AlertView]:
        alerts = [one for one in await app.alerts.list(all=True) if one.kind == "access_refused"]
        return alerts if len(alerts) >= number else []

    return await eventually(found)


REFUSED: Mapping[str, tuple[dict[str, Any], tuple[int, str]]] = {
    "the scope": ({"method": "POST", "url": "/v1/jobs/j/cancel"}, (403, "forbidden")),
    "what belongs to no tenant": ({"method": "GET", "url": "/v1/queues"}, (403, "forbidden")),
    "another tenant": ({"method": "GET", "url": "/v1/jobs?tenant=acme"}, (404, "tenant_not_found")),
    "another tenant's job": (
        {"method": "POST", "url": "/v1/jobs/thing.keep", "json": {"payload": 1, "tenant": "acme"}},
        (404, "tenant_not_found"),
    ),
    "an id that is taken": (
        {"method": "POST", "url": "/v1/jobs/thing.keep", "json": {"payload": 1, "job_id": "theirs"}},
        (409, "job_id_unusable"),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_caller_who_is_refused_ten_times_is_told_of(app: Taurine, with_key: WithKey, what: str) -> None:
    """Once, however it goes on; nine times are none of anybody's affair."""
    globex = await with_key("read", "enqueue", tenant="globex")
    await app.enqueue("thing.keep", 1, job_id="theirs", tenant="acme")
    request, expected = REFUSED[what]

    for _ in range(9):
        assert problem(await globex.request(**request)) == expected
    before = await app.alerts.list(all=True)
    for _ in range(11):
        await globex.request(**request)
    (alert,) = await of_refusals(app, 1)

    assert before == []
    assert (alert.rule, alert.subject, alert.severity) == ("access_refused", GLOBEX, "warning")
    assert alert.message.startswith(f"{GLOBEX} was refused 10 times within 300 s, the last time with: ")


async def test_wrong_keys_are_one_subject(app: Taurine, client_of: Callable[..., Client]) -> None:
    await app.api_keys.create("a", scopes=["read"])
    stranger = client_of(app)
    for number in range(12):
        key = f"taurine_{number:016x}_{number:064x}"
        answer = await stranger.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
        assert problem(answer) == (401, "unauthenticated")

    (alert,) = await of_refusals(app, 1)

    assert alert.subject == WRONG_KEYS
    assert alert.message.startswith(f"{WRONG_KEYS} were refused 10 times within 300 s, the last time with: ")


async def test_a_key_that_is_over_is_named(
    app: Taurine, client_of: Callable[..., Client], clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each by itself, so that who still uses it is found, beside keys that nobody knows; never its secret."""
    client = client_of(app)
    revoked = await app.api_keys.create("web shop", scopes=["read"], tenant="acme")
    expired = await app.api_keys.create("ada@example.com", scopes=["read"], expires_in=60)
    valid = await app.api_keys.create("valid", scopes=["read"], expires_in=3600)
    await app.api_keys.revoke(revoked.key.id)
    clock.advance(60)
    forged = f"taurine_{valid.key.id}_{7:064x}"
    for text in (revoked.text, expired.text, forged):
        await ten_times(client, bearer(text))

    alerts = {alert.subject: alert.message for alert in await of_refusals(app, 3)}

    shop = f"API key 'web shop' ({revoked.key.id}) of tenant 'acme'"
    ada = f"API key {app.redact.text('ada@example.com')!r} ({expired.key.id})"
    assert alerts.keys() == {shop, ada, WRONG_KEYS}
    assert alerts[shop] == f"{shop} was refused 10 times within 300 s, the last time with: it was revoked"
    assert alerts[ada] == f"{ada} was refused 10 times within 300 s, the last time with: it has expired"
    assert alerts[shop] in caplog.text
    for text in (revoked.text, expired.text, forged):
        assert text[-64:] not in f"{alerts} {caplog.text}"
    assert "ada@example.com" not in f"{alerts} {caplog.text}"
    assert valid.key.id not in f"{alerts} {caplog.text}"


async def test_a_key_that_is_revoked_while_others_are_refused_is_named_soon(
    app: Taurine, client_of: Callable[..., Client], clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are refused, the keys are read once in 15 seconds."""
    client, reads = client_of(app), list[object]()
    read = ApiKeys.list

    def counted(keys: ApiKeys, **options: Any) -> Any:
        reads.append(options)
        return read(keys, **options)

    monkeypatch.setattr(ApiKeys, "list", counted)
    made = await app.api_keys.create("late", scopes=["read"])
    for number in range(30):
        await client.get("/v1/jobs", headers=bearer(f"taurine_{number:016x}_{number:064x}"))
    await app.api_keys.revoke(made.key.id)
    assert len(reads) == 1
    clock.advance(15)
    await ten_times(client, bearer(made.text))

    assert len(reads) == 2
    subjects = {alert.subject for alert in await of_refusals(app, 2)}
    assert subjects == {WRONG_KEYS, f"API key 'late' ({made.key.id})"}


async def test_keys_that_are_over_flood_nobody(app: Taurine, client_of: Callable[..., Client]) -> None:
    """Three of a tenant and ten in all by their names; the rest are told together. Others keep their places."""
    client = client_of(app)
    for tenant, number in (("acme", 5), ("globex", 1), (None, 12)):
        for _ in range(number):
            made = await app.api_keys.create("ci", scopes=["read"], tenant=tenant)
            await app.api_keys.revoke(made.key.id)
    over = [made async for made in app.api_keys.list()]
    for key in over:
        await ten_times(client, bearer(f"taurine_{key.id}_{7:064x}"))
    live = await app.api_keys.create("live", scopes=["read"], tenant="acme")
    await ten_times(client, bearer(live.text))

    alerts = await of_refusals(app, 16)

    told = Counter(alert.subject.partition(") ")[2] for alert in alerts if alert.subject.startswith("API key '"))
    assert told == {"of tenant 'acme'": 3, "of tenant 'globex'": 1, "": 10}
    assert {alert.subject for alert in alerts if not alert.subject.startswith("API key '")} == {
        WRONG_KEYS,
        "'live' of tenant 'acme'",
    }


async def test_a_ledger_that_cannot_name_a_key_changes_no_answer(
    app: Taurine, client_of: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await app.api_keys.create("web shop", scopes=["read"])
    await app.api_keys.revoke(made.key.id)

    def away(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailable("away")

    monkeypatch.setattr(ApiKeys, "list", away)
    await ten_times(client_of(app), bearer(made.text))

    (alert,) = await of_refusals(app, 1)
    assert alert.subject == WRONG_KEYS


async def test_refusals_over_a_long_time_are_no_alert(app: Taurine, with_key: WithKey, clock: TestClock) -> None:
    reader = await with_key("read")
    for _ in range(12):
        assert problem(await reader.get("/v1/keys")) == (403, "forbidden")
        clock.advance(WINDOW / 8)

    assert await app.alerts.list(all=True) == []


async def test_nobody_is_flooded_by_callers_with_many_names(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client], clock: TestClock
) -> None:
    """A name can be had for nothing where the host's login gives them out: ten are told in an hour, and all others are
    one.
    """
    heard: list[Alert] = []
    app = app_factory(clock=clock, on_alert=heard.append)
    declare_invites(app)
    client = client_of(app, access=Access(host_login=of_whoever_says))

    async def refused(name: str) -> None:
        for _ in range(10):
            assert (await client.get("/v1/keys", headers=as_caller("read", name=name))).status_code == 403

    for number in range(20):
        await refused(f"user-{number}")
    alerts = await of_refusals(app, 11)
    clock.advance(WINDOW)
    await refused("user-0")
    await eventually(lambda: len(heard) == 11)
    clock.advance(HOUR)
    await refused("user-19")
    await eventually(lambda: len(heard) == 12)

    assert {alert.subject for alert in alerts} == {OTHERS, *(f"'user-{number}'" for number in range(10))}
    assert [alert.subject for alert in heard].count("'user-0'") == 1
    assert heard[-1].subject == "'user-19'"


async def test_nobody_is_hidden_by_names_that_a_tenant_makes_up(
    app: Taurine, with_key: WithKey, client_of: Callable[..., Client]
) -> None:
    """What public tokens are refused counts for whoever has made them, whatever they are called."""
    thief, anybody = await with_key("operate", "read", tenant="acme"), client_of(app)
    shop = await app.api_keys.create("globex-shop", scopes=["read"], tenant="globex")
    for name in ["globex-shop", *(f"name-{number}" for number in range(12))]:
        made = await thief.post("/v1/tokens", json={"job_id": "a", "name": name})
        await ten_times(anybody, {"Authorization": f"Bearer {made.json()['token']}"})

    await ten_times(anybody, {"Authorization": f"Bearer {shop.text}"})
    await ten_times(anybody, {"Authorization": f"Bearer taurine_{1:016x}_{1:064x}"})
    alerts = await of_refusals(app, 3)

    assert {alert.subject for alert in alerts} == {
        "'operate-read' of tenant 'acme'",
        "'globex-shop' of tenant 'globex'",
        WRONG_KEYS,
    }


async def test_what_a_route_refuses_to_tokens_counts_for_their_issuer_as_well(
    app: Taurine, with_key: WithKey, client_of: Callable[..., Client]
) -> None:
    """Five each of what the gate refuses, and of what lies behind it."""
    server, anybody = await with_key("operate", "read", tenant="acme"), client_of(app)
    for path, status in (("/v1/keys", 403), ("/v1/jobs?tenant=globex", 404)):
        for number in range(5):
            made = await server.post("/v1/tokens", json={"tenant": "acme", "name": f"name-{number}"})
            headers = {"Authorization": f"Bearer {made.json()['token']}"}
            assert (await anybody.get(path, headers=headers)).status_code == status

    (alert,) = await of_refusals(app, 1)

    assert alert.subject == "'operate-read' of tenant 'acme'"


async def test_each_tenant_has_a_share_of_what_is_told(app: Taurine, client_of: Callable[..., Client]) -> None:
    """Three names of each, and then the tenant; of all tenants ten names and ten tenants. Those of no tenant, and whom
    nobody knows, are told in any case, and nobody can be called like them.
    """
    client = client_of(app, access=Access(host_login=of_whoever_says))
    for tenant in ("t0", "t1", "t2", *(f"t{number}" for number in range(3, 15))):
        for name in ("ci", "a", "b", "c", "d") if tenant in ("t0", "t1", "t2") else ("ci",):
            await ten_times(client, as_caller("read", name=name, tenant=tenant))
    for name in ("ci", WRONG_KEYS):
        await ten_times(client, as_caller("read", name=name))
    await ten_times(client, {"Authorization": f"Bearer taurine_{1:016x}_{1:064x}"})
    alerts = await of_refusals(app, 24)

    assert {alert.subject for alert in alerts} == {
        *(f"{name!r} of tenant 't{number}'" for number in range(3) for name in ("ci", "a", "b")),
        "'ci' of tenant 't3'",
        *(f"{OTHERS} of tenant 't{number}'" for number in (0, 1, 2, *range(4, 11))),
        OTHER_TENANTS,
        "'ci'",
        repr(WRONG_KEYS),
        WRONG_KEYS,
    }


def bearer(text: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def ten_times(client: Client, headers: Mapping[str, str]) -> None:
    """Ask so often for what this caller may not have."""
    for _ in range(10):
        assert (await client.get("/v1/keys", headers=headers)).status_code in (401, 403)


async def test_an_address_is_not_told(
    app: Taurine, client_of: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    """What leaves the application is redacted; the log is as well."""
    client = client_of(app, access=Access(host_login=of_whoever_says))
    for _ in range(10):
        await client.get("/v1/keys", headers=as_caller("read", name="ada@example.com"))

    (alert,) = await of_refusals(app, 1)

    assert "ada@example.com" not in f"{alert.subject} {alert.message} {caplog.text}"
    assert "was refused 10 times" in caplog.text
