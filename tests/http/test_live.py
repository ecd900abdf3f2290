"""Live streams: server-sent events and WebSockets for a job, a tag and a tenant (SEED-111, 223, 285, 286; TRG-61, 62;
A24, A37, A38).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.eventually import eventually
from taurine import Context, Taurine
from taurine.http import Access, create_app
from taurine.http.serving import listen, serve, url_of
from taurine.jobs.changes.subscription import Topic
from taurine.ledger.changes import Version

Factory = Callable[..., Taurine]


class Event(NamedTuple):
    event: str
    id: str | None
    data: Any


class Site:
    """An API on a socket of its own, and how its streams are read."""

    def __init__(self, app: Taurine, api: Any, url: str) -> None:
        self.app = app
        self.streams = api.state.api.streams
        self.url = url
        self.go = asyncio.Event()

    @asynccontextmanager
    async def stream(self, path: str, **headers: str) -> AsyncGenerator[AsyncIterator[Event]]:
        async with (
            httpx2.AsyncClient(base_url=self.url, timeout=30) as client,
            client.stream("GET", path, headers=headers) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield _events(answer.aiter_lines())

    async def all_of(self, path: str, **headers: str) -> list[Event]:
        async with self.stream(path, **headers) as events, asyncio.timeout(30):
            return [event async for event in events]

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=self.url, timeout=30) as client, asyncio.timeout(30):
            return await client.get(path, headers=headers)

    def socket(self, path: str, **options: Any) -> connect:
        return connect(self.url.replace("http", "ws", 1) + path, **options)


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """As a browser's EventSource reads them."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            if "event" in fields:
                yield Event(fields["event"], fields.get("id"), json.loads(fields["data"]))
            fields = {}


@pytest.fixture
def site_of(app_factory: Factory) -> Callable[..., Any]:
    """Serve an application: `async with site_of(access=…) as site`."""

    @asynccontextmanager
    async def serving(**options: Any) -> AsyncGenerator[Site]:
        app = app_factory()
        options.setdefault("answer_within", 30)
        api = create_app(app, **options)
        with listen("127.0.0.1", 0) as listening:
            site = Site(app, api, url_of(listening))

            @app.job("step", queue="steps", tenant="{tenant}", job_id="{tenant}:{n}")
            async def step(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
                ctx.progress(1, 2, "half")
                await site.go.wait()
                return {"n": payload["n"]}

            del step
            ready = asyncio.Event()
            task = asyncio.create_task(serve(api, listening, ready=ready.set, grace=1))
            try:
                await asyncio.wait_for(ready.wait(), 20)
                yield site
            finally:
                task.cancel()
                await asyncio.wait({task})

    return serving


async def add(site: Site, tenant: str, n: int, **options: Any) -> str:
    return (await site.app.enqueue("step", {"tenant": tenant, "n": n}, **options)).id


async def test_a_job_is_followed_to_its_end_by_events_and_by_socket_alike(site_of: Callable[..., Any]) -> None:
    """SEED-223, SEED-286: 202, then progress by server-sent events, by a WebSocket, and the same by polling."""
    async with site_of() as site:
        job_id = await add(site, "acme", 1)
        async with site.stream(f"/v1/jobs/{job_id}/events") as events, site.socket(f"/v1/jobs/{job_id}/events") as ws:
            async with asyncio.timeout(30):
                first = await anext(events)
                assert (first.event, first.data["status"]) == ("job", "queued")
                assert json.loads(await ws.recv()) == first._asdict()
                async with site.app.worker():
                    running = await anext(events)
                    assert running.data["phase"] == "running"
                    site.go.set()
                    rest = [event async for event in events]
                    told = [json.loads(message) async for message in ws]
        assert [event.event for event in rest[-2:]] == ["job", "end"]
        ended = rest[-2]
        assert ended.data["output"] == {"n": 1}
        # The same document as by polling, but for the payload, which does not change.
        polled = (await site.get(f"/v1/jobs/{job_id}")).json()
        polled.pop("payload")
        assert ended.data == polled
        assert told[-2:] == [ended._asdict(), {"event": "end", "id": None, "data": {}}]
        assert ws.close_code == 1000

        # A browser that comes back by itself is told to stay away: 204.
        again = await site.get(f"/v1/jobs/{job_id}/events", **{"Last-Event-ID": ended.id or ""})
        assert again.status_code == 204
        # Who has seen less is told the rest.
        assert [event.event for event in await site.all_of(f"/v1/jobs/{job_id}/events?after={first.id}")] == [
            "job",
            "end",
        ]
        assert len(site.streams) == 0


async def test_a_tag_and_a_tenant_are_followed_from_the_last_id_on(site_of: Callable[..., Any]) -> None:
    async with site_of() as site:
        async with site.stream("/v1/events?tag=import") as tagged, site.stream("/v1/events?tenant=globex") as globex:
            await add(site, "acme", 1, tags=["import"])
            await add(site, "globex", 1)
            async with asyncio.timeout(30):
                first, other = await anext(tagged), await anext(globex)
        assert (first.data["id"], other.data["id"]) == ("acme:1", "globex:1")
        await add(site, "acme", 2, tags=["import"])
        async with site.stream("/v1/events?tag=import", **{"Last-Event-ID": first.id or ""}) as again:
            async with asyncio.timeout(30):
                assert (await anext(again)).data["id"] == "acme:2"
        async with site.socket(f"/v1/events?tenant=acme&after={first.id}") as ws, asyncio.timeout(30):
            assert json.loads(await ws.recv())["data"]["id"] == "acme:2"


async def test_what_nobody_may_see_is_not_told_a37(site_of: Callable[..., Any]) -> None:
    """A24, A37, TRG-62: without credentials 401, another tenant's job 404, and a token reaches what it is bound to; the
    same over a WebSocket.
    """
    async with site_of(access=Access(open_on_loopback=False, secret="s" * 32)) as site:
        await add(site, "acme", 1, tags=["import"])
        await add(site, "globex", 1)
        key = (await site.app.api_keys.create("web", scopes=["read"], tenant="acme")).text
        bearer = {"Authorization": f"Bearer {key}"}
        assert (await site.get("/v1/jobs/acme:1/events")).status_code == 401
        assert (await site.get("/v1/jobs/globex:1/events", **bearer)).status_code == 404
        assert (await site.get("/v1/events?tenant=globex", **bearer)).status_code == 404
        for path, status in (
            ("/v1/jobs/acme:1/events", 401),
            ("/v1/events?tag=import", 401),
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with site.socket(path):
                    pass
            assert refused.value.response.status_code == status
        for path in ("/v1/jobs/globex:1/events", "/v1/events?tenant=globex"):
            with pytest.raises(InvalidStatus) as refused:
                async with site.socket(path, additional_headers=bearer):
                    pass
            assert refused.value.response.status_code == 404
        async with site.stream("/v1/events", **bearer) as own, asyncio.timeout(30):
            await add(site, "globex", 2)
            await add(site, "acme", 2)
            assert (await anext(own)).data["id"] == "acme:2"


async def test_a_stream_ends_with_the_right_to_it(site_of: Callable[..., Any]) -> None:
    """A key that is revoked while its stream is open: it is looked at again with each sign of life."""
    async with site_of(access=Access(open_on_loopback=False, heard_within=0.01)) as site:
        site.streams.ping_seconds = 0.05
        await add(site, "acme", 1)
        key = await site.app.api_keys.create("web", scopes=["read"])
        headers = {"Authorization": f"Bearer {key.text}"}
        path = "/v1/jobs/acme:1/events"
        async with site.stream(path, **headers) as events, site.socket(path, additional_headers=headers) as ws:
            async with asyncio.timeout(30):
                await anext(events)
                await ws.recv()
                await site.app.api_keys.revoke(key.key.id)
                assert [event.event async for event in events][-1] == "dropped"
                assert json.loads(await ws.recv())["event"] == "dropped"


async def test_a_page_of_another_site_opens_no_socket_a27(site_of: Callable[..., Any]) -> None:
    async with site_of() as site:
        await add(site, "acme", 1)
        with pytest.raises(InvalidStatus) as refused:
            async with site.socket("/v1/jobs/acme:1/events", origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403


async def test_there_is_a_most_of_streams_a38(site_of: Callable[..., Any]) -> None:
    async with site_of(max_streams=2) as site:
        await add(site, "acme", 1)
        path = "/v1/jobs/acme:1/events"
        async with site.stream(path) as one, site.socket(path) as two, asyncio.timeout(30):
            await anext(one)
            await two.recv()
            refused = await site.get(path)
            assert refused.status_code == 429
            assert refused.json()["code"] == "too_many_streams"
            assert int(refused.headers["retry-after"]) > 0
        await eventually(lambda: len(site.streams) == 0, message="streams that were left are still counted")
        async with site.stream(path) as third, asyncio.timeout(30):
            await anext(third)
    async with site_of(max_streams_each=0) as site:
        await add(site, "acme", 2)
        assert (await site.get("/v1/jobs/acme:2/events")).status_code == 429


async def test_who_reads_nothing_is_dropped_a38(site_of: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """The client's buffers and ours fill up; then it has `read_within` seconds."""
    async with site_of(read_within=0.2) as site:
        job_id = await add(site, "acme", 1)
        with socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2]))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /v1/jobs/acme:1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await eventually(lambda: len(site.streams) == 1)
            await eventually(await _telling(site, job_id), 30)
        assert "nothing was read for 0.2 s" in caplog.text


async def test_who_reads_nothing_of_a_socket_is_dropped_a38(
    site_of: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The good-bye would wait behind what is not read, for ever; the place is free all the same."""
    async with site_of(read_within=0.2) as site:
        job_id = await add(site, "acme", 1)
        with socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2]))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(
                b"GET /v1/jobs/acme:1/events HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await eventually(lambda: len(site.streams) == 1)
            await eventually(await _telling(site, job_id), 30, message="the place is still taken")
        assert "nothing was read for 0.2 s" in caplog.text


async def _telling(site: Site, job_id: str) -> Callable[[], bool]:
    """Each call tells once more of a job with a long record; True once there is no stream left."""
    record = await site.app.get(job_id)
    assert record is not None
    record.metadata["long"] = "x" * 300_000
    marks = itertools.count(1)

    def told() -> bool:
        for listener in list(site.app._backend().changes._jobs.get(job_id, ())):
            listener.tell(Version(job_id, 1, next(marks), "queued"), record)
        return len(site.streams) == 0

    return told


async def test_the_bounds_hold_for_those_who_come_at_once_a38(site_of: Callable[..., Any]) -> None:
    """All look whether there is room before the first has a place, since each waits for the ledger in between."""
    async with site_of(max_streams_each=3) as site:
        await add(site, "acme", 1)
        path, most = "/v1/jobs/acme:1/events", 8
        all_here, over = asyncio.Barrier(most), asyncio.Event()
        asked, get, statuses = itertools.count(1), site.app.get, list[int]()

        async def get_together(job_id: str, **options: Any) -> Any:
            if next(asked) <= most:
                await all_here.wait()
            return await get(job_id, **options)

        async def by_events() -> None:
            async with (
                httpx2.AsyncClient(base_url=site.url, timeout=30) as client,
                client.stream("GET", path) as answer,
            ):
                statuses.append(answer.status_code)
                await over.wait()

        async def by_socket() -> None:
            try:
                async with site.socket(path):
                    statuses.append(200)
                    await over.wait()
            except InvalidStatus as refused:
                statuses.append(refused.response.status_code)

        site.app.get = get_together  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as callers:
            for _ in range(most // 2):
                callers.create_task(by_events())
                callers.create_task(by_socket())
            await eventually(lambda: len(statuses) == most)
            over.set()
        assert sorted(statuses) == [200] * 3 + [429] * 5
        await eventually(lambda: len(site.streams) == 0)


async def test_one_tenants_callers_do_not_have_all_streams_a38(site_of: Callable[..., Any]) -> None:
    """A fifth of all, since a tenant has as many callers as it has keys and tokens."""
    closed = Access(open_on_loopback=False)
    async with site_of(access=closed, max_streams=10, max_streams_each=1) as site, AsyncExitStack() as open_ones:
        for number, tenant in enumerate(("acme", "acme", "acme", "globex")):
            key = await site.app.api_keys.create(f"key {number}", scopes=["read"], tenant=tenant)
            bearer = {"Authorization": f"Bearer {key.text}"}
            if number == 2:
                refused = await site.get("/v1/events", **bearer)
                assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
                assert "the tenant 'acme' has 2 streams" in refused.json()["detail"]
            else:
                await open_ones.enter_async_context(site.stream("/v1/events", **bearer))


async def test_one_tenants_made_up_tags_leave_room_for_others_a38(site_of: Callable[..., Any]) -> None:
    """Refused before the stream begins, with a status of its own."""
    async with site_of(access=Access(open_on_loopback=False)) as site:
        bearer = dict[str, dict[str, str]]()
        for tenant in ("acme", "globex"):
            key = await site.app.api_keys.create(tenant, scopes=["read"], tenant=tenant)
            bearer[tenant] = {"Authorization": f"Bearer {key.text}"}
        source = site.app._backend().changes
        for number in range(100):
            source.subscribe(Topic(tag=f"made up {number}", tenant="acme"), after=None, follow=False, buffer=1)
        refused = await site.get("/v1/events?tag=one-more", **bearer["acme"])
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
        with pytest.raises(InvalidStatus) as denied:
            async with site.socket("/v1/events?tag=one-more", additional_headers=bearer["acme"]):
                pass
        assert denied.value.response.status_code == 429
        async with site.stream("/v1/events?tag=one-more", **bearer["globex"]):
            assert len(site.streams) == 1


async def test_a_stream_that_cannot_begin_in_time_is_refused(site_of: Callable[..., Any]) -> None:
    """A ledger that hangs: 503, and no place is kept."""
    async with site_of(answer_within=0.5) as site:

        @asynccontextmanager
        async def hang(**_: Any) -> AsyncGenerator[Any]:
            await asyncio.Event().wait()
            yield

        site.app.changes = hang  # type: ignore[method-assign]
        refused = await site.get("/v1/events?tag=import")
        assert (refused.status_code, len(site.streams)) == (503, 0)
        with pytest.raises(InvalidStatus) as denied:
            async with site.socket("/v1/events?tag=import"):
                pass
        assert (denied.value.response.status_code, len(site.streams)) == (503, 0)


async def test_a_server_that_ends_says_so_and_is_not_held_up(site_of: Callable[..., Any]) -> None:
    async with site_of() as site:
        await add(site, "acme", 1)
        path = "/v1/jobs/acme:1/events"
        async with site.stream(path) as events, site.socket(path) as ws, asyncio.timeout(30):
            await anext(events)
            await ws.recv()
            site.streams.end()
            (last,) = [event async for event in events]
            assert (last.event, "connect again" in last.data["detail"]) == ("dropped", True)
            with pytest.raises(ConnectionClosed):
                while True:
                    await ws.recv()
            assert ws.close_code == 1013


@pytest.mark.parametrize("query", ["after=x", "after=1-zzzzzzzz", "follow=perhaps", "nonsense=1", "tag=", "tenant=%00"])
async def test_parameters_are_checked_a31(site_of: Callable[..., Any], query: str) -> None:
    async with site_of() as site:
        await add(site, "acme", 1)
        path = "/v1/events" if query.startswith("t") else "/v1/jobs/acme:1/events"
        assert (await site.get(f"{path}?{query}")).status_code == 400
        assert (await site.get("/v1/events")).status_code == 400
        assert (await site.get("/v1/jobs/acme:1/events", **{"Last-Event-ID": 'x"y'})).status_code == 400
