"""Admins log in with a password and have a session: slow for who guesses, over at a logout (SEED-070, SEED-192, A25,
A27).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from support.api import Answer, Client, problem
from taurine.app import Taurine
from taurine.errors import InvalidOption, TooManyTries, Unauthenticated
from taurine.http.access.access import Access
from taurine.jobs.credentials.passwords import Passwords
from taurine.ledger.schema import admin, audit, login_try, session
from taurine.testing import TestClock

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is who is let in, and not how long that takes."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("taurine.jobs.credentials.passwords._recommended", lambda: cheap)


@pytest.fixture
async def client(app: Taurine, anybody: Client) -> Client:
    await app.admins.add("ada", PASSWORD, role="operator", tenant="acme")
    return anybody


async def log_in(client: Client, name: str = "ada", password: str = PASSWORD, **options: Any) -> Answer:
    return await client.post("/v1/session", json={"name": name, "password": password}, **options)


async def rows_of(app: Taurine, table: Any) -> list[Any]:
    return await app._backend().database.read(lambda connection: list(connection.execute(select(table))))


async def test_a_login_begins_a_session_and_a_logout_ends_it(client: Client) -> None:
    answer = await log_in(client)
    assert answer.json() == {
        "name": "ada",
        "scopes": ["enqueue", "operate", "read"],
        "tenant": "acme",
        "job_id": None,
        "tag": None,
        "job_type": None,
    }
    assert (await client.enqueue()).status_code == 202
    assert (await client.get("/v1/session")).json()["name"] == "ada"
    assert problem(await client.get("/v1/keys")) == (403, "forbidden")

    kept = dict(client.cookies)
    assert (await client.delete("/v1/session")).status_code == 204
    assert problem(await client.get("/v1/session")) == (401, "unauthenticated")
    client.cookies.update(kept)  # who has copied the cookie has nothing any more
    assert problem(await client.get("/v1/session")) == (401, "unauthenticated")


async def test_the_cookie_is_for_no_script_and_no_other_site(app: Taurine, client: Client) -> None:
    """A27: and over https it is of this very host."""
    plain = (await log_in(client)).headers["set-cookie"]
    assert plain.startswith("taurine_session=")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(plain.split("; "))
    assert "Secure" not in plain
    client.base_url = "https://localhost"
    secure = (await log_in(client)).headers["set-cookie"]
    assert secure.startswith("__Host-taurine_session=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} <= set(secure.split("; "))
    assert "Domain" not in secure
    kept = {value.split("=", 1)[1] for value in (plain.split("; ")[0], secure.split("; ")[0])}
    assert not [token for token in kept if token in repr(await rows_of(app, session))]


async def test_a_session_is_not_taken_from_before_the_login(app: Taurine, client: Client) -> None:
    """A login ends the session that was there: a token that somebody has planted is worth nothing."""
    await log_in(client)
    before = dict(client.cookies)
    await log_in(client)
    assert dict(client.cookies) != before
    assert len(await rows_of(app, session)) == 1


async def test_a_session_ends_by_idleness_and_by_age(client: Client, clock: TestClock) -> None:
    await log_in(client)
    for _ in range(13):
        clock.advance(3300.0)
        assert (await client.get("/v1/session")).status_code == 200
    clock.advance(300.0)  # twelve hours after the login
    assert problem(await client.get("/v1/session")) == (401, "unauthenticated")
    await log_in(client)
    clock.advance(3600.0)
    assert problem(await client.get("/v1/session")) == (401, "unauthenticated")


async def test_who_is_removed_or_has_another_password_is_out_at_once(app: Taurine, client: Client) -> None:
    await log_in(client)
    await app.admins.set_password("ada", "another password of hers")
    assert problem(await client.get("/v1/session")) == (401, "unauthenticated")
    assert problem(await log_in(client)) == (401, "unauthenticated")
    assert (await log_in(client, password="another password of hers")).status_code == 200
    await app.admins.remove("ada")
    assert problem(await client.get("/v1/session")) == (401, "unauthenticated")
    assert problem(await log_in(client, password="another password of hers")) == (401, "unauthenticated")


async def test_a_cookie_alone_changes_nothing_from_another_site(client: Client) -> None:
    """A27: the cookie is right, and the page is not ours."""
    await log_in(client)
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for method, path in (("POST", "/v1/jobs/thing.keep"), ("DELETE", "/v1/session"), ("POST", "/v1/session")):
        answer = await client.request(method, path, headers=evil, json={"payload": 1})
        assert problem(answer) == (403, "cross_site_request")
    assert (await client.get("/v1/jobs")).json()["items"] == []


# Guessing ------------------------------------------------------------------------------------------------------------------------------


async def test_ten_thousand_wrong_passwords_are_slowed_and_logged(
    app: Taurine, client: Client, clock: TestClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A25: of 10,000 in a quarter of an hour, a handful is looked at; the right password among them opens nothing.

    Here they are 500, five each second.
    """
    looked_at = 0
    matches = Passwords._matches

    def counted(*arguments: Any) -> bool:
        nonlocal looked_at
        looked_at += 1
        return matches(*arguments)

    monkeypatch.setattr(Passwords, "_matches", counted)
    statuses: list[int] = []
    gate = client._transport.app.state.api.gate  # pyright: ignore[reportAttributeAccessIssue]
    for number in range(100):
        for _ in range(5):
            try:
                await gate.admins.check("ada", f"wrong password {number}", address="203.0.113.9")
            except TooManyTries:
                statuses.append(429)
            except Unauthenticated:
                statuses.append(401)
        clock.advance(1.0)
    # Ten at once, and one each half minute.
    assert looked_at == statuses.count(401) == 10 + 100 // 30
    with caplog.at_level(logging.WARNING, "taurine.access"):
        refused = await log_in(client)
    assert problem(refused) == (429, "too_many_tries")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert "too many logins as 'ada'" in caplog.text
    assert PASSWORD not in caplog.text
    clock.advance(30.0)
    assert (await log_in(client)).status_code == 200


async def test_many_names_from_one_address_are_slowed_too(app: Taurine, clock: TestClock) -> None:
    """A25: one password tried on everybody. A whole network of version 6 is one address."""
    refused = 0
    for number in range(60):
        try:
            await app.admins.check(f"user{number}", "wrong password", address=f"2001:db8::{number:x}")
        except TooManyTries:
            refused += 1
        except Unauthenticated:
            pass
    assert refused == 10
    with pytest.raises(Unauthenticated, match="wrong"):
        await app.admins.check("user99", "wrong password", address="198.51.100.1")


async def test_tries_at_once_in_several_processes_are_counted_together(
    app_factory: Callable[..., Taurine], ledger_url: str
) -> None:
    """A25: a try counts from before its password is looked at, wherever."""
    clock = TestClock(1_700_000_000.0)
    apps = [app_factory(database_url=ledger_url, clock=clock) for _ in range(3)]
    await apps[0].admins.add("ada", PASSWORD)

    async def attempt(app: Taurine) -> str:
        try:
            await app.admins.check("ada", "wrong password", address="203.0.113.9")
        except Unauthenticated as error:
            return type(error).__name__
        return "in"

    found = await asyncio.gather(*(attempt(apps[number % 3]) for number in range(24)))
    assert sorted(found) == ["TooManyTries"] * 14 + ["Unauthenticated"] * 10
    clock.advance(301.0)
    assert (await apps[1].admins.check("ada", PASSWORD, address="203.0.113.9")).role == "admin"
    assert await rows_of(apps[0], login_try) != []  # of the address; the name has all its tries again


async def test_an_unknown_name_costs_the_same_work_and_gets_the_same_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A25: counted, since timings decide nothing here."""
    work: list[int] = []
    matches = Passwords._matches

    def counted(self: Passwords, kept: str, password: str) -> bool:
        work[-1] += 1
        return matches(self, kept, password)

    monkeypatch.setattr(Passwords, "_matches", counted)
    answers: list[Answer] = []
    for name in ("ada", "nobody"):
        work.append(0)
        answers.append(await log_in(client, name, "wrong password"))
    assert work == [1, 1]
    first, second = ({**answer.json()} for answer in answers)
    assert first == second
    assert first["code"] == "unauthenticated"


async def test_a_success_gives_the_name_its_tries_back(client: Client) -> None:
    for _ in range(4):
        for _ in range(9):
            assert (await log_in(client, password="wrong password")).status_code == 401
        assert (await log_in(client)).status_code == 200


# The people ----------------------------------------------------------------------------------------------------------------------------


async def test_what_is_kept_of_a_password_is_a_hash(app: Taurine, client: Client) -> None:
    kept = repr(await rows_of(app, admin)) + repr(await rows_of(app, audit)) + repr(await app.admins.list())
    assert "$argon2id$" in kept
    assert PASSWORD not in kept


async def test_a_hash_of_yesterday_is_made_anew_at_a_login(
    app: Taurine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stronger = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)
    (before,) = await rows_of(app, admin)
    monkeypatch.setattr("taurine.jobs.credentials.passwords._recommended", lambda: stronger)
    await app.admins.check("ada", PASSWORD)
    (after,) = await rows_of(app, admin)
    assert (before.password_hash, before.password_at) != (after.password_hash, after.password_at)
    assert before.password_at == after.password_at
    assert not stronger.check_needs_rehash(after.password_hash)


async def test_the_default_is_what_argon2_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    kept = await Passwords().hash(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


async def test_letters_are_the_same_however_they_are_composed(app: Taurine) -> None:
    await app.admins.add("bea", "caf\u00e9 au lait bitte")
    assert (await app.admins.check("bea", "cafe\u0301 au lait bitte")).name == "bea"


async def test_who_cannot_be_added_is_refused(app: Taurine) -> None:
    await app.admins.add("ada", PASSWORD)
    with pytest.raises(InvalidOption, match="there is an admin 'ada' already"):
        await app.admins.add("ada", PASSWORD)
    with pytest.raises(InvalidOption, match="12 to 1024 characters") as short:
        await app.admins.add("bob", "short")
    assert "short" not in str(short.value)
    with pytest.raises(InvalidOption, match="did you mean 'viewer'"):
        await app.admins.add("bob", PASSWORD, role="viewr")
    for call in (app.admins.remove("bob"), app.admins.set_password("bob", PASSWORD)):
        with pytest.raises(InvalidOption, match="there is no admin 'bob'"):
            await call
    assert [person.name for person in await app.admins.list()] == ["ada"]


async def test_what_is_done_to_admins_is_in_the_audit(app: Taurine, client: Client) -> None:
    await log_in(client)
    await app.admins.set_password("ada", PASSWORD, user="root")
    await app.admins.remove("ada", user="root")
    rows = await rows_of(app, audit)
    assert [(row.actor, row.action) for row in rows] == [
        (None, "add_admin"),
        ("ada", "log_in"),
        ("root", "set_password"),
        ("root", "remove_admin"),
    ]


async def test_logins_can_be_switched_off(app: Taurine, client_of: Callable[..., Client]) -> None:
    await app.admins.add("ada", PASSWORD)
    client = client_of(app, access=Access(login=False))
    assert problem(await log_in(client))[0] == 404


async def test_a_cookie_that_is_none_is_no_login(client: Client) -> None:
    for value in ("", "x", "é", "x" * 4000):
        answer = await client.get("/v1/session", headers=[(b"cookie", f"taurine_session={value}".encode())])
        assert problem(answer) == (401, "unauthenticated")
