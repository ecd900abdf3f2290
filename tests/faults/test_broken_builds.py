"""The checker on builds that break a promise: each must be found, or the fault tests prove nothing."""

from __future__ import annotations

from typing import Any

import pytest

from faults.test_killed_workers import OPTIONS, _freeze_the_owner
from faults.workers import WorkerProcess, add_jobs, ended_jobs, states, until_ended
from support.eventually import eventually
from support.history import History, check
from support.store import RawStore
from taurine.queue import Queue


async def test_it_finds_a_worker_that_answers_before_it_runs(
    redis_url: str, prefix: str, raw: RawStore, history: History
) -> None:
    base = f"{prefix}:q:"
    async with Queue("q", redis_url, prefix=prefix) as queue:
        await add_jobs(queue, history, 200)
        async with WorkerProcess(
            redis_url, prefix, history, name="w1", broken="answers before it runs", **OPTIONS
        ) as broken:
            await until_ended(raw, base, 200)
            await broken.kill()

    verdict = check(history, states=await states(raw, base))
    assert verdict.hollow
    with pytest.raises(AssertionError, match="hollow"):
        verdict.require()


async def test_it_finds_a_script_that_heeds_no_lease(
    redis_url: str, prefix: str, raw: RawStore, history: History
) -> None:
    base = f"{prefix}:q:"
    # Without renewals the old owner does not hear of its loss before it finishes, so only the script is in its way.
    broken: dict[str, Any] = {"broken": "heeds no lease", "renew_leases": False}
    await _freeze_the_owner(redis_url, prefix, raw, history, {"ms": 1500}, **broken)

    verdict = check(history, states=await states(raw, base))
    assert verdict.stale_writes
    with pytest.raises(AssertionError, match="stale writes"):
        verdict.require()


async def test_it_finds_one_lost_job_of_a_thousand(
    redis_url: str, prefix: str, raw: RawStore, history: History
) -> None:
    base = f"{prefix}:q:"
    async with Queue("q", redis_url, prefix=prefix) as queue:
        await add_jobs(queue, history, 1000)
        async with WorkerProcess(redis_url, prefix, history, name="w1", broken="drops one of 1,000", **OPTIONS):

            async def all_but_one() -> bool:
                return await ended_jobs(raw, base) == 999 and not await raw.exists(f"{base}wait", f"{base}active")

            await eventually(all_but_one, 20)

    verdict = check(history, states=await states(raw, base))
    assert verdict.lost == {"j500"}
    with pytest.raises(AssertionError, match="1 lost: j500"):
        verdict.require()
