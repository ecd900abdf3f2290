"""Public tokens: short-lived, signed, and bound to a job, a tag, a job type or a tenant (TRG-09, TRG-62)."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from support.api import Client, declare_invites, problem
from taurine.app import Taurine
from taurine.errors import Forbidden, InvalidOption
from taurine.http.access.access import Access
from taurine.http.access.caller import Caller
from taurine.http.access.signing import secret_in
from taurine.jobs.enqueue.access import AccessRequest
from taurine.testing import TestClock

WithKey = Callable[..., Awaitable[Client]]


@pytest.fixture
async def operator(with_key: WithKey) -> Client:
    return await with_key("operate", "read", "enqueue")


async def token_of(client: Client, **wanted: Any) -> dict[str, str]:
    """The header of a token that this client was given."""
    answer = await client.post("/v1/tokens", json=wanted)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


async def test_a_token_for_a_job_reads_that_job_and_nothing_else(operator: Client, anybody: Client) -> None:
    """TRG-62: out of scope is 403."""
    for job_id in ("mine", "a/b", "other"):
        await operator.enqueue(job_id=job_id, tags=["spring"])
    token = await token_of(operator, job_id="mine")
    assert (await anybody.get("/v1/jobs/mine", headers=token)).json()["id"] == "mine"
    assert (await anybody.get("/v1/jobs/mine/logs", headers=token)).status_code == 200
    for path in ("/v1/jobs/other", "/v1/jobs", "/v1/jobs?tag=spring", "/v1/counts", "/v1/keys", "/openapi.json"):
        assert problem(await anybody.get(path, headers=token)) == (403, "forbidden"), path
    for path in ("/v1/jobs/invite.send", "/v1/tokens", "/v1/lookup"):
        assert problem(await anybody.post(path, json={"ids": ["mine"]}, headers=token))[0] in (400, 403), path
    slashed = await token_of(operator, job_id="a/b")
    assert (await anybody.get("/v1/jobs/a%2Fb", headers=slashed)).json()["id"] == "a/b"


async def test_a_token_for_a_tag_reads_the_jobs_that_have_it(operator: Client, anybody: Client) -> None:
    """TRG-62."""
    await operator.enqueue(job_id="in", tags=["spring", "x"])
    await operator.enqueue(job_id="out", tags=["autumn"])
    token = await token_of(operator, tag="spring")
    assert (await anybody.get("/v1/jobs/in", headers=token)).status_code == 200
    listed = await anybody.get("/v1/jobs?tag=spring", headers=token)
    assert [job["id"] for job in listed.json()["items"]] == ["in"]
    refused = ("/v1/jobs/out", "/v1/jobs/none", "/v1/jobs", "/v1/jobs?tag=autumn", "/v1/counts?tag=spring")
    for path in refused:
        assert problem(await anybody.get(path, headers=token)) == (403, "forbidden"), path
    for path in ("/v1/jobs?tag=spring&tag=autumn", "/v1/jobs?tag=autumn&tag=spring"):
        assert problem(await anybody.get(path, headers=token)) == (400, "invalid_request"), path


async def test_a_token_for_a_tenant_sees_that_tenant_alone(operator: Client, anybody: Client) -> None:
    await operator.enqueue(job_id="a", tenant="acme")
    await operator.enqueue(job_id="g", tenant="globex")
    token = await token_of(operator, tenant="acme")
    listed = await anybody.get("/v1/jobs", headers=token)
    assert [job["id"] for job in listed.json()["items"]] == ["a"]
    assert problem(await anybody.get("/v1/jobs/g", headers=token)) == (404, "job_not_found")
    assert (await anybody.get("/v1/counts", headers=token)).json()["counts"]["queued"]["number"] == 1


async def test_a_trigger_puts_in_one_job_and_its_second_use_is_refused(operator: Client, anybody: Client) -> None:
    """TRG-09: of many uses at once, one counts."""
    token = await token_of(operator, job_type="invite.send", once=True, name="form")
    anybody.headers |= token
    assert problem(await anybody.enqueue("thing.keep", 1)) == (403, "forbidden")  # another type: not a use
    assert problem(await anybody.post("/v1/jobs/invite.send/batch", json={"payloads": []})) == (403, "forbidden")
    answers = await asyncio.gather(*(anybody.enqueue(job_id=f"t{number}") for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [401] * 7
    assert problem(await anybody.enqueue()) == (401, "unauthenticated")
    jobs = (await operator.get("/v1/jobs")).json()["items"]
    assert [(job["type"], job["created_by"]) for job in jobs] == [
        ("invite.send", "public token form of operate-read-enqueue")
    ]


async def test_a_token_acts_in_its_issuers_name(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    """Whatever it is called, nobody takes it for somebody else: not the record, the audit, nor `authorize`."""
    asked: list[AccessRequest] = []
    app = app_factory(authorize=asked.append)
    declare_invites(app)
    key = await app.api_keys.create("shop", scopes=["operate", "enqueue"], tenant="acme")
    shop = client_of(app)
    shop.headers["Authorization"] = f"Bearer {key.text}"
    asked.clear()

    for name, expected in (("root-admin", "public token root-admin of shop"), (None, "public token of shop")):
        anybody = client_of(app)
        anybody.headers |= await token_of(shop, job_type="invite.send", **({} if name is None else {"name": name}))
        assert (await anybody.get("/v1/session")).json()["name"] == expected
        job_id = (await anybody.enqueue()).json()["id"]
        record = await app.get(job_id)
        assert record is not None
        assert record.created_by == expected
        assert [entry.actor for entry in await app.audit(job_id)] == [expected]
        assert asked.pop().user == expected


@pytest.mark.parametrize("name", ["x of root-admin", "of root-admin", "Of", " ", "two\nlines", "n" * 189])
async def test_a_name_that_hides_its_issuer_is_refused(app: Taurine, name: str) -> None:
    """The first "of" stands before the issuer, and all of it fits where a job's record holds it."""
    tokens = Access().gate(app).tokens
    assert tokens is not None
    issuer = Caller(name="i" * 50, scopes=frozenset({"operate", "read"}))
    with pytest.raises(InvalidOption, match="name of a public token"):
        tokens.issue(job_id="a", name=name, issuer=issuer)
    longest = tokens.issue(job_id="a", name="n" * 188, issuer=issuer)
    assert len(tokens.read(longest).caller.name) == 255
    of_longest_key = Caller(name="i" * 200, scopes=issuer.scopes)
    assert tokens.read(tokens.issue(job_id="a", issuer=of_longest_key)).caller.issuer == of_longest_key.name


async def test_a_trigger_of_many_uses_lasts_until_it_expires(
    operator: Client, anybody: Client, clock: TestClock
) -> None:
    """TRG-09: 15 minutes by default."""
    anybody.headers |= await token_of(operator, job_type="invite.send")
    assert (await anybody.enqueue()).status_code == 202
    clock.advance(899.0)
    assert (await anybody.enqueue()).status_code == 202
    assert problem(await anybody.enqueue(tenant="acme"))[0] == 404  # it may not choose whose job it is
    clock.advance(1.0)
    assert problem(await anybody.enqueue()) == (401, "unauthenticated")


async def test_a_token_allows_no_more_than_its_issuer_may(with_key: WithKey) -> None:
    reader, of_acme = await with_key("read", "enqueue"), await with_key("operate", "read", tenant="acme")
    assert problem(await reader.post("/v1/tokens", json={"job_id": "a"})) == (403, "forbidden")
    assert problem(await of_acme.post("/v1/tokens", json={"job_type": "invite.send"})) == (403, "forbidden")
    assert problem(await of_acme.post("/v1/tokens", json={"tenant": "globex"})) == (403, "forbidden")
    token = await token_of(of_acme, job_id="a")
    assert (await of_acme.get("/v1/session", headers=token)).json()["tenant"] == "acme"


def test_a_public_token_makes_no_other(app: Taurine) -> None:
    tokens = Access().gate(app).tokens
    assert tokens is not None
    bound = Caller(name="x", scopes=frozenset({"read", "operate"}), job_id="a")
    with pytest.raises(Forbidden, match="cannot make another"):
        tokens.issue(job_id="a", issuer=bound)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "bound to one of"),
        ({"job_id": "a", "tag": "b"}, "bound to one of"),
        ({"job_id": "a", "scopes": ["operate"]}, "scopes of a public token"),
        ({"job_id": "a", "scopes": ["enqueue"]}, "scopes of a public token"),
        ({"job_type": "a"}, "scopes of a public token"),
        ({"job_id": "a", "once": True}, "one use"),
        ({"job_id": "a", "expires_in": 86_401}, "expires_in"),
    ],
)
def test_a_token_that_would_be_more_than_it_should_is_refused(app: Taurine, wanted: Any, message: str) -> None:
    tokens = Access().gate(app).tokens
    assert tokens is not None
    with pytest.raises(InvalidOption, match=message):
        tokens.issue(**wanted)


async def test_a_token_that_was_changed_is_none(operator: Client, anybody: Client) -> None:
    token = (await token_of(operator, job_id="a"))["Authorization"]
    for place in (len("Bearer taurine_public_") + 3, len(token) // 2, len(token) - 2):
        wrong = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert problem(await anybody.get("/v1/jobs/a", headers={"Authorization": wrong})) == (401, "unauthenticated")


async def test_a_secret_is_changed_without_a_gap(app: Taurine, client_of: Callable[..., Client]) -> None:
    old, new = "the secret of yesterday, long enough", "the secret of tomorrow, long enough"
    before = Access(secret=old).gate(app).tokens
    assert before is not None
    token = {"Authorization": f"Bearer {before.issue(tenant='acme')}"}
    for secrets, status in (((new, old), 200), (new, 401)):
        client = client_of(app, access=Access(secret=secrets, open_on_loopback=False))
        assert (await client.get("/v1/jobs", headers=token)).status_code == status


async def test_what_only_reads_may_have_it_in_the_query(operator: Client, anybody: Client) -> None:
    """A browser's EventSource sends no headers of ours. A key is refused there: it would stand in logs for ever."""
    await operator.enqueue(job_id="a")
    text = (await token_of(operator, job_id="a"))["Authorization"].removeprefix("Bearer ")
    assert (await anybody.get("/v1/jobs/a", params={"access_token": text})).status_code == 200
    trigger = (await token_of(operator, job_type="invite.send"))["Authorization"].removeprefix("Bearer ")
    enqueue = await anybody.post("/v1/jobs/invite.send", params={"access_token": trigger}, json={"payload": 1})
    assert problem(enqueue) == (401, "unauthenticated")
    key = operator.headers["Authorization"].removeprefix("Bearer ")
    answer = await anybody.get("/v1/jobs/a", params={"access_token": key})
    assert problem(answer) == (401, "unauthenticated")
    assert key not in answer.text


async def test_without_a_secret_there_are_none_in_production(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    app = app_factory(env="production")
    with pytest.raises(InvalidOption, match="TAURINE_SECRET"):
        Access(public_tokens=True).gate(app)
    assert Access().gate(app).tokens is None
    with pytest.raises(InvalidOption, match="32 characters"):
        Access(secret="short")


def test_the_secret_of_a_developers_machine_is_the_owners_alone(tmp_path: Path) -> None:
    """A53."""
    home = tmp_path / "home"
    secret = secret_in(home)
    assert len(secret) == 64
    assert secret_in(home) == secret
    assert [path.name for path in home.iterdir()] == ["secret"]
    assert stat.S_IMODE((home / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    (home / "secret").chmod(0o644)
    with pytest.raises(InvalidOption, match="its owner alone"):
        secret_in(home)
    (home / "secret").unlink()
    (tmp_path / "theirs").write_text("x" * 64)
    (home / "secret").symlink_to(tmp_path / "theirs")
    with pytest.raises(InvalidOption, match="its owner alone"):
        secret_in(home)


async def test_uses_are_counted_in_either_database(app_factory: Callable[..., Taurine], ledger_url: str) -> None:
    clock = TestClock(1_700_000_000.0)
    app = app_factory(database_url=ledger_url, clock=clock)
    until = clock.now() + 60
    assert sorted(await asyncio.gather(*(app.used_tokens.use("a", expires=until) for _ in range(5)))) == [False] * 4 + [
        True
    ]
    assert await app.used_tokens.use("b", expires=until)
    clock.advance(61.0)
    assert await app.used_tokens.use("c", expires=until + 120)
    assert await app.used_tokens.use("a", expires=until + 120)  # forgotten: nobody can have it any more
