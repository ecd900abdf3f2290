"""Outcomes that are told later: the handler is through, what came of it must be written first, and its slot is free
meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.errors import Permanent
from taurine.queue.attempt import Decided
from taurine.queue.job import Job
from taurine.queue.later import Later


class Written:
    """A handler whose outcomes are written when the test says so."""

    def __init__(self) -> None:
        self.waiting: dict[str, Later] = {}

    async def __call__(self, job: Job) -> Later:
        later = self.waiting[job.id] = Later()
        return later

    async def until(self, *ids: str) -> None:
        await eventually(lambda: set(self.waiting) == set(ids), message=f"{list(self.waiting)}, want {ids}")


async def add(site: Site, count: int) -> list[str]:
    return [job.id for job in await site.queue.add_many([("work", {}) for _ in range(count)])]


async def test_a_job_that_is_being_written_holds_no_slot_and_as_many_but_one_may(site: Site) -> None:
    ids, handler = await add(site, 8), Written()
    async with site.working(handler, concurrency=3) as worker:
        await handler.until(*ids[:5])
        assert worker.running == []
        await site.until(active=5, wait=3)
        handler.waiting[ids[1]].settle("done")
        await handler.until(*ids[:6])
        await site.until(active=5, wait=2, completed=1)
        for later in list(handler.waiting.values()):
            later.settle("done")
        await handler.until(*ids)
        for later in handler.waiting.values():
            later.settle("done")
        await site.until(completed=8)


async def test_one_slot_does_one_thing_at_a_time(site: Site) -> None:
    ids, handler = await add(site, 2), Written()
    async with site.working(handler, concurrency=1):
        await handler.until(ids[0])
        await site.until(active=1, wait=1)
        handler.waiting[ids[0]].settle({"n": 1})
        await handler.until(*ids)
        handler.waiting[ids[1]].settle(None)
        await site.until(completed=2)
    assert (job := await site.queue.get_job(ids[0])) is not None
    assert job.result == {"n": 1}


async def test_an_error_is_an_outcome_too_and_only_the_first_answer_counts(site: Site) -> None:
    ids, handler = await add(site, 2), Written()
    async with site.working(handler):
        await handler.until(*ids)
        later = handler.waiting[ids[0]]
        later.settle(Decided(Permanent("the record says no"), None))
        later.settle("too late")

        async def refused() -> str:
            raise Permanent("nor in another go")

        handler.waiting[ids[1]].settle_by(refused())
        await site.until(failed=2)
    reasons = [job.failed_reason for job_id in ids if (job := await site.queue.get_job(job_id)) is not None]
    assert reasons == ["the record says no", "nor in another go"]


async def test_its_lease_is_renewed_and_a_lost_one_drops_the_outcome(site: Site) -> None:
    (job_id,), handler = await add(site, 1), Written()
    renewed, lost = asyncio.Event(), asyncio.Event()
    async with site.working(handler, lease=1.0) as worker:
        worker.on("leases_renewed", lambda _: renewed.set())
        worker.on("lease_lost", lambda _: lost.set())
        await handler.until(job_id)
        await asyncio.wait_for(renewed.wait(), 10)
        await site.raw.set(site.keys.lock(job_id), "another worker's")
        await asyncio.wait_for(lost.wait(), 10)
        handler.waiting[job_id].settle("done")
        await site.until(active=1)
        await site.raw.delete(site.keys.lock(job_id))


@pytest.mark.parametrize("in_one_go", [True, False])
async def test_a_worker_that_stops_hands_back_what_cannot_be_written(site: Site, in_one_go: bool) -> None:
    (job_id,), handler = await add(site, 1), Written()
    async with site.working(handler) as worker:
        await handler.until(job_id)
        if not in_one_go:
            handler.waiting[job_id].settle_by(asyncio.Event().wait())
        await worker.stop(grace=0.01)
        handler.waiting[job_id].settle("too late")
    await site.until(wait=1)
    assert (job := await site.queue.get_job(job_id)) is not None
    assert job.attempts_made == 0


async def test_stop_and_pause_wait_for_what_is_being_written(site: Site) -> None:
    ids, handler = await add(site, 2), Written()
    async with site.working(handler, concurrency=1) as worker:
        await handler.until(ids[0])
        pausing = asyncio.create_task(worker.pause())
        await eventually(lambda: worker.is_paused)
        assert not pausing.done()
        handler.waiting[ids[0]].settle(None)
        await pausing
        await site.until(completed=1, wait=1)
        worker.resume()
        await handler.until(*ids)
        stopping = asyncio.create_task(worker.stop())
        asyncio.get_running_loop().call_later(0.05, handler.waiting[ids[1]].settle, None)
        await stopping
    await site.until(completed=2)


async def test_a_job_that_came_back_here_is_not_taken_for_the_one_that_is_still_being_written(site: Site) -> None:
    """Its lease was lost and the same worker has claimed it again: what is lost is the old lease, not the new one."""
    (job_id,), lost, again, go = await add(site, 1), asyncio.Event(), asyncio.Event(), asyncio.Event()
    losses: list[str] = []
    first = Later()

    async def handler(job: Job) -> Any:
        if job.attempts_started == 1:
            return first
        again.set()
        await go.wait()
        return "second"

    def on_loss(job: Job) -> None:
        losses.append(job.id)
        lost.set()

    async with site.working(handler, concurrency=2, lease=1.0) as worker:
        worker.on("lease_lost", on_loss)
        await site.until(active=1)
        # As the sweep of another worker leaves it.
        await site.raw.delete(site.keys.lock(job_id))
        await site.raw.lrem(site.keys.active, 0, job_id)
        await site.raw.rpush(site.keys.wait, job_id)
        await site.raw.zadd(site.keys.marker, {"0": 0})
        await asyncio.wait_for(again.wait(), 10)
        await asyncio.wait_for(lost.wait(), 10)
        renewed = asyncio.Event()
        worker.on("leases_renewed", lambda _: renewed.set())
        await asyncio.wait_for(renewed.wait(), 10)
        go.set()
        await site.until(completed=1)
        first.settle("first")
    assert losses == [job_id]
    assert (job := await site.queue.get_job(job_id)) is not None
    assert job.result == "second"


async def test_an_answer_to_who_was_cancelled_a_moment_ago_is_let_go() -> None:
    later = Later()
    waiting = asyncio.create_task(later.answer())
    await asyncio.sleep(0)
    waiting.cancel()
    later.settle("done")  # whoever has written it must not hear of that
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("ending", [Later.hurry, Later.abandon])
async def test_what_failed_while_the_worker_ended_is_not_begun_again(ending: Callable[[Later], None]) -> None:
    later, answers, begun = Later(), list[Any](), list[str]()

    async def rest() -> None:
        begun.append("again")

    later.then(answers.append)
    ending(later)
    later.settle_by(rest())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == []
    assert [type(answer) for answer in answers] == ([asyncio.CancelledError] if ending is Later.hurry else [])
