"""Looking at jobs, and changing one: SEED-019, SEED-151, SEED-234, SEED-275, SEED-276, SEED-285; TRG-67 to 69; CON-11,
CON-12; A29, A31, A32, A34, A37, A42, A49.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import Connection, insert

from support.api import Answer, Client, problem
from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import TransitionRefused
from taurine.http import Access, Caller
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.schema import attempt
from taurine.ledger.statuses import STATUSES, phase_of
from taurine.retry import Fixed, Retry


async def run(app: Taurine, *job_ids: str) -> None:
    """Let a worker run these jobs to their ends."""
    async with app.worker():
        for job_id in job_ids:
            record = await app.wait(job_id, timeout=30)
            assert record is not None
            assert record.finished_at is not None, f"{job_id} is {record.status}"


async def shown(client: Client, job_id: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer: Answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


# One job ------------------------------------------------------------------------------------------------------------------------------


async def test_the_four_cases_of_a_status(app: Taurine, client: Client) -> None:
    """SEED-151: unknown is 404; the result only of a completed job, the error only of a failed one."""
    await client.enqueue(job_id="well")
    await client.enqueue(job_id="ill", payload={"user": "nobody", "address": "ada@example.com"})
    waiting = await shown(client, "well")
    await run(app, "well", "ill")
    well, ill = await shown(client, "well"), await shown(client, "ill")

    assert problem(await client.get("/v1/jobs/none")) == (404, "job_not_found")
    assert (waiting["status"], waiting["phase"], "output" in waiting, "error" in waiting) == (
        "queued",
        "queued",
        False,
        False,
    )
    assert (well["phase"], well["output"], "error" in well) == ("completed", {"message": "m-ada"}, False)
    assert (ill["phase"], ill["error"]["message"], "output" in ill) == ("failed", "no such user", False)
    assert ill["attempts"] == ill["max_attempts"] or ill["error"]["type"] == "LookupError"


async def test_the_record_answers_whatever_became_of_the_queue(
    app: Taurine, client: Client, raw: Redis, prefix: str
) -> None:
    """SEED-276, CON-11: the record is the truth; a queue that was swept changes no answer."""
    await client.enqueue(job_id="a")
    await run(app, "a")
    await raw.delete(*[key async for key in raw.scan_iter(f"{prefix}:*")])

    assert (await shown(client, "a"))["status"] == "completed"


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_is_one_of_four_phases(status: Any) -> None:
    """CON-12: one mapping, which the guide shows."""
    expected = {
        "queued": "queued",
        "retrying": "queued",
        "running": "running",
        "waiting": "running",
        "completed": "completed",
        "failed": "failed",
        "cancelled": "failed",
        "expired": "failed",
    }
    assert phase_of(status) == expected[status]


async def test_attempts_lines_and_audit_of_a_job(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    """TRG-68: what is needed to understand a run, each under its link."""
    app = app_factory()

    @app.job("twice", retry=Retry(attempts=2, backoff=Fixed(0.001)))
    async def twice(text: str, ctx: Any) -> str:
        ctx.log.info("tries", number=ctx.attempt)
        if ctx.attempt == 1:
            raise RuntimeError("not yet")
        return text

    client = client_of(app)
    accepted = (await client.enqueue("twice", "x", job_id="a")).json()
    await run(app, "a")
    links = accepted["links"]
    attempts = (await client.get(links["attempts"])).json()["items"]
    log = (await client.get(links["logs"], params={"limit": 1})).json()
    rest = (await client.get(links["logs"], params={"after": log["next_after"]})).json()
    audit = (await client.get(links["audit"])).json()["items"]
    why = (await client.get(links["why"])).json()

    assert [(attempt["number"], attempt["outcome"]) for attempt in attempts] == [(1, "retried"), (2, "completed")]
    assert attempts[0]["error"]["message"] == "not yet"
    assert [line["fields"]["number"] for line in (*log["items"], *rest["items"])] == [1, 2]
    assert rest["next_after"] is None
    assert [(entry["actor"], entry["action"]) for entry in audit] == [("local", "enqueue")]
    assert why["code"] == "finished"
    assert twice.name == "twice"


@pytest.mark.parametrize("part", ["attempts", "audit"])
async def test_what_has_happened_to_a_job_comes_in_pages(app: Taurine, client: Client, part: str) -> None:
    """However much it is, an answer is bounded."""
    await client.enqueue(job_id="a", delay=600)
    await put_in_history(app, "a", times=3)
    path = f"/v1/jobs/a/{part}"

    whole = (await client.get(path)).json()
    first = (await client.get(path, params={"limit": 2})).json()
    second = (await client.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    newest = (await client.get(path, params={"limit": 1, "newest_first": True})).json()

    assert len(whole["items"]) >= 3
    assert whole["next_cursor"] is None
    assert (first["items"], second["items"]) == (whole["items"][:2], whole["items"][2:4])
    assert newest["items"] == whole["items"][-1:]
    assert problem(await client.get(path, params={"limit": 501})) == (400, "invalid_request")
    assert problem(await client.get(path, params={"cursor": "zz"})) == (400, "invalid_option")


async def put_in_history(app: Taurine, job_id: str, *, times: int) -> None:
    """Attempts and actions as they stand in the ledger."""
    attempts = [
        {"job_id": job_id, "fence": number, "number": number, "outcome": "retried", "finished_at": number}
        for number in range(1, times + 1)
    ]
    actions = [AuditEntry(number, "ann", "retry", job_id) for number in range(times)]

    def write(connection: Connection) -> None:
        connection.execute(insert(attempt), attempts)
        record_actions(connection, actions)

    await app._backend().database.write(write)


@pytest.mark.parametrize("part", ["", "/logs", "/attempts", "/audit", "/why"])
async def test_what_belongs_to_no_job_is_404(client: Client, part: str) -> None:
    assert problem(await client.get(f"/v1/jobs/none{part}")) == (404, "job_not_found")


@pytest.mark.parametrize("part", ["cancel", "retry", "reschedule"])
async def test_nothing_is_changed_by_get(client: Client, part: str) -> None:
    """A29: also not with a header that names another method."""
    await client.enqueue(job_id="a")
    for headers in ({}, {"X-HTTP-Method-Override": "POST"}, {"X-Method-Override": "POST"}):
        answer = await client.get(f"/v1/jobs/a/{part}", headers=headers)
        assert problem(answer) == (405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"
    assert (await shown(client, "a"))["status"] == "queued"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/jobs/..%2f..%2fetc",
            "http://localhost//evil.example/v1/jobs",
            "/v1/jobs/a;b",
            "/v1/jobs/%00",
            "/v1/jobs/%E0%80%80",
        ),
        *("/v1/jobs/%252e%252e", "/v1/jobs/a%0d%0aSet-Cookie:x", "/v1//jobs", "/v1/jobs/" + "x" * 5000, "/%2e%2e/v1"),
    ],
)
async def test_a_path_that_plays_tricks_is_no_path(client: Client, path: str) -> None:
    """A34: nobody is sent elsewhere."""
    answer = await client.get(path)
    assert problem(answer)[0] in (400, 404)
    assert "location" not in answer.headers


# Many jobs ----------------------------------------------------------------------------------------------------------------------------


async def test_a_list_by_its_filters(app: Taurine, client: Client) -> None:
    """TRG-67."""
    before = datetime.now(UTC)
    await client.enqueue(job_id="a", tags=["spring"])
    await client.enqueue("thing.keep", [], job_id="b")
    await client.enqueue(job_id="c", tenant="acme", payload={"user": "nobody", "address": "a@b.c"})
    await run(app, "a", "b")

    async def found(**filters: Any) -> list[str]:
        return ids(await client.get("/v1/jobs", params=filters))

    assert await found() == ["c", "b", "a"]
    assert await found(type="thing.keep") == ["b"]
    assert await found(queue="mail") == ["c", "a"]
    assert await found(tag="spring") == ["a"]
    assert await found(tenant="acme") == ["c"]
    assert await found(status="completed") == ["b", "a"]
    assert await found(phase="queued", type="thing.keep") == []
    assert await found(user="local", limit=1) == ["c"]
    assert await found(since=before.isoformat()) == ["c", "b", "a"]
    assert await found(until=before.isoformat()) == []


async def test_pages_are_gone_through_by_their_cursors(client: Client) -> None:
    await client.post("/v1/jobs/thing.keep/batch", json={"payloads": [*range(7)]})
    seen: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor:
        answer = await client.get("/v1/jobs", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))
        seen += ids(answer)
        cursor, pages = answer.json()["next_cursor"], pages + 1

    assert (len(seen), len(set(seen)), pages) == (7, 7, 3)


async def test_a_text_is_searched_for(client: Client) -> None:
    """A49."""
    await client.enqueue(job_id="invite:ada", tags=["100%"])
    await client.enqueue("thing.keep", {}, job_id="b")

    for text, expected in {
        "ADA": ["invite:ada"],
        "00%": ["invite:ada"],
        "%": ["invite:ada"],
        "_": [],
        "thing": ["b"],
    }.items():
        assert ids(await client.get("/v1/jobs", params={"q": text})) == expected, text
    assert ids(await client.get("/v1/jobs", params={"q": "ada", "type": "thing.keep"})) == []


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=501", "limit=1e9", "limit=-1", "limit=x", "cursor=x", "cursor=eyJhIjoxfQ", "page=-1"),
        *("status=done", "phase=x", "since=yesterday", "since=2030-01-01T00:00:00", "since=99999999999999999999"),
        *("q=", "q=" + "x" * 201, "q=%00", "type=", "status=queued&phase=queued", "sort=id", "days=999999999"),
    ],
)
async def test_a_parameter_out_of_its_range_is_refused(client: Client, query: str) -> None:
    """A31, A32."""
    status, code = problem(await client.get(f"/v1/jobs?{query}"))
    assert (status, code in ("invalid_request", "invalid_option")) == (400, True)


@pytest.mark.parametrize(
    "query", ["type=%00", "queue=a%00b", "tenant=%00", "tag=%00", "user=%00", "since=0001-01-01T00:00:00Z"]
)
async def test_a_filter_that_nothing_can_match_is_no_failure(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client], ledger_url: str, query: str
) -> None:
    """A32: PostgreSQL knows no character 0."""
    answer = await client_of(app_factory()).get(f"/v1/jobs?{query}")
    assert answer.status_code in (200, 400, 404), answer.text


async def test_a_misspelt_filter_is_told_the_near_miss(client: Client) -> None:
    answer = await client.get("/v1/jobs", params={"type": "invite.sen"})
    assert problem(answer) == (404, "unknown_job_type")
    assert "did you mean 'invite.send'?" in answer.json()["detail"]


async def test_many_are_looked_up_by_id_in_one_call(client: Client) -> None:
    await client.enqueue(job_id="a")
    await client.enqueue(job_id="b")
    answer = await client.post("/v1/lookup", json={"ids": ["b", "none", "a", "b"]})

    assert ids(answer) == ["b", "a"]
    assert answer.json()["missing"] == ["none"]
    for wrong in ({"ids": []}, {"ids": ["x"] * 501}, {"ids": [7]}, {"ids": "a"}, {"id": ["a"]}, []):
        assert problem(await client.post("/v1/lookup", json=wrong)) == (400, "invalid_request")


async def test_an_answer_has_room_for_some_megabytes(app: Taurine, client: Client) -> None:
    """A38: the rest is asked for again, and the event loop goes on while the payloads are looked through."""
    handles = await app.enqueue_many("thing.keep", [{"note": "token=abc " * 10_000}] * 80)
    wanted = [handle.id for handle in handles]
    found = (await client.post("/v1/lookup", json={"ids": wanted})).json()
    assert [item["id"] for item in found["items"]] + found["left_out"] == wanted
    assert (len(found["items"]), found["missing"]) == (41, [])
    assert found["items"][0]["payload"] == {"note": "token=[redacted] " * 10_000}

    pages, cursor = 0, None
    listed: set[str] = set()
    while pages == 0 or cursor is not None:
        page = (await client.get("/v1/jobs", params={"limit": 500} | ({"cursor": cursor} if cursor else {}))).json()
        listed |= {item["id"] for item in page["items"]}
        assert sum(len(str(item["payload"])) for item in page["items"]) < 8_000_000
        cursor, pages = page["next_cursor"], pages + 1
    assert (listed, pages) == ({*wanted}, 2)


async def test_counts_by_status(app: Taurine, client: Client) -> None:
    await client.enqueue(job_id="a", tenant="acme")
    await client.enqueue("thing.keep", 1, job_id="b")
    await run(app, "a")
    counts = (await client.get("/v1/counts", params={"queue": "mail"})).json()["counts"]

    assert counts["completed"] == {"number": 1, "exact": True}
    assert (await client.get("/v1/counts", params={"tenant": "none"})).json()["counts"]["completed"]["number"] == 0


# Changing one -------------------------------------------------------------------------------------------------------------------------


async def test_a_job_is_cancelled_once(client: Client) -> None:
    await client.enqueue(job_id="a")
    cancelled = await client.post("/v1/jobs/a/cancel", json={"reason": "withdrawn"})

    assert (cancelled.json()["status"], cancelled.json()["cancel_reason"]) == ("cancelled", "withdrawn")
    assert problem(await client.post("/v1/jobs/a/cancel")) == (409, "transition_refused")
    assert problem(await client.post("/v1/jobs/none/cancel")) == (404, "job_not_found")
    actions = (await client.get("/v1/jobs/a/audit")).json()["items"]
    assert [(action["actor"], action["action"]) for action in actions] == [("local", "enqueue"), ("local", "cancel")]


async def test_a_job_is_run_again_with_another_payload(app: Taurine, client: Client) -> None:
    """TRG-69: a new generation, whose record says so."""
    await client.enqueue(job_id="a", payload={"user": "nobody", "address": "a@b.c"})
    await run(app, "a")
    wrong = await client.post("/v1/jobs/a/retry", json={"payload": {"user": 7}})
    again = await client.post("/v1/jobs/a/retry", json={"payload": {"user": "eve", "address": "e@b.c"}})
    too_late = await client.post("/v1/jobs/a/retry", json={"payload": {"user": "eve", "address": "e@b.c"}})
    await run(app, "a")

    assert problem(wrong) == (422, "payload_invalid")
    assert (again.json()["generation"], again.json()["status"]) == (1, "queued")
    assert problem(too_late) == (409, "transition_refused")
    assert (await shown(client, "a"))["output"] == {"message": "m-eve"}


async def test_a_job_is_given_another_time_and_starts_then(app: Taurine, client: Client) -> None:
    await client.enqueue(job_id="a", delay=3600, expires_in=60)
    later = await client.post("/v1/jobs/a/reschedule", json={"delay": 7200})
    before = datetime.fromisoformat(later.json()["scheduled_for"])
    expires = datetime.fromisoformat(later.json()["expires_at"])
    assert timedelta(seconds=7000) < before - datetime.now(UTC) < timedelta(seconds=7300)
    assert abs(expires - before - timedelta(seconds=60)) < timedelta(seconds=1)

    now = await client.post("/v1/jobs/a/reschedule", json={"delay": 0})
    assert now.status_code == 200
    await run(app, "a")

    job = await shown(client, "a")
    assert (job["status"], job["attempts"]) == ("completed", 1)
    actions = (await client.get("/v1/jobs/a/audit")).json()["items"]
    assert [action["action"] for action in actions] == ["enqueue", "reschedule", "reschedule"]
    assert problem(await client.post("/v1/jobs/a/reschedule", json={"delay": 1})) == (409, "transition_refused")


async def test_a_job_in_line_is_put_off(app: Taurine, client: Client) -> None:
    """The queue's copy with the old time does not run."""
    await client.enqueue(job_id="a")
    await client.enqueue(job_id="b")
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    await client.post("/v1/jobs/a/reschedule", json={"run_at": in_an_hour.isoformat()})
    await run(app, "b")

    assert (await shown(client, "a"))["status"] == "queued"
    (view,) = [view for view in await app.queues.list() if view.name == "mail"]
    assert view.standing is not None
    assert view.standing.counts["delayed"] == 1


async def test_the_pause_before_the_next_attempt_is_changed_and_attempts_are_kept(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    app = app_factory()

    @app.job("twice", retry=Retry(attempts=2, backoff=Fixed(3600.0)))
    async def twice(text: str, ctx: Any) -> int:
        if ctx.attempt == 1:
            raise RuntimeError("not yet")
        return ctx.attempt

    client = client_of(app)
    await client.enqueue("twice", "x", job_id="a")
    async with app.worker():
        await eventually(lambda: _has_status(app, "a", "retrying"), 20, "it does not wait for its next attempt")
        waiting = await shown(client, "a")
        assert (waiting["last_error"]["message"], "error" in waiting) == ("not yet", False)
        await client.post("/v1/jobs/a/reschedule", json={"delay": 0})
        record = await app.wait("a", timeout=20)

    assert record is not None
    assert (record.status, record.output, record.attempts) == ("completed", 2, 2)
    assert twice.name == "twice"


async def _has_status(app: Taurine, job_id: str, status: str) -> bool:
    record = await app.get(job_id)
    return record is not None and record.status == status


async def test_a_job_that_runs_is_not_given_another_time(app_factory: Callable[..., Taurine]) -> None:
    app = app_factory()
    entered, gate = asyncio.Event(), asyncio.Event()

    @app.job("held")
    async def held(text: str) -> None:
        entered.set()
        await gate.wait()

    await app.enqueue("held", "x", job_id="a")
    async with app.worker():
        await asyncio.wait_for(entered.wait(), 20)
        with pytest.raises(TransitionRefused):
            await app.reschedule("a", delay=10)
        gate.set()
        record = await app.wait("a", timeout=20)
    assert record is not None
    assert (record.status, record.generation) == ("completed", 0)
    assert held.name == "held"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"delay": -1},
        {"delay": 1, "run_at": "2030-01-01T00:00:00Z"},
        {"run_at": "2030-01-01T00:00:00"},
        {"delay": 1e300},
    ],
)
async def test_a_time_that_cannot_be_is_refused(client: Client, body: dict[str, Any]) -> None:
    await client.enqueue(job_id="a")
    assert problem(await client.post("/v1/jobs/a/reschedule", json=body))[0] == 400


# Tenants ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def of_tenant(app: Taurine, client_of: Callable[..., Client]) -> Client:
    """A caller of the tenant `acme`, who may do everything there."""

    async def login(_: object) -> Caller:
        return Caller(name="ann", scopes=frozenset({"enqueue", "read", "operate"}), tenant="acme")

    return client_of(app, access=Access(host_login=login))


async def test_a_callers_tenant_is_the_jobs_tenant(client: Client, of_tenant: Client) -> None:
    await of_tenant.enqueue(job_id="a")
    assert ((await shown(client, "a"))["tenant"], (await shown(client, "a"))["created_by"]) == ("acme", "ann")
    assert problem(await of_tenant.enqueue(tenant="other")) == (404, "tenant_not_found")


async def test_another_tenants_job_is_no_job(client: Client, of_tenant: Client) -> None:
    """A37, SEED-234, SEED-275, SEED-285: on every route, and with the words of one that never was."""
    await client.enqueue(job_id="theirs", tenant="other", tags=["t"])
    await client.enqueue(job_id="nobodys")
    for job_id in ("theirs", "nobodys"):
        for part in ("", "/logs", "/attempts", "/audit", "/why"):
            other, none = await of_tenant.get(f"/v1/jobs/{job_id}{part}"), await of_tenant.get(f"/v1/jobs/none{part}")
            assert problem(other) == (404, "job_not_found")
            assert other.json()["detail"].replace(job_id, "none") == none.json()["detail"]
        for part, body in (("cancel", {}), ("retry", {}), ("reschedule", {"delay": 1})):
            assert problem(await of_tenant.post(f"/v1/jobs/{job_id}/{part}", json=body)) == (404, "job_not_found")
        found = (await of_tenant.post("/v1/lookup", json={"ids": [job_id]})).json()
        assert found == {"items": [], "missing": [job_id], "left_out": []}
        assert ids(await of_tenant.get("/v1/jobs", params={"q": job_id})) == []
    assert ids(await of_tenant.get("/v1/jobs")) == []
    assert ids(await of_tenant.get("/v1/jobs", params={"tag": "t"})) == []
    assert problem(await of_tenant.get("/v1/jobs", params={"tenant": "other"})) == (404, "tenant_not_found")
    assert problem(await of_tenant.get("/v1/counts", params={"tenant": "other"})) == (404, "tenant_not_found")
    counts = (await of_tenant.get("/v1/counts")).json()["counts"]
    assert all(count["number"] == 0 for count in counts.values())
    assert (await shown(client, "theirs"))["status"] == "queued"


async def test_over_quota_is_429_and_no_job(app: Taurine, of_tenant: Client) -> None:
    """SEED-019."""
    await app.set_quota("acme", max_open=1)
    await of_tenant.enqueue(job_id="a")
    refused = await of_tenant.enqueue(job_id="b")

    assert problem(refused) == (429, "quota_exceeded")
    assert int(refused.headers["retry-after"]) >= 1
    assert ids(await of_tenant.get("/v1/jobs")) == ["a"]


# What is not shown ----------------------------------------------------------------------------------------------------------------------


SECRET = {"password": "hunter2", "note": "token=abc123 of ada@example.com", "nested": [{"api_key": "k-1"}]}


async def test_secrets_are_not_shown_anywhere(app: Taurine, client: Client) -> None:
    """A42."""
    await client.enqueue("thing.keep", SECRET, job_id="a", metadata=SECRET)
    await run(app, "a")
    answers = [
        await client.get("/v1/jobs/a"),
        await client.get("/v1/jobs"),
        await client.get("/v1/jobs?q=a"),
        await client.post("/v1/lookup", json={"ids": ["a"]}),
        await client.get("/v1/jobs/a/why"),
    ]
    for answer in answers:
        assert answer.status_code == 200
        for secret in ("hunter2", "abc123", "ada@example.com", "k-1"):
            assert secret not in answer.text
    assert (await shown(client, "a"))["payload"]["password"] == "[redacted]"
    record = await app.get("a")
    assert record is not None
    assert record.payload == SECRET


async def test_who_may_sees_them_and_an_application_may_hide_payloads_altogether(
    app: Taurine, client_of: Callable[..., Client]
) -> None:
    """A42."""
    everything = client_of(app, access=Access(unredacted={"admin"}))
    nothing = client_of(app, payloads=False)
    await everything.enqueue("thing.keep", SECRET, job_id="a")
    await run(app, "a")

    assert ((await shown(everything, "a"))["payload"], (await shown(everything, "a"))["output"]) == (SECRET, SECRET)
    assert not {"payload", "output"} & (await shown(nothing, "a")).keys()
