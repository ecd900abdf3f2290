"""What holds for every route, whoever adds one: the routes are found by walking the application, and none is listed but
the exceptions (A24, A36, A37).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select, update

from support.api import Answer, Client, problem
from taurine.app import Taurine
from taurine.ledger.schema import api_key, audit, dead_letter, job, job_log, job_tag, quota
from taurine.testing import TestClock

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
    ("POST", "/v1/search"): "as above",
    ("POST", "/v1/bulk/preview"): "it counts",
    ("DELETE", "/v1/session"): "everybody may end their own session",
}
"""Routes of methods that change something, which somebody who may only read may call all the same."""

FILLED = {"type": "invite.send", "tag": "acme-tag", "queue": "mail", "name": "mail"}


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
    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    more = {"client": ("127.0.0.1", 5), "scheme": "ws", "subprotocols": [], "root_path": "", "state": {}}
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
    assert {route for route, status in answers.items() if status != 401} == answers.keys() & OPEN.keys()
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
    assert allowed <= LOOKING.keys() | OPEN.keys()


async def test_who_may_only_enqueue_reads_nothing_by_any_route(with_key: WithKey) -> None:
    """SEED-215: the metrics and the document included."""
    enqueuer = await with_key("enqueue")
    answers = {
        route[:2]: (await call(enqueuer, route))[0] for route in routes_behind(enqueuer) if route.method == "GET"
    }
    allowed = {route for route, status in answers.items() if status not in (401, 403)}
    assert allowed - OPEN.keys() <= {("GET", "/v1/session")}


async def fill_in_acme(app: Taurine) -> None:
    """Something of everything that a tenant has."""
    payload = {"user": "acme-user", "address": "acme-address"}
    for number in range(3):
        await app.enqueue(
            "invite.send", payload, job_id=f"acme-{number}", tenant="acme", tags=["acme-tag"], user="acme-ada"
        )
    await app.enqueue("invite.send", payload, job_id="acme-job", tenant="acme", tags=["acme-tag"])
    await app.cancel("acme-1", user="acme-ada")
    await app.api_keys.create("acme-key", scopes=["read"], tenant="acme")
    await app.set_quota("acme", max_open=100)

    def fail(connection: Any) -> None:
        error = '{"type": "E", "message": "acme-error"}'
        ended = {"status": "failed", "error": error, "finished_at": 1_700_000_000_500, "updated_at": 1_700_000_000_500}
        connection.execute(update(job).where(job.c.id == "acme-2").values(ended))
        columns = {"job_id": "acme-2", "generation": 0, "type": "invite.send", "queue": "mail", "tenant": "acme"}
        rest = {"payload": "{}", "error": error, "reason": "exhausted", "attempts": 3, "max_attempts": 3, "priority": 0}
        connection.execute(dead_letter.insert().values(id="acme-job", failed_at=1_700_000_000_500, **columns, **rest))
        line = {"job_id": "acme-job", "number": 1, "at": 1_700_000_000_000, "level": "info", "message": "acme-line"}
        connection.execute(job_log.insert().values(**line))

    await app._backend().database.write(fail)


async def test_no_route_shows_one_tenant_what_another_has(app: Taurine, with_key: WithKey, clock: TestClock) -> None:
    """A37, SEED-234, SEED-275: every route answers the other tenant the same, letter for letter, whether acme has
    anything or not: no record, no name, no count.
    """
    globex = await with_key("read", tenant="globex")
    looking = [
        *(route for route in routes_behind(globex) if route.method in ("GET", "WEBSOCKET")),
        Found("POST", "/v1/lookup", "/v1/lookup"),
    ]
    looking = [route for route in looking if not route.template.startswith(("/health", "/v1/login"))]
    for word in ("tag=acme-tag", "user=acme-ada", "type=invite.send", "queue=mail", "status=failed", "limit=500"):
        looking.append(Found("GET", "/v1/jobs", f"/v1/jobs?{word}"))
    for path in ("/v1/counts?queue=mail", "/v1/search?q=acme", "/v1/jobs/acme-2", "/v1/jobs/acme-1/attempts"):
        looking.append(Found("GET", path, path))

    async def answers() -> dict[Found, tuple[int, str]]:
        return {route: await call(globex, route, {"ids": ["acme-job", "acme-1"]}) for route in looking}

    before = await answers()
    await fill_in_acme(app)
    assert await answers() == before
    assert {status for status, _ in before.values()} <= {0, 200, 400, 401, 403, 404}
    acme = await with_key("read", tenant="acme")
    assert (await acme.get("/v1/jobs/acme-job")).status_code == 200  # the question was the right one
    for path in ("/v1/jobs?tenant=acme", "/v1/counts?tenant=acme"):
        assert problem(await globex.get(path))[0] == 404, path


async def test_no_route_changes_what_another_tenant_has(app: Taurine, with_key: WithKey) -> None:
    """A37: whatever is asked of it, by name, by filter or in bulk."""
    globex = await with_key("read", "enqueue", "operate", tenant="globex")
    await fill_in_acme(app)
    before = await _all_of_acme(app)
    bodies: list[dict[str, Any]] = [
        *({}, {"reason": "x"}, {"ids": ["acme-job"]}, {"filter": {}}, {"filter": {"type": "invite.send"}}),
        *({"run_at": "2030-01-01T00:00:00Z"}, {"payload": {"user": "x", "address": "xyz"}}, {"tenant": "acme"}),
        *({"payload": {"user": "x", "address": "xyz"}, "tenant": "acme"}, {"tag": "acme-tag"}, {"all": True}),
    ]
    for route in routes_behind(globex):
        if route.method in ("GET", "WEBSOCKET") or route.template == "/v1/session":
            continue
        for body in bodies:
            status, text = await call(globex, route, body)
            assert status < 500, (route, body, text)
    assert await _all_of_acme(app) == before


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
