"""Leases: a job belongs to its worker as long as that renews it, and nobody else's word counts meanwhile."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from support.proxy import FaultProxy
from support.server import ValkeyServer
from support.site import Site
from taurine.errors import LeaseLost, StoreUnavailable
from taurine.queue.job import Job
from taurine.testing import TestClock


class Held:
    """A handler whose jobs run until they are let go."""

    def __init__(self) -> None:
        self.running: list[Job] = []
        self.cancelled: list[str | None] = []
        self.gate = asyncio.Event()

    async def __call__(self, job: Job) -> str:
        self.running.append(job)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job.cancel_reason)
            raise
        return "done"


async def script_calls(raw: Redis) -> int:
    """EVALSHA calls since the last CONFIG RESETSTAT."""
    stats: dict[str, Any] = await raw.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_a_job_much_longer_than_its_lease_runs_once_bmq_084(site: Site) -> None:
    """The lease is 0.4 s, and another worker looks for stalled jobs all the time."""
    handler = Held()
    renewals: list[list[str]] = []
    others: list[str] = []

    async def other(job: Job) -> None:
        others.append(job.id)

    await site.queue.add("work", attempts=3, job_id="long")
    async with site.working(handler, lease=0.4) as worker:
        worker.on("leases_renewed", renewals.append)
        await eventually(lambda: handler.running)
        async with site.working(other, stalled_interval=0.05):
            await eventually(lambda: len(renewals) >= 5)
            handler.gate.set()
            await site.until(completed=1)

    assert renewals[0] == ["long"]
    assert (len(handler.running), others) == (1, [])
    assert (await site.hash("long"))["ats"] == "1"


async def test_all_jobs_are_renewed_in_one_call_bmq_084(timed_site: Site, hand_clock: TestClock) -> None:
    site = timed_site
    handler = Held()
    renewals: list[list[str]] = []
    await site.queue.add_many([("work", {})] * 10)
    async with site.working(handler, concurrency=10, lease=30, stalled_interval=0) as worker:
        worker.on("leases_renewed", renewals.append)
        await eventually(lambda: len(handler.running) == 10)
        for job in handler.running:
            await site.raw.pexpire(site.keys.lock(job.stored_id), 12_000)
        await site.raw.config_resetstat()

        hand_clock.advance(11)
        await eventually(lambda: renewals)
        assert await script_calls(site.raw) == 1
        for job in handler.running:
            assert await site.raw.pttl(site.keys.lock(job.stored_id)) > 12_000
        handler.gate.set()
        await site.until(completed=10)

    assert sorted(renewals[0], key=int) == [str(number) for number in range(1, 11)]


async def test_jobs_that_end_soon_are_never_renewed_bmq_084(
    timed_site: Site, hand_clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    """And no false alarm of a missing lease is raised over thousands of short jobs."""
    renewals: list[list[str]] = []

    async def handler(job: Job) -> None:
        if int(job.id) % 100 == 0:
            hand_clock.advance(1)

    await timed_site.queue.add_many([("work", {})] * 2_000)
    with caplog.at_level(logging.INFO, "taurine"):
        async with timed_site.working(handler, concurrency=20) as worker:
            worker.on("leases_renewed", renewals.append)
            await timed_site.until(completed=2_000)

    assert renewals == []
    assert [record.getMessage() for record in caplog.records] == []


async def test_renewal_can_be_switched_off_bmq_087(timed_site: Site, hand_clock: TestClock) -> None:
    handler = Held()
    renewals: list[list[str]] = []
    await timed_site.queue.add("work")
    async with timed_site.working(handler, renew_leases=False, stalled_interval=0) as worker:
        worker.on("leases_renewed", renewals.append)
        await eventually(lambda: handler.running)
        assert hand_clock.sleepers == 0, "no loop that would renew or look for stalled jobs"
        hand_clock.advance(3_600)
        handler.gate.set()
        await timed_site.until(completed=1)

    assert renewals == []
    assert await timed_site.raw.exists(timed_site.keys.key("stalled-check")) == 0


async def test_a_renewal_that_fails_and_one_that_works_again_are_told_bmq_088(site: Site, valkey: ValkeyServer) -> None:
    handler = Held()
    failures: list[Exception] = []
    renewals: list[list[str]] = []
    await site.queue.add("work", job_id="long")
    async with FaultProxy(valkey.socket) as proxy, site.working(handler, proxy.url, lease=0.5) as worker:
        worker.on("renewal_failed", failures.append)
        worker.on("leases_renewed", renewals.append)
        await eventually(lambda: renewals)
        proxy.down()
        await eventually(lambda: failures)
        renewals.clear()

        await proxy.heal()
        await eventually(lambda: renewals)
        handler.gate.set()
        await site.until(completed=1)

    assert isinstance(failures[0], StoreUnavailable)
    assert renewals[0] == ["long"]
    assert handler.cancelled == [], "an outage is no reason to give a job up"


async def test_a_lost_lease_ends_the_handler_and_leaves_the_job_alone(timed_site: Site, hand_clock: TestClock) -> None:
    site = timed_site
    handler = Held()
    lost: list[str] = []
    refused: list[LeaseLost] = []

    async def writing(job: Job) -> str:
        try:
            return await handler(job)
        finally:
            try:
                await job.update_progress(50)
            except LeaseLost as error:
                refused.append(error)

    await site.queue.add("work", job_id="taken")
    async with site.working(writing, lease=30) as worker:
        worker.on("lease_lost", lambda job: lost.append(job.id))
        await eventually(lambda: handler.running)
        await site.raw.set(site.keys.lock("taken"), "another worker's token", px=60_000)
        hand_clock.advance(11)
        await eventually(lambda: handler.cancelled)
        await eventually(lambda: not worker.running)

    assert lost == ["taken"]
    assert handler.cancelled == ["the lease was lost: another worker has the job"]
    assert len(refused) == 1
    assert await site.counts() == {"active": 1}
    assert await site.raw.get(site.keys.lock("taken")) == "another worker's token"
    assert not {"atm", "progress", "failedReason"} & (await site.hash("taken")).keys()


async def test_the_outcome_of_a_lost_job_is_dropped(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The loss is noticed only when the handler has returned."""
    handler = Held()
    told: list[tuple[str, str]] = []
    await site.queue.add("work", job_id="taken")
    async with site.working(handler) as worker:
        worker.on("lease_lost", lambda job: told.append(("lost", job.id)))
        worker.on("completed", lambda job, _: told.append(("completed", job.id)))
        await eventually(lambda: handler.running)
        await site.raw.set(site.keys.lock("taken"), "another worker's token", px=60_000)
        handler.gate.set()
        await eventually(lambda: told)

    assert told == [("lost", "taken")]
    assert await site.counts() == {"active": 1}
    assert "the run that holds the job counts" in caplog.text


async def put_back(site: Site, job_id: str) -> None:
    """Another worker finds the job without a lease."""
    other = site.worker(None)
    await site.raw.delete(site.keys.lock(job_id))
    for _ in range(2):  # the first look suspects, the second puts back
        await site.raw.delete(site.keys.key("stalled-check"))
        await other.recover_stalled()


async def test_a_run_that_lost_its_job_is_ended_though_the_job_runs_here_anew(
    timed_site: Site, hand_clock: TestClock
) -> None:
    """The worker was still for longer than its lease, another put the job back, and it comes here before the loss is
    noticed. Both runs hold a slot, and only the old one is cancelled.
    """
    site, handler = timed_site, Held()
    lost: list[int] = []
    await site.queue.add("work", job_id="back")
    async with site.working(handler, concurrency=3, lease=30, stalled_interval=0) as worker:
        worker.on("lease_lost", lambda job: lost.append(job.attempts_started))
        await eventually(lambda: handler.running)
        await put_back(site, "back")
        await eventually(lambda: len(handler.running) == 2)
        assert [job.attempts_started for job in worker.running] == [1, 2]

        hand_clock.advance(11)
        await eventually(lambda: handler.cancelled)
        await eventually(lambda: len(worker.running) == 1)
        handler.gate.set()
        await site.until(completed=1)

    assert lost == [1]
    assert handler.cancelled == ["the lease was lost: another worker has the job"]
    assert (await site.hash("back"))["ats"] == "2"


async def test_cancelling_a_job_cancels_all_of_its_runs_here(timed_site: Site) -> None:
    site, handler = timed_site, Held()
    await site.queue.add("work", job_id="back")
    async with site.working(handler, concurrency=2, stalled_interval=0) as worker:
        await eventually(lambda: handler.running)
        await put_back(site, "back")
        await eventually(lambda: len(handler.running) == 2)
        assert worker.cancel("back", "enough")
        await site.until(failed=1)

    assert handler.cancelled == ["enough", "enough"]


@pytest.mark.parametrize("gone", ["the lease", "the job"])
async def test_the_outcome_of_a_job_that_is_no_longer_held_is_dropped(site: Site, gone: str) -> None:
    handler = Held()
    lost: list[str] = []
    await site.queue.add("work", job_id="taken")
    async with site.working(handler) as worker:
        worker.on("lease_lost", lambda job: lost.append(job.id))
        await eventually(lambda: handler.running)
        await site.raw.delete(site.keys.lock("taken"))
        if gone == "the job":
            await site.raw.delete(site.keys.job("taken"))
        handler.gate.set()
        await eventually(lambda: lost)

        await site.queue.add("next", job_id="next")
        await site.until(active=1, completed=1)


async def test_a_lease_that_ran_out_while_nobody_took_the_job_is_given_back(
    timed_site: Site, hand_clock: TestClock
) -> None:
    handler = Held()
    renewals: list[list[str]] = []
    await timed_site.queue.add("work", job_id="w")
    async with timed_site.working(handler) as worker:
        worker.on("leases_renewed", renewals.append)
        await eventually(lambda: handler.running)
        await timed_site.raw.delete(timed_site.keys.lock("w"))
        hand_clock.advance(11)
        await eventually(lambda: renewals)
        handler.gate.set()
        await timed_site.until(completed=1)

    assert handler.cancelled == []
