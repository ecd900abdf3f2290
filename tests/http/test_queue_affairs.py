"""`/v1/queues`, `/v1/schedules`, `/v1/workers`, `/v1/audit`: SEED-153, SEED-154, SEED-187; BMQ-038, 041, 042, 046, 047;
A11, A12, A14, A29, A36, A37, A50.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.api import Client, problem
from support.callers import as_caller, of_whoever_says
from support.eventually import eventually
from taurine.app import Taurine
from taurine.http import Access
from taurine.jobs.handler.context import Context
from taurine.jobs.reconciler.upkeep import Upkeep


@pytest.fixture
def anybody(app: Taurine, client_of: Callable[..., Client]) -> Client:
    """Calls as whoever `as_caller` says."""
    return client_of(app, access=Access(host_login=of_whoever_says))


# Queues -----------------------------------------------------------------------------------------------------------------------------


async def test_how_queues_stand(client: Client) -> None:
    """SEED-153, SEED-154, SEED-187: counts by state on both sides, since when the oldest waits, and dead letters."""
    await client.enqueue()
    await client.enqueue(delay=600)

    listed = (await client.get("/v1/queues")).json()["items"]
    mail = (await client.get("/v1/queues/mail")).json()

    assert [queue["name"] for queue in listed] == ["mail", "things"]
    assert mail["records"]["queued"] == {"number": 2, "exact": True}
    counts = mail["standing"]["counts"]
    assert {state: counts[state] for state in ("waiting", "active", "completed", "failed", "delayed")} == {
        "waiting": 1,
        "active": 0,
        "completed": 0,
        "failed": 0,
        "delayed": 1,
    }
    assert 0 <= mail["oldest_waiting"] < 60
    assert (mail["dead_letters"], mail["standing"]["paused"], mail["standing"]["workers"]) == (0, False, [])


async def test_paused_and_resumed(client: Client) -> None:
    """BMQ-038, BMQ-040: with the names of who did it in the audit."""
    paused = (await client.post("/v1/queues/mail/pause")).json()
    resumed = (await client.post("/v1/queues/mail/resume")).json()
    actions = (await client.get("/v1/audit")).json()["items"]

    assert (paused["standing"]["paused"], resumed["standing"]["paused"]) == (True, False)
    assert [(one["action"], one["actor"], one["detail"]) for one in actions] == [
        ("resume_queue", "local", {"queue": "mail"}),
        ("pause_queue", "local", {"queue": "mail"}),
    ]


async def test_drained_and_cleaned(app: Taurine, client: Client) -> None:
    """BMQ-041, BMQ-042."""
    await client.enqueue(job_id="due")
    await client.enqueue(job_id="later", delay=600)

    due = (await client.post("/v1/queues/mail/drain")).json()
    rest = (await client.post("/v1/queues/mail/drain", json={"delayed": True, "reason": "not needed"})).json()
    young = await client.post("/v1/queues/mail/clean", json={"status": "cancelled", "older_than": 3600})
    cleaned = await client.post("/v1/queues/mail/clean", json={"status": "cancelled"})

    assert due == rest == {"queue": "mail", "number": 1, "more": False}
    assert (young.json()["number"], cleaned.json()["number"]) == (0, 2)
    assert await app.get("due") is None


async def test_one_call_drains_and_cleans_no_more_than_its_limit(app: Taurine, client: Client) -> None:
    """A request is bounded however many jobs wait; jobs of a later time are none of it, and do not take up its limit."""
    await client.enqueue(job_id="a-later", delay=600)
    for job_id in ("b", "c", "d"):
        await client.enqueue(job_id=job_id)
    drain, clean = "/v1/queues/mail/drain", "/v1/queues/mail/clean"

    drained = [(await client.post(drain, json={"limit": 2})).json() for _ in range(2)]
    cleaned = [(await client.post(clean, json={"status": "cancelled", "limit": 2})).json() for _ in range(2)]

    assert [(one["number"], one["more"]) for one in drained] == [(2, True), (1, False)]
    assert [(one["number"], one["more"]) for one in cleaned] == [(2, True), (1, False)]
    assert problem(await client.post(drain, json={"limit": 10_001})) == (400, "invalid_request")
    assert await app.queues.drain("mail", delayed=True, limit=1) == 1


async def test_limits(client: Client) -> None:
    """BMQ-046, BMQ-047, BMQ-049."""
    await client.put("/v1/queues/mail/concurrency", json={"concurrency": 3})
    limited = await client.put("/v1/queues/mail/rate-limit", json={"rate_limit": {"max": 5, "duration": 0.5}})
    await client.put("/v1/queues/mail/concurrency", json={"concurrency": None})
    lifted = await client.put("/v1/queues/mail/rate-limit", json={"rate_limit": None})

    assert limited.json()["standing"]["concurrency"] == 3
    assert limited.json()["standing"]["rate_limit"] == {"max": 5, "duration": 0.5}
    assert (lifted.json()["standing"]["concurrency"], lifted.json()["standing"]["rate_limit"]) == (None, None)


async def test_a_limit_that_cannot_be(client: Client) -> None:
    """A12: 400, with the place and the range."""
    for concurrency in (0, -1, 1.5, 1e308, "many", True):
        answer = await client.put("/v1/queues/mail/concurrency", json={"concurrency": concurrency})
        assert problem(answer) == (400, "invalid_request"), concurrency
        assert [one["pointer"] for one in answer.json()["errors"]] == ["/concurrency"]
    limits = ({"max": 0, "duration": 1}, {"max": 1, "duration": 0}, {"max": 1, "duration": 1e308}, {"max": 1}, 7)
    for limit in limits:
        answer = await client.put("/v1/queues/mail/rate-limit", json={"rate_limit": limit})
        assert problem(answer) == (400, "invalid_request"), limit
        assert answer.json()["errors"][0]["pointer"].startswith("/rate_limit")


async def test_cleaning_that_cannot_be(client: Client) -> None:
    """A12, A32."""
    wrong = ({"status": "lost"}, {"status": "failed", "older_than": -1}, {"status": "failed", "limit": 10**9}, {})
    for body in wrong:
        assert problem(await client.post("/v1/queues/mail/clean", json=body)) == (400, "invalid_request"), body


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nobody", (404, "queue_not_found")),
        ("{mail}", (404, "queue_not_found")),
        ("*", (404, "queue_not_found")),
        ("..%2F..%2Fetc", (404, "queue_not_found")),
        ("mai%3Al", (400, "invalid_name")),
        ("a%0Ab", (400, "invalid_request")),
        ("a" * 2000, (400, "invalid_request")),
    ],
)
async def test_names_that_no_queue_has(
    client: Client, raw: Any, prefix: str, name: str, expected: tuple[int, str]
) -> None:
    """A11, A50: refused before anything is asked of the server; nothing of it is there afterwards."""
    looked = await client.get(f"/v1/queues/{name}")
    changed = [await client.post(f"/v1/queues/{name}/{word}") for word in ("pause", "drain")]

    assert [problem(answer) for answer in (looked, *changed)] == [expected] * 3
    assert [key async for key in raw.scan_iter(match=f"{prefix}:?*:*") if "::taurine:" not in key] == []


async def test_looking_changes_nothing(client: Client) -> None:
    """A29: 405 for a GET of what changes, and the header that overrides methods is not heeded."""
    override = {"X-HTTP-Method-Override": "POST"}
    for word in ("pause", "resume", "drain", "clean", "concurrency", "rate-limit"):
        answer = await client.get(f"/v1/queues/mail/{word}", headers=override)
        assert answer.status_code == 405, word

    assert (await client.get("/v1/audit")).json()["items"] == []


WRITES = [
    ("POST", "/v1/queues/mail/pause", None),
    ("POST", "/v1/queues/mail/resume", None),
    ("POST", "/v1/queues/mail/drain", None),
    ("POST", "/v1/queues/mail/clean", {"status": "failed"}),
    ("PUT", "/v1/queues/mail/concurrency", {"concurrency": 1}),
    ("PUT", "/v1/queues/mail/rate-limit", {"rate_limit": None}),
    ("POST", "/v1/schedules/nightly/trigger", None),
    ("DELETE", "/v1/schedules/nightly", None),
]
LOOKS = ["/v1/queues", "/v1/queues/mail", "/v1/schedules", "/v1/schedules/nightly/next", "/v1/workers"]


async def test_who_may_change(anybody: Client) -> None:
    """SEED-153, A36, A37: 401 without a caller, 403 for one without the scope, and for one of a tenant whatever it may
    do.
    """
    callers = [as_caller(), as_caller("read"), as_caller("enqueue", "read"), as_caller("admin", tenant="acme")]
    for method, path, body in WRITES:
        unknown = await anybody.request(method, path, json=body)
        answers = [await anybody.request(method, path, json=body, headers=caller) for caller in callers]

        assert problem(unknown)[0] == 401, path
        assert [problem(answer) for answer in answers] == [(403, "forbidden")] * 4, path
    assert (await anybody.get("/v1/audit", headers=as_caller("read"))).json()["items"] == []


async def test_who_may_look(anybody: Client) -> None:
    """SEED-153: 401, 403, 200; and A37: nothing of the counts of all tenants for a caller of one."""
    for path in LOOKS:
        assert problem(await anybody.get(path))[0] == 401, path
        for caller in (as_caller("enqueue"), as_caller("read", tenant="acme")):
            assert problem(await anybody.get(path, headers=caller)) == (403, "forbidden"), path
        assert (await anybody.get(path, headers=as_caller("read"))).status_code in (200, 404), path


# Schedules --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scheduled(app: Taurine) -> None:
    @app.cron("0 3 * * *", tz="Europe/Berlin", id="nightly", queue="things", description="Cleans up.")
    async def nightly(_: Context) -> dict[str, int]:
        return {"deleted": 12}

    del nightly


@pytest.mark.usefixtures("scheduled")
async def test_schedules(client: Client) -> None:
    """When they tick, in words and in times; one out of turn."""
    (listed,) = (await client.get("/v1/schedules")).json()["items"]
    runs = (await client.get(listed["links"]["next"], params={"count": 3})).json()["runs"]
    triggered = await client.post(listed["links"]["trigger"])
    job = (await client.get(triggered.headers["location"])).json()

    assert (listed["id"], listed["pattern"], listed["tz"], listed["by"]) == (
        "nightly",
        "0 3 * * *",
        "Europe/Berlin",
        "workers",
    )
    assert listed["text"] == "at 03:00, every day"
    assert len(runs) == 3
    assert all("T03:00:00+0" in run for run in runs)
    assert (triggered.status_code, job["type"], job["created_by"]) == (202, "nightly", "local")
    assert problem(await client.delete("/v1/schedules/nightly")) == (400, "invalid_option")
    assert problem(await client.post("/v1/schedules/nightli/trigger")) == (404, "schedule_not_found")


@pytest.mark.usefixtures("scheduled")
async def test_how_many_runs(client: Client) -> None:
    """A14, A32."""
    for count in ("0", "-1", "101", "1e9", "x"):
        answer = await client.get("/v1/schedules/nightly/next", params={"count": count})
        assert problem(answer) == (400, "invalid_request"), count


async def test_a_schedule_that_is_left_over_is_ended(
    app: Taurine, app_factory: Callable[..., Taurine], client: Client
) -> None:
    """What another version of the program has installed."""
    before = app_factory()

    @before.cron("0 3 * * *", id="old", queue="things")
    async def old(_: Context) -> None: ...

    async with before.worker(upkeep=Upkeep(install_every=0.01)):
        await eventually(lambda: stands(app, "old"), 20)
    removed = await client.delete("/v1/schedules/old")

    assert (removed.status_code, removed.content) == (204, b"")
    assert problem(await client.get("/v1/schedules/old")) == (404, "schedule_not_found")


async def stands(app: Taurine, schedule_id: str) -> bool:
    return any(info.id == schedule_id for info in await app.schedules.list())


# Workers and audit ------------------------------------------------------------------------------------------------------------------


async def test_workers(app: Taurine, client: Client) -> None:
    async with app.worker(queues=["mail"], concurrency=7, name="north"):

        async def told() -> list[Any] | None:
            return (await client.get("/v1/workers")).json()["items"] or None

        found = await eventually(told, 20, "no worker has told of itself")
    stopped = (await client.get("/v1/workers", params={"all": "true"})).json()["items"]

    assert found is not None
    assert [(one["name"], one["queues"], one["slots"], one["state"]) for one in found] == [
        ("north", ["mail"], 7, "running")
    ]
    assert [one["state"] for one in stopped] == ["stopped"]


async def test_the_audit_in_pages_and_by_tenant(app: Taurine, anybody: Client) -> None:
    """A37, A39: the latest first; a tenant sees what concerns its jobs."""
    for tenant in ("acme", "globex", "acme"):
        await app.enqueue("invite.send", {"user": "eve", "address": "eve@example.com"}, tenant=tenant, user="ada")
    reader = as_caller("read")

    first = (await anybody.get("/v1/audit", params={"limit": 2}, headers=reader)).json()
    second = (await anybody.get("/v1/audit", params={"cursor": first["next_cursor"]}, headers=reader)).json()
    acme = (await anybody.get("/v1/audit", headers=as_caller("read", tenant="acme"))).json()
    future = (await anybody.get("/v1/audit", params={"since": "2035-01-01T00:00:00Z"}, headers=reader)).json()

    assert [one["tenant"] for one in first["items"] + second["items"]] == ["acme", "globex", "acme"]
    assert second["next_cursor"] is None
    assert [one["tenant"] for one in acme["items"]] == ["acme", "acme"]
    assert future["items"] == []
