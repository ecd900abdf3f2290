"""`/v1/alerts`: what fires, for callers who may read and belong to no tenant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from observe.alerting import Pretended, watch_of
from support.api import Client, problem
from support.callers import as_caller, of_whoever_says
from taurine.app import Taurine
from taurine.http import Access
from taurine.jobs.reporting.alerts import Alert
from taurine.jobs.reporting.redaction import Redact
from taurine.observe.alerts import EventRule
from taurine.testing import TestClock


@pytest.fixture
def app(app_factory: Callable[..., Taurine]) -> Taurine:
    """An application on a clock of the test's."""
    return app_factory(clock=TestClock())


async def test_what_fires_is_listed(app: Taurine, client_of: Callable[..., Client]) -> None:
    """SEED-179."""
    client, figures = client_of(app), Pretended(11)
    watch = watch_of(app, figures)
    await watch.run_once()

    (item,) = (await client.get("/v1/alerts")).json()["items"]
    assert {name: item[name] for name in ("rule", "kind", "subject", "state", "value", "limit")} == {
        "rule": "dead_letters_depth",
        "kind": "dead_letters_depth",
        "subject": "mail",
        "state": "firing",
        "value": 11.0,
        "limit": 10.0,
    }
    assert item["told_at"] is not None

    figures.dead = 0
    assert isinstance(app.clock, TestClock)
    app.clock.advance(15)
    await watch.run_once()
    assert (await client.get("/v1/alerts")).json()["items"] == []
    (over,) = (await client.get("/v1/alerts?all=true")).json()["items"]
    assert over["state"] == "over"


async def test_what_was_written_before_a_rule_is_shown_by_the_rule(
    app: Taurine, app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    """A42: of redaction; unless the caller may see all."""
    watch = watch_of(app, Pretended(), rules=[EventRule(of="denied")])
    await watch._backend.ready()
    await watch.recorder.record(Alert("denied", "a", "mail.send", "mail", None, "not of customer AC-1234"))

    stricter = app_factory(redact=Redact.DEFAULT.also(patterns=[r"AC-\d+"]))
    for access, message in (
        (Access(), "not of customer [redacted]"),
        (Access(unredacted=["read"]), "not of customer AC-1234"),
    ):
        (item,) = (await client_of(stricter, access=access).get("/v1/alerts")).json()["items"]
        assert item["message"] == message


async def test_who_may_look(app: Taurine, client_of: Callable[..., Client]) -> None:
    anybody = client_of(app, access=Access(host_login=of_whoever_says))

    assert (await anybody.get("/v1/alerts", headers=as_caller("read"))).status_code == 200
    assert problem(await anybody.get("/v1/alerts", headers=as_caller("enqueue"))) == (403, "forbidden")
    assert problem(await anybody.get("/v1/alerts", headers=as_caller("read", tenant="acme"))) == (403, "forbidden")
    assert problem(await anybody.get("/v1/alerts?everything=1", headers=as_caller("read"))) == (400, "invalid_request")
