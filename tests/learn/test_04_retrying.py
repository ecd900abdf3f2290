"""Lesson 4: what fails is tried again, unless that cannot help."""

from __future__ import annotations

import pytest

from taurine import Context, Fixed, JobFailed, Permanent, Retry, Rule, Snooze, Taurine

QUICK = Retry(attempts=3, backoff=Fixed(0.01))
"""Three attempts, as by default, but with no pause worth waiting for."""


async def test_a_fault_that_passes_is_waited_out(app: Taurine) -> None:
    @app.job("card.charge", retry=QUICK)
    async def charge(cents: int, ctx: Context) -> int:
        if ctx.attempt < ctx.max_attempts:
            raise ConnectionError("the provider is busy")
        return ctx.attempt

    async with app.worker():
        handle = await charge.enqueue(250)
        assert await handle.result(timeout=10) == 3

    assert [attempt.outcome for attempt in await app.attempts(handle.id)] == ["retried", "retried", "completed"]


async def test_an_error_that_will_not_pass_is_said_to_be_permanent(app: Taurine) -> None:
    @app.job("card.charge", retry=QUICK)
    async def charge(cents: int) -> None:
        raise Permanent("the card is stolen")

    async with app.worker():
        handle = await charge.enqueue(250)
        with pytest.raises(JobFailed, match="stolen"):
            await handle.result(timeout=10)

    assert (await handle.record()).attempts == 1


async def test_a_job_type_may_judge_errors_itself(app: Taurine) -> None:
    class CardDeclined(Exception):
        pass

    @app.job("card.charge", retry=Retry(attempts=3, backoff=Fixed(0.01), rules=(Rule(CardDeclined, "permanent"),)))
    async def charge(cents: int) -> None:
        raise CardDeclined("no funds")

    async with app.worker():
        handle = await charge.enqueue(250)
        with pytest.raises(JobFailed, match="no funds"):
            await handle.result(timeout=10)

    assert (await handle.record()).attempts == 1


async def test_coming_back_later_costs_no_attempt(app: Taurine) -> None:
    runs: list[int] = []

    @app.job("report.fetch", retry=Retry.NONE)
    async def fetch(report: str, ctx: Context) -> int:
        runs.append(ctx.attempt)
        if len(runs) == 1:
            raise Snooze(0.01)
        return ctx.attempt

    async with app.worker():
        assert await (await fetch.enqueue("sales")).result(timeout=10) == 1

    assert runs == [1, 1]
