"""F24: the connection is reset after k bytes of the reply to a turn, for every k: the worker cannot know whether the
turn ran.

Each job must complete once, run once and be charged one attempt; a job that was claimed by the cut turn comes to run
all the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from faults.replies import first_reply
from faults.workers import until_ended
from support.eventually import eventually
from support.proxy import Cut, FaultProxy
from support.server import ValkeyServer
from support.store import RawStore
from taurine.queue import Job, Queue, Worker
from taurine.queue.connection import Connection

LANES = 12
"""Queues that are cut side by side, since each reset costs a pause."""

BEYOND = 100_000


class Lane:
    """One queue of the direct connection, whose worker is behind the proxy and runs one job at a time."""

    def __init__(self, name: str, proxy: FaultProxy, through: Connection, direct: Connection, prefix: str) -> None:
        self.ran = Counter[str]()
        self._proxy = proxy
        self._base = f"{prefix}:{name}:"
        self._queue = Queue(name, direct, prefix=prefix)
        self._worker = Worker(
            name, self._work, through, prefix=prefix, concurrency=1, lease=60, stalled_interval=60, drain_delay=1
        )
        self._cut: Cut | None = None
        self._after = 0
        self._added = 0

    async def reply_length(self, store: RawStore, jobs: int) -> int:
        """Bytes of the reply to the turn that settles the first of so many jobs: measured by a cut that never comes."""
        async with self._worker:
            cut = await self._settle_under_cut(store, BEYOND, jobs)
            return await eventually(lambda: first_reply(bytes(cut.passed)), 5, "the reply did not come")

    async def cut_at(self, store: RawStore, places: range, jobs: int) -> None:
        async with self._worker:
            for after in places:
                cut = await self._settle_under_cut(store, after, jobs)
                assert cut.happened.is_set(), f"the reply was shorter than {after} bytes"

    async def _settle_under_cut(self, store: RawStore, after: int, jobs: int) -> Cut:
        self._after, self._cut = after, None
        await self._queue.add_many([("job", {}, {"job_id": f"{self._mark()}{number}"}) for number in range(jobs)])
        self._added += jobs
        await until_ended(store, self._base, self._added, within=20)
        assert self._cut is not None
        return self._cut

    async def _work(self, job: Job) -> str:
        self.ran[job.id] += 1
        if job.id.endswith("-0"):
            # While this is the only job, the next request that names it is the turn that settles it.
            self._cut = self._proxy.cut_reply(after=self._after, to=self._mark().encode())
        return job.id

    def _mark(self) -> str:
        """What the ids of the present jobs begin with, and no other request of any lane holds."""
        return f"{self._queue.name}.{self._after:06}-"

    async def require_once(self, store: RawStore) -> int:
        """Every job ran once, ended once and was charged once; how many there were."""
        told = Counter(
            fields["jobId"]
            for _, fields in await store.xrange(f"{self._base}events")
            if fields["event"] in ("completed", "failed")
        )
        assert set(told.values()) == {1}, told
        assert told == self.ran
        for job in told:
            fields = await store.hmget(f"{self._base}{job}", "atm", "ats", "stc", "returnvalue")
            assert fields == ["1", "1", None, f'"{job}"'], (job, fields)
        assert not await store.exists(f"{self._base}active", f"{self._base}wait")
        return len(told)


@pytest.mark.parametrize("jobs", [1, 2], ids=["the turn settles", "the turn settles and claims"])
async def test_f24_every_cut_of_a_turns_reply_is_made_good(
    *, valkey: ValkeyServer, redis_url: str, prefix: str, raw: RawStore, figure: Callable[[str], None], jobs: int
) -> None:
    async with FaultProxy(valkey.port) as proxy, AsyncExitStack() as stack:
        through, direct = Connection(proxy.url), Connection(redis_url)
        stack.push_async_callback(through.close)
        stack.push_async_callback(direct.close)
        length = await Lane("lane-to", proxy, through, direct, prefix).reply_length(raw, jobs)
        assert length > 20
        lanes = [Lane(f"lane-{number:02}", proxy, through, direct, prefix) for number in range(LANES)]
        async with asyncio.TaskGroup() as side_by_side:
            for number, lane in enumerate(lanes):
                side_by_side.create_task(lane.cut_at(raw, range(number, length + 1, LANES), jobs))

    ended = sum([await lane.require_once(raw) for lane in lanes])
    figure(f"k tested {length + 1}, double_finish 0/{ended}")
    assert ended == jobs * (length + 1)
