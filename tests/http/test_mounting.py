"""The API as a part of something else: CON-11, A34; root application, mounts of several kinds, and what opens and
closes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from support.api import Client, problem
from taurine.app import Taurine
from taurine.http import create_app


def stripping(api: ASGIApp, prefix: str) -> ASGIApp:
    """A server that takes a prefix off the path, and says so in `root_path`, as proxies and older frameworks do."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await api({**scope, "path": scope["path"].removeprefix(prefix), "root_path": prefix}, receive, send)

    return app


def keeping(api: ASGIApp, prefix: str) -> ASGIApp:
    """A server that leaves the prefix in the path, as ASGI wants it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await api({**scope, "root_path": prefix}, receive, send)

    return app


def by_starlette(api: ASGIApp, prefix: str) -> ASGIApp:
    return Starlette(routes=[Mount(prefix, api)])


def by_starlette_with_a_slash(api: ASGIApp, prefix: str) -> ASGIApp:
    return Starlette(routes=[Mount(f"{prefix}/", api)])


def by_fastapi(api: ASGIApp, prefix: str) -> ASGIApp:
    host = FastAPI()
    host.mount(prefix, api)
    return host


def twice(api: ASGIApp, prefix: str) -> ASGIApp:
    outer, _, inner = prefix.rpartition("/")
    return Starlette(routes=[Mount(outer, Starlette(routes=[Mount(f"/{inner}", api)]))])


MOUNTS = [stripping, keeping, by_starlette, by_starlette_with_a_slash, by_fastapi]
CASES = [
    *((mounted, prefix) for mounted in MOUNTS for prefix in ("/internal/tasks", "/v1/jobs", "/ä b")),
    (twice, "/v1/jobs"),
]


@pytest.mark.parametrize(("mounted", "prefix"), CASES, ids=lambda value: getattr(value, "__name__", value))
async def test_under_any_prefix_links_lead_back(app: Taurine, mounted: Callable[..., ASGIApp], prefix: str) -> None:
    async with Client(mounted(create_app(app, answer_within=30), prefix)) as client:
        for job_id in ("plain", "a/b c%2F/"):
            answer = await client.post(f"{prefix}/v1/jobs/thing.keep", json={"payload": 1, "job_id": job_id})
            assert answer.status_code == 202, answer.text
            link = answer.headers["location"]
            found = await client.get(link)
            assert (found.status_code, found.json()["id"]) == (200, job_id)
            assert (await client.get(found.json()["links"]["audit"])).status_code == 200
        assert (await client.get(f"{prefix}/v1/jobs/")).status_code == 200
        assert problem(await client.get(f"{prefix}/none")) == (404, "not_found")


async def test_a_slash_at_the_end_changes_nothing_and_sends_nobody_elsewhere(client: Client) -> None:
    """A34."""
    await client.enqueue(job_id="a")
    for path in ("/v1/jobs/", "/v1/jobs/a/", "/v1/jobs/a/logs/"):
        answer = await client.get(path, follow_redirects=False)
        assert answer.status_code == 200, path
    assert (await client.post("/v1/jobs/thing.keep/", json={"payload": 1})).status_code == 202


def test_its_own_lifespan_opens_and_closes_the_application(app: Taurine) -> None:
    with TestClient(create_app(app, answer_within=30), base_url="http://localhost", client=("127.0.0.1", 1)) as client:
        assert client.post("/v1/jobs/thing.keep", json={"payload": 1}).status_code == 202
        assert len(app.loops) == 1
    assert app.loops == []


def test_mounted_it_opens_at_the_first_request_and_its_host_closes_it(app: Taurine) -> None:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None]:
        async with app:
            yield

    host = FastAPI(lifespan=lifespan)
    host.mount("/tasks", create_app(app, answer_within=30))
    with TestClient(host, base_url="http://localhost", client=("127.0.0.1", 1)) as client:
        assert client.post("/tasks/v1/jobs/thing.keep", json={"payload": 1}).status_code == 202
    assert app.loops == []


async def test_opened_lazily_it_hands_over_in_the_background(app: Taurine) -> None:
    """What the queue did not take at once is the outbox's, which nobody else has started."""
    async with Client(create_app(app, answer_within=30)) as client:
        await client.enqueue()
    assert app._backend().outbox.running


async def test_two_applications_side_by_side_know_nothing_of_each_other(
    app_factory: Callable[..., Taurine], app: Taurine, prefix: str
) -> None:
    other = app_factory("other", prefix=f"{prefix}:other", database_url=f"sqlite:///{app.settings.home / 'other.db'}")
    other.declare("other.keep", int)
    host = Starlette(routes=[Mount("/one", create_app(app)), Mount("/two", create_app(other))])
    async with Client(host) as client:
        assert (await client.post("/one/v1/jobs/thing.keep", json={"payload": 1, "job_id": "a"})).status_code == 202
        assert problem(await client.get("/two/v1/jobs/a")) == (404, "job_not_found")
        assert problem(await client.post("/two/v1/jobs/thing.keep", json={"payload": 1})) == (404, "unknown_job_type")
