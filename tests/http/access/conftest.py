"""What the tests of access share: a clock that they move, and clients that show a credential."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.api import Client, declare_invites
from taurine.app import Taurine
from taurine.http.access.access import Access
from taurine.testing import TestClock

SECRET = "a secret of the tests, and of nobody else"
START = 1_700_000_000.0


@pytest.fixture
def clock() -> TestClock:
    return TestClock(START)


@pytest.fixture
def app(app_factory: Callable[..., Taurine], clock: TestClock) -> Taurine:
    """An application with `invite.send` and `thing.keep`, whose time the test moves."""
    app = app_factory(clock=clock, secret=SECRET, cron_secret="the scheduler's secret")
    declare_invites(app)
    return app


@pytest.fixture
async def with_key(app: Taurine, client_of: Callable[..., Client]) -> Callable[..., object]:
    """`await with_key("read", "enqueue", tenant="acme")`: a client with a key of these scopes."""

    async def make(*scopes: str, tenant: str | None = None, **options: object) -> Client:
        made = await app.api_keys.create("-".join(scopes), scopes=scopes, tenant=tenant)
        client = client_of(app, **options)
        client.headers["Authorization"] = f"Bearer {made.text}"
        return client

    return make


@pytest.fixture
def anybody(app: Taurine, client_of: Callable[..., Client]) -> Client:
    """A caller with nothing, of an API that is not open on loopback."""
    return client_of(app, access=Access(open_on_loopback=False))
