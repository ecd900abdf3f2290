"""Each route works through a `Call`: its caller is known, and its answer is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIRouter, APIWebSocketRoute

from support.api import Client, problem
from taurine import Taurine
from taurine.http import create_app
from taurine.http.calls import calls

WITHOUT_A_CALLER = {
    ("/v1/session", "POST"): "a login: there is no caller yet",
    ("/v1/login/oidc", "GET"): "a login",
    ("/v1/login/oidc/callback", "GET"): "a login",
    ("/cron", "GET"): "asks for the cron secret",
    ("/cron/{schedule_id}", "GET"): "asks for the cron secret",
    ("/cron/{schedule_id}", "POST"): "asks for the cron secret",
    ("/health/live", "GET"): "a probe",
    ("/health/ready", "GET"): "a probe, which tells more to callers",
    ("/health/queues", "GET"): "a probe, which tells more to callers",
    ("/metrics", "GET"): "its scope is an option",
}


def all_routes(router: APIRouter) -> Iterator[APIRoute | APIWebSocketRoute]:
    for route in router.routes:
        if isinstance(route, APIRoute | APIWebSocketRoute):
            yield route
        elif (inner := getattr(route, "original_router", None)) is not None:
            yield from all_routes(inner)


def takes_a_call(dependant: Dependant) -> bool:
    made = f"{calls.__qualname__}.<locals>."
    return any(
        getattr(found.call, "__module__", "") == calls.__module__
        and getattr(found.call, "__qualname__", "").startswith(made)
        for found in dependant.dependencies
    )


def test_no_route_works_without_one(app: Taurine) -> None:
    """A04, CON-10: the exceptions are named, each with its reason."""
    found: set[tuple[str, str]] = set()
    routes = [*all_routes(create_app(app).router)]
    assert len(routes) > 50
    for route in routes:
        if not takes_a_call(route.dependant):
            methods = (isinstance(route, APIRoute) and route.methods) or {"WEBSOCKET"}
            found |= {(route.path, method) for method in methods}
    assert found == set(WITHOUT_A_CALLER)


async def test_what_takes_too_long_is_503(
    app: Taurine, client_of: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CON-10: the ledger hangs in the middle of a request."""

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    client = client_of(app, answer_within=0.1)
    await app.open()
    monkeypatch.setattr(type(app.api_keys), "list", hang)
    async with asyncio.timeout(20):
        assert problem(await client.get("/v1/keys")) == (503, "ledger_unavailable")
