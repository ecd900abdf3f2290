"""`taurine keys` and `taurine admins`: who may call the API, and who may log in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from taurine.app import Taurine


async def test_a_key_is_made_listed_and_revoked(taurine: Callable[..., Any], app: Taurine) -> None:
    made = await taurine(
        "keys", "create", "web shop", "--scope", "read", "-s", "enqueue", "--tenant", "acme", COLUMNS="40"
    )
    assert made.code == 0, made.err
    assert re.fullmatch(r"taurine_[0-9a-f]{16}_[0-9a-f]{64}\n", made.out)  # one line, for `KEY=$(…)`
    key = await app.api_keys.verify(made.out.strip())
    assert (key.name, key.scopes, key.tenant) == ("web shop", {"read", "enqueue"}, "acme")

    (listed,) = (await taurine("keys", "--json")).json["keys"]
    assert (listed["id"], listed["scopes"], listed["revoked_at"]) == (key.id, ["enqueue", "read"], None)
    ended = await taurine("keys", "revoke", key.id, "--user", "ops")
    assert (ended.code, ended.out) == (0, f"{key.id} of web shop is revoked\n")
    shown = await taurine("keys", "list", COLUMNS="120")
    assert "revoked" in shown.out
    assert made.out.strip() not in shown.out


async def test_a_scope_that_is_none_names_the_near_one(taurine: Callable[..., Any]) -> None:
    refused = await taurine("keys", "create", "x", "--scope", "reed")
    assert refused.code == 2
    assert "did you mean 'read'" in refused.err


async def test_a_password_comes_from_stdin_and_never_from_an_argument(
    taurine: Callable[..., Any], app: Taurine
) -> None:
    """A56: whoever may list processes sees arguments."""
    added = await taurine("admins", "add", "ada", "--role", "viewer", stdin="correct horse battery\nmore\n")
    assert (added.code, added.out) == (0, "ada may log in, as viewer\n"), added.err
    assert (await app.admins.check("ada", "correct horse battery")).role == "viewer"
    assert (await taurine("admins", "add", "bob", "--password", "x")).code == 2
    changed = await taurine("admins", "password", "ada", stdin="another password of hers\n")
    assert changed.code == 0, changed.err
    assert (await app.admins.check("ada", "another password of hers")).name == "ada"
    short = await taurine("admins", "password", "ada", stdin="hunter2\n")
    assert short.code == 2
    assert "hunter2" not in short.err
    assert (await taurine("admins", "--json")).json == {"admins": [{"name": "ada", "role": "viewer", "tenant": None}]}
    assert (await taurine("admins", "remove", "ada")).code == 0
    assert await app.admins.list() == []


async def test_a_password_is_asked_for_twice_and_not_shown(terminal: Callable[..., Any], app: Taurine) -> None:
    screen = terminal("admins", "add", "ada")
    await screen.until("Password for ada: ")
    screen.press("correct horse battery\n")
    await screen.until("The same again: ")
    screen.press("correct horse battery\n")
    assert await screen.ended() == 0
    assert "ada may log in" in screen.text
    assert "horse" not in screen.text
    assert [admin.name for admin in await app.admins.list()] == ["ada"]


async def test_the_first_credential_says_that_every_caller_needs_one_now(taurine: Callable[..., Any]) -> None:
    """Calls from this machine, which needed none until then, are refused from then on."""
    said = "from now on every caller needs a key, also on this machine; one for yourself: `taurine keys create me --scope admin`"

    first = await taurine("keys", "create", "web", "--scope", "read", "--json")
    second = await taurine("keys", "create", "web", "--scope", "read")

    assert said in first.err
    assert said not in second.err


async def test_the_first_person_says_it_too(taurine: Callable[..., Any]) -> None:
    first = await taurine("admins", "add", "ada", stdin="correct horse battery\n")
    second = await taurine("admins", "add", "bob", stdin="correct horse battery\n")

    assert "from now on every caller needs a key" in first.err
    assert "from now on" not in second.err
