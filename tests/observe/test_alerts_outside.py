"""Events outside of workers, while the ledger is away: the hook hears at once, the sinks when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import LedgerUnavailable
from taurine.jobs.operations.alerts import AlertView
from taurine.jobs.reporting.alerts import Alert
from taurine.testing import TestClock

Factory = Callable[..., Taurine]


def refused(name: str) -> Alert:
    return Alert("access_refused", "", "", "", None, f"{name} was refused", severity="warning", subject=name)


class Outage:
    """A ledger that takes nothing until it is over. silent: it does not say so either."""

    def __init__(self, app: Taurine, patch: pytest.MonkeyPatch) -> None:
        self.silent = False
        self._patch = patch
        patch.setattr(app._backend().database, "write", self._write)
        self.tries = 0

    async def _write(self, work: object) -> None:
        self.tries += 1
        if self.silent:
            await asyncio.Event().wait()
        raise LedgerUnavailable("away")

    def over(self) -> None:
        self._patch.undo()


@pytest.fixture
def heard() -> list[Alert]:
    return []


@pytest.fixture
async def app(app_factory: Factory, clock: TestClock, heard: list[Alert]) -> Taurine:
    app = app_factory(clock=clock, on_alert=heard.append)
    await app._backend().ready()
    return app


@pytest.fixture
def clock() -> TestClock:
    return TestClock(1_700_000_000.0)


@pytest.fixture
async def outage(app: Taurine, monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(app, monkeypatch)


async def subjects(app: Taurine) -> Sequence[str]:
    return sorted(alert.subject for alert in await app.alerts.list(all=True))


async def test_it_is_written_when_the_ledger_is_back(
    app: Taurine, outage: Outage, clock: TestClock, heard: list[Alert]
) -> None:
    """By itself: who was told of is silent for an hour, so there may be no next call."""
    await app.tell_alert(refused("ada"))
    assert [alert.subject for alert in heard] == ["ada"]
    await eventually(lambda: clock.sleepers)
    clock.advance(15)
    await eventually(lambda: outage.tries == 2 and clock.sleepers)
    outage.over()
    assert await subjects(app) == []
    clock.advance(15)

    async def found() -> Sequence[AlertView]:
        return await app.alerts.list(all=True)

    (alert,) = await eventually(found)
    assert (alert.subject, alert.rule) == ("ada", "access_refused")


async def test_the_next_call_writes_what_waits(app: Taurine, outage: Outage) -> None:
    await app.tell_alert(refused("ada"))
    outage.over()

    await app.tell_alert(refused("bea"))

    assert await subjects(app) == ["ada", "bea"]


async def test_a_silent_ledger_keeps_nobody_from_hearing(app: Taurine, outage: Outage, heard: list[Alert]) -> None:
    """Nor is lost what was being written when its caller was cancelled."""
    outage.silent = True
    telling = asyncio.create_task(app.tell_alert(refused("ada")))
    await eventually(lambda: outage.tries and heard)
    telling.cancel()
    await asyncio.wait({telling})
    outage.over()

    await app.tell_alert(refused("bea"))

    assert await subjects(app) == ["ada", "bea"]


async def test_the_end_writes_what_waits(app: Taurine, outage: Outage) -> None:
    await app.tell_alert(refused("ada"))
    outage.over()

    await app.close()

    assert await subjects(app) == ["ada"]


async def test_what_is_lost_at_the_end_is_in_the_log(
    app: Taurine, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    await app.tell_alert(refused("ada"))

    await app.close()

    assert "1 alerts are lost" in caplog.text
