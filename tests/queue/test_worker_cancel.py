"""Cancelling jobs that run."""

from __future__ import annotations

import asyncio

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.errors import Cancel, Permanent
from taurine.queue.job import Job


class Cancellable:
    """A handler that runs until it is cancelled; then it raises `error`, or lets the cancellation pass."""

    def __init__(self, error: Exception | None = None) -> None:
        self.running: list[str] = []
        self.reasons: list[str | None] = []
        self._error = error

    async def __call__(self, job: Job) -> str:
        if job.attempts_made:
            return "second attempt"
        self.running.append(job.id)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert job.cancelled
            self.reasons.append(job.cancel_reason)
            if self._error is not None:
                raise self._error from None
            raise
        return "never"


async def test_a_cancelled_job_hears_why_and_is_retried_bmq_089(site: Site) -> None:
    handler = Cancellable()
    job = await site.queue.add("work", attempts=2)
    async with site.working(handler) as worker:
        await eventually(lambda: handler.running)
        assert worker.cancel(job.id, "the user left")
        await site.until(completed=1)

    assert handler.reasons == ["the user left"]
    stored = await site.hash(job.id)
    assert (stored["atm"], stored["returnvalue"], stored["failedReason"]) == ("2", '"second attempt"', "the user left")


@pytest.mark.parametrize("error", [Permanent("stop"), Cancel("stop")], ids=lambda error: type(error).__name__)
async def test_a_handler_may_end_a_cancelled_job_for_good_bmq_089(site: Site, error: Exception) -> None:
    handler = Cancellable(error)
    job = await site.queue.add("work", attempts=5)
    async with site.working(handler) as worker:
        await eventually(lambda: handler.running)
        worker.cancel(job.id)
        await site.until(failed=1)

    assert (handler.reasons, (await site.hash(job.id))["failedReason"]) == (["cancelled"], "stop")


async def test_a_cancelled_job_without_attempts_left_fails_bmq_089(site: Site) -> None:
    handler = Cancellable()
    job = await site.queue.add("work", job_id="a:b")
    async with site.working(handler) as worker:
        await eventually(lambda: handler.running)
        assert worker.cancel("a:b", "no longer wanted"), "by the id that callers know"
        await site.until(failed=1)

    assert (await site.hash(job.stored_id))["failedReason"] == "no longer wanted"


async def test_only_the_named_job_is_cancelled_bmq_089(site: Site) -> None:
    handler = Cancellable()
    await site.queue.add_many([("work", {})] * 3)
    async with site.working(handler) as worker:
        await eventually(lambda: len(handler.running) == 3)
        assert not worker.cancel("99"), "it does not run here"
        assert worker.cancel("2")
        await site.until(failed=1, active=2)
        assert [job.id for job in worker.running] == ["1", "3"]

        assert worker.cancel_all("maintenance") == 2
        await site.until(failed=3)
        assert worker.cancel_all() == 0

    assert handler.reasons == ["cancelled", "maintenance", "maintenance"]


async def test_a_cancellation_from_within_the_handler_is_a_failed_attempt(site: Site) -> None:
    async def handler(job: Job) -> str:
        if job.attempts_made:
            return "second attempt"
        task = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(task.cancel)
        await task
        return "never"

    await site.queue.add("work", attempts=2)
    async with site.working(handler):
        await site.until(completed=1)

    assert (await site.hash("1"))["atm"] == "2"
