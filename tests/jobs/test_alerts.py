"""The hook for operators."""

from __future__ import annotations

import asyncio
import logging

import pytest

from taurine.jobs.alerts import Alert, Alerts

ALERT = Alert("denied", "job\n1", "ticket.triage", "tasks", "acme", "not yours")


async def test_a_plain_hook_and_an_async_one_are_told() -> None:
    told: list[Alert] = []

    async def later(alert: Alert) -> None:
        await asyncio.sleep(0)
        told.append(alert)

    await Alerts(told.append).raise_alert(ALERT)
    await Alerts(later).raise_alert(ALERT)
    assert told == [ALERT, ALERT]


async def test_a_hook_that_fails_is_logged_and_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Alert) -> None:
        raise RuntimeError("the pager is down")

    await Alerts(broken).raise_alert(ALERT)
    assert "the alert hook failed" in caplog.text


async def test_a_hook_that_hangs_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    async def hangs(_: Alert) -> None:
        await asyncio.Event().wait()

    await Alerts(hangs, patience=0.01).raise_alert(ALERT)
    assert "the alert hook failed" in caplog.text


async def test_denied_access_is_an_error_line_without_a_hook_too(caplog: pytest.LogCaptureFixture) -> None:
    await Alerts(None).raise_alert(ALERT)
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "not yours" in line.getMessage()
    assert "\n" not in line.getMessage()
