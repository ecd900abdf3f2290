"""What holds for every route, whoever adds one: the routes are found by walking the application. What is
listed beside them, exceptions and bodies, must be of routes that there are (A24, A36, A37).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy import select, update

from support.api import Answer, Client
from taurine.app import Taurine
from taurine.jobs.handler.context import Context
from taurine.jobs.operations.bulk import OPERATIONS_QUEUE
from taurine.jobs.operations.bulk_orders import BulkFilter, BulkOrder
from taurine.ledger.schema import api_key, audit, dead_letter, job, job_log, job_tag, quota

WithKey = Callable[..., Awaitable[Client]]

OPEN = {
    ("GET", "/health/live"): "a probe has no credentials, and it says one word",
    ("GET", "/health/ready"): "as above; why it is not ready is for callers who may read",
    ("GET", "/health/queues"): "as above",
    ("POST", "/v1/session"): "logging in is how one gets a credential",
    ("GET", "/v1/login/oidc"): "as above",
    ("GET", "/v1/login/oidc/callback"): "as above",
}
"""The routes that somebody without credentials may call."""

LOOKING = {
    ("POST", "/v1/lookup"): "ids are too long for a query; it changes nothing",
    ("DELETE", "/v1/session"): "everybody may end their own session",
}
"""Routes of methods that change something, which somebody who may only read may call all the same."""

NOT_OF_TENANTS = {
    "GET /v1/session": "who calls",
    "GET /v1/events": "a stream tells nothing at its beginning; what it tells is in the tests of streams",
    "WEBSOCKET /v1/events": "as above",
    "GET /v1/queues": "403 for callers with a tenant",
    "GET /v1/queues/{name}": "as above",
    "GET /v1/schedules": "as above",
    "GET /v1/schedules/{schedule_id}": "as above",
    "GET /v1/schedules/{schedule_id}/next": "as above",
    "GET /v1/workers": "as above",
    "GET /v1/alerts": "as above",
    "GET /cron": "asks for the cron secret",
    "GET /cron/{schedule_id}": "as above",
    "GET /metrics": "403 for callers with a tenant",
    "GET /openapi.json": "the same for all",
}
"""Routes whose answer does not depend on what a tenant has, or is not for one."""

FILLED = {
    "type": "invite.send",
    "queue": "mail",
    "name": "mail",
    "schedule_id": "acme-schedule",
    "entry_id": "acme-letter",
    "bulk_id": "acme-bulk",
    "key_id": "acme-key",
}
"""What stands in paths, by the parameter's name; else a job of acme's."""

VALUES = {
    "q": ("acme",),
    "status": ("queued", "failed", "open"),
    "phase": ("queued",),
    "type": ("invite.send", "acme.type"),
    "queue": ("mail", "acme-queue"),
    "tenant": ("acme",),
    "tag": ("acme-tag",),
    "user": ("acme-ada",),
    "actor": ("acme-ada",),
    "since": ("2000-01-01T00:00:00Z",),
    "until": ("2038-01-01T00:00:00Z",),
    "fingerprint": ("acme-cause",),
    "job_id": ("acme-job",),
    "action": ("redrive", "discard", "retry", "cancel"),
    "limit": ("500",),
    "newest_first": ("true",),
    "follow": ("false",),
    "count": ("5",),
    "all": ("true",),
}
"""What is asked for, by the name of the query's parameter."""

PLACES = {
    "cursor": "the place of a page",
    "after": "the place of a page, or of a stream",
    "access_token": "a credential",
    "at": "of a run",
    "wait": "seconds",
}
"""Parameters that choose nothing of a tenant's."""

_PAYLOAD = {"user": "x", "address": "xyz"}

BODIES: dict[tuple[str, str], tuple[dict[str, Any], ...]] = {
    ("POST", "/v1/jobs/{type}"): (
        *({"payload": _PAYLOAD, "job_id": "acme-job", "on_duplicate": how} for how in ("return", "rerun", "error")),
        {"payload": _PAYLOAD, "tenant": "acme"},
    ),
    ("POST", "/v1/jobs/{type}/batch"): ({"payloads": [_PAYLOAD], "tenant": "acme"},),
    ("POST", "/v1/lookup"): ({"ids": ["acme-job"]},),
    ("POST", "/v1/jobs/{job_id}/cancel"): ({"reason": "x"},),
    ("POST", "/v1/jobs/{job_id}/retry"): ({}, {"payload": _PAYLOAD}),
    ("POST", "/v1/jobs/{job_id}/reschedule"): ({"run_at": "2030-01-01T00:00:00Z"}, {"delay": 0}),
    ("POST", "/v1/session"): ({"name": "acme-ada", "password": "x"},),
    ("DELETE", "/v1/session"): ({},),
    ("POST", "/v1/tokens"): ({"job_id": "acme-job"}, {"tag": "acme-tag"}, {"tenant": "acme"}),
    ("POST", "/v1/keys"): ({"name": "x", "scopes": ["admin"], "tenant": "acme"},),
    ("DELETE", "/v1/keys/{key_id}"): ({},),
    ("POST", "/v1/dead-letters/{entry_id}/redrive"): ({}, {"payload": _PAYLOAD}),
    ("POST", "/v1/dead-letters/{entry_id}/discard"): ({},),
    ("POST", "/v1/bulk"): (
        *({"action": action, "ids": ["acme-job"]} for action in ("retry", "cancel")),
        *({"action": action, "ids": ["acme-letter"]} for action in ("redrive", "discard")),
        *({"action": action, "where": {}, "expected": 100} for action in ("redrive", "retry", "discard", "cancel")),
        {"action": "cancel", "where": {"tag": "acme-tag"}, "expected": 100},
        {"action": "cancel", "where": {}, "expected": 100, "tenant": "acme"},
    ),
    ("POST", "/v1/bulk/{bulk_id}/cancel"): ({},),
    ("POST", "/v1/queues/{name}/pause"): ({},),
    ("POST", "/v1/queues/{name}/resume"): ({},),
    ("POST", "/v1/queues/{name}/drain"): ({"delayed": True},),
    ("POST", "/v1/queues/{name}/clean"): ({"status": "queued"}, {"status": "failed"}),
    ("PUT", "/v1/queues/{name}/concurrency"): ({"concurrency": 1},),
    ("PUT", "/v1/queues/{name}/rate-limit"): ({"rate_limit": {"max": 1, "duration": 60}}, {"rate_limit": None}),
    ("POST", "/v1/schedules/{schedule_id}/trigger"): ({},),
    ("DELETE", "/v1/schedules/{schedule_id}"): ({},),
    ("POST", "/cron/{schedule_id}"): ({},),
}
"""What can be asked of each route that changes something, about what acme has."""

ANYWHERE: tuple[dict[str, Any], ...] = (
    *({}, {"reason": "x"}, {"ids": ["acme-job"]}, {"where": {}}, {"tenant": "acme"}, {"tag": "acme-tag"}),
    {"all": True},
)
"""What fits few routes, and is asked of all."""

OTHERWISE = {
    ("POST", "/v1/session"): "asks for a password",
    ("POST", "/cron/{schedule_id}"): "asks for the cron secret",
    ("DELETE", "/v1/schedules/{schedule_id}"): "workers would install a declared one again",
}
"""Routes that refuse everybody who asks so."""


class Found(NamedTuple):
    """A route: its method, "WEBSOCKET" for one of those, and its path with and without parameters."""

    method: str
    template: str
    path: str


def routes_of(routes: Sequence[Any], before: str = "") -> Iterator[Found]:
    for route in routes:
        inner = getattr(getattr(route, "original_router", route), "routes", None)
        path = before + getattr(route, "path", "")
        if inner:
            yield from routes_of(inner, path)
            continue
        filled = re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: FILLED.get(match[1], "acme-job"), path)
        for method in sorted(getattr(route, "methods", None) or {"WEBSOCKET"}):
            if method not in ("HEAD", "OPTIONS"):
                yield Found(method, path, filled)


def routes_behind(client: Client) -> list[Found]:
    return list(routes_of(client._transport.app.routes))  # pyright: ignore[reportAttributeAccessIssue]


async def call(client: Client, route: Found, body: Any = None) -> tuple[int, str]:
    """The status and text of an answer; 0 for a stream that goes on."""
    if route.method == "WEBSOCKET":
        return await _ask_for_websocket(client, route.path)
    given: dict[str, Any] = {} if route.method == "GET" else {"json": {} if body is None else body}
    streams = asyncio.Event()

    async def until_it_streams(scope: Any, receive: Any, send: Any) -> None:
        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start" and b"event-stream" in dict(message["headers"]).get(
                b"content-type", b""
            ):
                streams.set()
            await send(message)

        await client._transport.app(scope, receive, noted)  # pyright: ignore[reportAttributeAccessIssue]

    async with Client(until_it_streams, headers=client.headers) as noting:
        asked = asyncio.ensure_future(noting.request(route.method, route.path, **given))
        streamed = asyncio.ensure_future(streams.wait())
        await asyncio.wait({asked, streamed}, return_when=asyncio.FIRST_COMPLETED)
        streamed.cancel()
        if streams.is_set():
            asked.cancel()
            await asyncio.wait({asked})
            return 0, ""
        answer: Answer = await asked
    return answer.status_code, answer.text


async def _ask_for_websocket(client: Client, path: str) -> tuple[int, str]:
    sent: list[dict[str, Any]] = []
    waiting = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not sent:
            return {"type": "websocket.connect"}
        waiting.set()
        return {"type": "websocket.disconnect", "code": 1001}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.lower(), value) for name, value in client.headers.raw] + [(b"host", b"localhost")]
    path, _, query = path.partition("?")
    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "headers": headers}
    more = {
        "client": ("127.0.0.1", 5),
        "scheme": "ws",
        "subprotocols": [],
        "root_path": "",
        "state": {},
        "query_string": query.encode(),
    }
    extensions = {"extensions": {"websocket.http.response": {}}}
    async with asyncio.timeout(10):
        await client._transport.app({**scope, **more, **extensions}, receive, send)  # pyright: ignore[reportAttributeAccessIssue]
    if sent[0]["type"] == "websocket.accept":
        return 0, ""
    return int(sent[0].get("status", 403)), str(sent)


async def test_no_route_answers_somebody_without_credentials_but_the_open_ones(app: Taurine, anybody: Client) -> None:
    """A24: with credentials configured everything else is 401: the document, the metrics, streams and whatever comes."""
    await app.api_keys.create("first", scopes=["read"])
    found = routes_behind(anybody)
    assert len(found) > 20
    answers = {route[:2]: (await call(anybody, route))[0] for route in found}
    assert {route for route, status in answers.items() if status != 401} == OPEN.keys()
    for path in ("/docs", "/redoc", "/static/x", "/v1", "/admin"):
        assert (await anybody.get(path)).status_code in (401, 404), path


async def test_what_is_open_names_nothing(app: Taurine, anybody: Client, with_key: WithKey) -> None:
    """SEED-274: a word, and no queue, type, host, number of a version or job."""
    await (await with_key("enqueue")).enqueue(job_id="acme-job", tenant="acme")
    for method, path in OPEN:
        if path.startswith("/health"):
            answer = await anybody.request(method, path)
            for name in ("mail", "things", "invite", "acme", "valkey", "sqlite", "127.0.0.1", "test"):
                assert name not in answer.text.lower(), (path, answer.text)


async def test_who_may_only_read_changes_nothing_by_any_route(with_key: WithKey) -> None:
    """A36: 403 on the server, whatever a page hides."""
    reader = await with_key("read")
    changing = [route for route in routes_behind(reader) if route.method not in ("GET", "WEBSOCKET")]
    answers = {route[:2]: (await call(reader, route))[0] for route in changing}
    allowed = {route for route, status in answers.items() if status not in (401, 403)}
    assert allowed == {*LOOKING, ("POST", "/v1/session")}


async def test_who_may_only_enqueue_reads_nothing_by_any_route(with_key: WithKey) -> None:
    """SEED-215: the metrics and the document included."""
    enqueuer = await with_key("enqueue")
    answers = {
        route[:2]: (await call(enqueuer, route))[0] for route in routes_behind(enqueuer) if route.method == "GET"
    }
    allowed = {route for route, status in answers.items() if status not in (401, 403)}
    told_less = {("GET", "/health/ready"), ("GET", "/health/queues")}  # with a credential they are for readers
    assert allowed == {("GET", "/v1/session"), *(route for route in OPEN if route[0] == "GET")} - told_less


async def fill_in_acme(app: Taurine) -> None:
    """Something of everything that a tenant has."""
    payload = {"user": "acme-user", "address": "acme-address"}
    for number in range(3):
        await app.enqueue(
            "invite.send", payload, job_id=f"acme-{number}", tenant="acme", tags=["acme-tag"], user="acme-ada"
        )
    await app.enqueue("invite.send", payload, job_id="acme-job", tenant="acme", tags=["acme-tag"])
    await app.cancel("acme-1", user="acme-ada")
    order = BulkOrder(
        action="cancel",
        ids=("acme-none",),
        where=BulkFilter(),
        before=1,
        limit=1,
        tenant="acme",
        rate=None,
        reason="acme-reason",
    )
    await app.bulk.job_type.enqueue(order, job_id="acme-bulk", tenant="acme", delay=86_400, user="acme-ada")
    key = (await app.api_keys.create("acme-key", scopes=["read"], tenant="acme")).key
    await app.set_quota("acme", max_open=100)

    def fail(connection: Any) -> None:
        error = '{"type": "E", "message": "acme-error"}'
        times = {"finished_at": 1_700_000_000_000, "updated_at": 1_700_000_000_000}
        ended = {"status": "failed", "error": error, "error_fingerprint": "acme-cause", **times}
        connection.execute(update(job).where(job.c.id == "acme-2").values(ended))
        # Of another program's: names that this one does not declare.
        connection.execute(update(job).where(job.c.id == "acme-0").values(type="acme.type", queue="acme-queue"))
        columns = {"job_id": "acme-job", "generation": 0, "type": "invite.send", "queue": "mail", "tenant": "acme"}
        rest = {"payload": "{}", "error": error, "reason": "exhausted", "attempts": 3, "max_attempts": 3, "priority": 0}
        failed = {"id": "acme-letter", "failed_at": 1_700_000_000_000, "error_fingerprint": "acme-cause"}
        connection.execute(dead_letter.insert().values(**failed, **columns, **rest))
        line = {"job_id": "acme-job", "number": 1, "at": 1_700_000_000_000, "level": "info", "message": "acme-line"}
        connection.execute(job_log.insert().values(**line))
        connection.execute(update(api_key).where(api_key.c.id == key.id).values(id="acme-key"))

    await app._backend().database.write(fail)


def questions_of(client: Client) -> dict[tuple[str, str], list[Found]]:
    """What can be asked by GET or a WebSocket: by route and parameter, which is "" for none, as the document has them."""
    paths = client._transport.app.openapi()["paths"]  # pyright: ignore[reportAttributeAccessIssue]
    questions: dict[tuple[str, str], list[Found]] = {}
    for route in routes_behind(client):
        if route.method not in ("GET", "WEBSOCKET") or (route.method, route.template) in OPEN:
            continue
        given = paths.get(route.template, {}).get("get", {}).get("parameters", ())
        needed = {one["name"]: one.get("required", False) for one in given if one["in"] == "query"}
        always = [[f"{name}={value}" for value in VALUES[name]] for name, required in needed.items() if required]
        for name in ("", *(name for name, required in needed.items() if not required and name not in PLACES)):
            words = [[f"{name}={value}" for value in VALUES[name]]] if name else []
            asked = ["&".join(chosen) for chosen in product(*always, *words)]
            questions[f"{route.method} {route.template}", name] = [
                route._replace(path=f"{route.path}?{query}".removesuffix("?")) for query in asked
            ]
    return questions


async def test_no_route_shows_one_tenant_what_another_has(app: Taurine, with_key: WithKey) -> None:
    """A37, SEED-234, SEED-275: every route answers the other tenant the same, letter for letter, whether acme has
    anything or not: no record, no name, no count. Whoever belongs to no tenant is answered otherwise, each parameter:
    the questions are the right ones.
    """
    globex, everybody = await with_key("admin", tenant="globex"), await with_key("admin")
    questions = questions_of(globex)
    questions["POST /v1/lookup", ""] = [Found("POST", "/v1/lookup", "/v1/lookup")]
    names = {name for _, name in questions}
    assert VALUES.keys() <= names | {"action"}
    assert NOT_OF_TENANTS.keys() <= {route for route, _ in questions}

    async def answers(client: Client) -> dict[tuple[str, str], list[tuple[int, str]]]:
        return {
            asked: [await call(client, route, {"ids": ["acme-job", "acme-1"]}) for route in routes]
            for asked, routes in questions.items()
        }

    before, all_before = await answers(globex), await answers(everybody)
    await fill_in_acme(app)
    after, all_after = await answers(globex), await answers(everybody)

    assert {asked: found for asked, found in after.items() if found != before[asked]} == {}
    assert {status for found in before.values() for status, _ in found} <= {0, 200, 400, 401, 403, 404}
    told = {asked for asked, found in all_after.items() if found != all_before[asked]}
    assert {asked for asked in questions.keys() - told if asked[0] not in NOT_OF_TENANTS} == set()
    for (route, name), (*_, asked) in questions.items():
        if name == "tenant" and route not in NOT_OF_TENANTS:
            assert (await call(globex, asked))[0] == 404, asked


async def test_no_route_changes_what_another_tenant_has(app: Taurine, with_key: WithKey) -> None:
    """A37: whatever is asked of it, by name, by filter or in bulk, and whoever carries it out. Whoever belongs to no
    tenant is not refused: what is asked is right.
    """

    @app.cron("0 3 * * *", id="acme-schedule", queue="things")
    async def nightly(_: Context) -> None: ...

    del nightly
    globex, everybody = await with_key("admin", tenant="globex"), await with_key("admin")
    changing = [route for route in routes_behind(globex) if route.method not in ("GET", "WEBSOCKET")]
    assert {route[:2] for route in changing} == BODIES.keys()
    await fill_in_acme(app)
    for number in range(9):  # what orders of globex reach is counted first, and should not be none
        await app.enqueue("invite.send", _PAYLOAD, job_id=f"globex-{number}", tenant="globex")
    before = await _all_of_acme(app)

    for route in changing:
        for body in (*BODIES[route[:2]], *ANYWHERE):
            status, text = await call(globex, route, body)
            assert status < 500, (route, body, text)
    async with app.worker(queues=[OPERATIONS_QUEUE]):
        orders = [record async for record in app.bulk.list() if record.id != "acme-bulk"]
        ended = [await app.wait(record.id, 30) for record in orders]
    assert await _all_of_acme(app) == before
    assert len(ended) > 5
    assert {record and record.status for record in ended} <= {"completed", "failed", "cancelled"}

    for route in changing:
        for body in BODIES[route[:2]] if route[:2] not in OTHERWISE else ():
            status, text = await call(everybody, route, body)
            assert status < 300 or status == 409, (route, body, text)


async def _all_of_acme(app: Taurine) -> dict[str, list[Any]]:
    def read(connection: Any) -> dict[str, list[Any]]:
        tables = {
            table.name: list(map(tuple, connection.execute(select(table).where(table.c.tenant == "acme"))))
            for table in (job, dead_letter, quota, api_key, audit)
        }
        for table in (job_tag, job_log):
            rows = connection.execute(select(table).where(table.c.job_id.like("acme-%")))
            tables[table.name] = list(map(tuple, rows))
        return tables

    found = await app._backend().database.read(read)
    assert all(found.values())
    # What the server of queues has been told of is no change of the job.
    told = [column.name for column in job.columns].index("dispatched_at")
    found["taurine_job"] = sorted(row[:told] + row[told + 1 :] for row in found["taurine_job"])
    return found


async def test_an_id_that_another_tenant_has_is_not_given_away(app: Taurine, with_key: WithKey) -> None:
    """A37: whoever puts in a job under it learns nothing of the one that is there, and does not join it."""
    acme, globex = await with_key("enqueue", "read", tenant="acme"), await with_key("enqueue", "read", tenant="globex")
    assert (await acme.enqueue(job_id="shared", payload={"user": "acme-ada", "address": "abc"})).status_code == 202
    for policy in ("return", "rerun", "error"):
        answer = await globex.enqueue(job_id="shared", on_duplicate=policy)
        assert answer.status_code in (403, 404, 409), (policy, answer.text)
        assert "acme" not in answer.text
    assert (await acme.get("/v1/jobs/shared")).json()["payload"]["user"] == "acme-ada"
