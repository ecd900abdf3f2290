"""What is kept of finished jobs: results, and the rules by which they go."""

from __future__ import annotations

import json
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from typing import Any

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.options import Keep
from taurine.queue.job import Job
from taurine.testing import TestClock


class Ticking:
    """A handler that moves the clock by a second at each job, so that no two finish in the same millisecond."""

    def __init__(self, clock: TestClock, *, fail: bool = False) -> None:
        self._clock = clock
        self._fail = fail

    async def __call__(self, job: Job) -> None:
        self._clock.advance(1.0)
        if self._fail or job.name == "fail":
            raise RuntimeError("as asked")


async def kept(site: Site, kind: str) -> list[str]:
    """The ids in a finished set, oldest first; each must still have its hash."""
    ids: list[str] = await site.raw.zrange(site.keys.key(kind), 0, -1)
    for job_id in ids:
        assert await site.hash(job_id), f"{job_id} is in {kind} without a hash"
    return ids


async def finish(site: Site, clock: TestClock, jobs: list[tuple[str, dict[str, Any]]], **worker: Any) -> None:
    """Run the jobs one after the other, to their end."""
    done: list[str] = []
    async with site.working(Ticking(clock), concurrency=1, **worker) as running:
        running.on("completed", lambda job, _: done.append(job.id))
        running.on("failed", lambda job, _: done.append(job.id))
        for name, options in jobs:
            await site.queue.add(name, **options)
        await eventually(lambda: len(done) == len(jobs), 15.0)


@pytest.mark.parametrize(("name", "kind"), [("work", "completed"), ("fail", "failed")])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(None, [str(n) for n in range(1, 21)], id="all by default"),
        pytest.param(False, [str(n) for n in range(1, 21)], id="all"),
        pytest.param(True, [], id="none"),
        pytest.param(5, ["16", "17", "18", "19", "20"], id="a count"),
        pytest.param(Keep(count=5), ["16", "17", "18", "19", "20"], id="Keep(count)"),
        pytest.param(Keep(age=4.0), ["17", "18", "19", "20"], id="Keep(age)"),
        pytest.param(Keep(age=4.0, count=2), ["19", "20"], id="both"),
        pytest.param(Keep(count=0), [], id="count 0"),
    ],
)
async def test_what_a_rule_keeps_of_twenty_jobs_bmq_029(
    timed_site: Site, hand_clock: TestClock, name: str, kind: str, *, rule: Any, expected: list[str]
) -> None:
    option = "remove_on_complete" if kind == "completed" else "remove_on_fail"
    own: dict[str, Any] = {} if rule is None else {option: rule}
    await finish(timed_site, hand_clock, [(name, own)] * 20)
    assert await kept(timed_site, kind) == expected


async def test_the_workers_rule_holds_for_jobs_without_their_own_bmq_029(
    timed_site: Site, hand_clock: TestClock
) -> None:
    jobs: list[tuple[str, dict[str, Any]]] = [
        ("work", {}),
        ("work", {"remove_on_complete": False}),
        ("fail", {}),
        ("fail", {"remove_on_fail": False}),
    ]
    await finish(timed_site, hand_clock, jobs, remove_on_complete=True, remove_on_fail=True)

    assert (await kept(timed_site, "completed"), await kept(timed_site, "failed")) == (["2"], ["4"])


async def test_nothing_goes_from_a_queue_at_rest_bmq_029(timed_site: Site, hand_clock: TestClock) -> None:
    rule = Keep(age=60.0)
    await finish(timed_site, hand_clock, [("work", {"remove_on_complete": rule})])
    hand_clock.advance(58.0)
    await finish(timed_site, hand_clock, [("fail", {"remove_on_complete": rule})])
    assert await kept(timed_site, "completed") == ["1"], "young enough"

    hand_clock.advance(3_600.0)
    assert await kept(timed_site, "completed") == ["1"], "too old, but nothing has completed since"
    await finish(timed_site, hand_clock, [("fail", {"remove_on_fail": rule})])
    assert await kept(timed_site, "completed") == ["1"], "only a job that ends in the same way counts"

    await finish(timed_site, hand_clock, [("work", {"remove_on_complete": rule})])
    assert await kept(timed_site, "completed") == ["4"]


async def test_removals_by_age_are_bounded_bmq_029(timed_site: Site, hand_clock: TestClock) -> None:
    await finish(timed_site, hand_clock, [("work", {})] * 5)
    hand_clock.advance(3_600.0)
    await finish(timed_site, hand_clock, [("work", {"remove_on_complete": Keep(age=60.0, limit=2)})])

    assert len(await kept(timed_site, "completed")) == 4


async def test_all_keys_of_a_removed_job_go_bmq_029(timed_site: Site) -> None:
    async def handler(job: Job) -> None:
        await job.log("a line")

    await timed_site.queue.add("work", remove_on_complete=True, job_id="gone")
    async with timed_site.working(handler):
        await eventually(lambda: timed_site.events("completed"))

    assert await timed_site.raw.keys(timed_site.keys.job("gone*")) == []


_READER = """
import asyncio, json, sys
from redis.asyncio import Redis
async def main() -> None:
    async with Redis.from_url(sys.argv[1]) as client:
        print((await client.hget(sys.argv[2], "returnvalue")).decode())
asyncio.run(main())
"""


async def test_a_result_can_be_read_by_another_process_bmq_066(site: Site) -> None:
    result = {"total": 3, "names": ["Ä", "雪"], "ratio": 0.5, "none": None, "yes": True}

    async def handler(job: Job) -> dict[str, Any]:
        return result

    await site.queue.add("work", job_id="w")
    async with site.working(handler):
        await site.until(completed=1)

    reader = await create_subprocess_exec(sys.executable, "-c", _READER, site.url, site.keys.job("w"), stdout=PIPE)
    output, _ = await reader.communicate()
    assert json.loads(output) == result


async def test_a_handler_without_a_result_stores_null_bmq_066(site: Site) -> None:
    async def handler(job: Job) -> None:
        return None

    await site.queue.add("work")
    async with site.working(handler):
        await site.until(completed=1)

    assert (await site.hash("1"))["returnvalue"] == "null"
