"""F24 with whole applications: the worker cannot know whether what it has told a server was heard, since the connection
is reset after k bytes of the answer, for every k.

Once the queue's server, which is told of an attempt's end and asked for the next job in one turn; once the ledger,
which commits that end. Each job must be recorded as completed once, run once and be charged one attempt. No loop of the
worker's looks after what it might have lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import make_url

from faults.job_process import Load
from faults.jobs import judge
from faults.replies import first_reply, until_over
from faults.workers import until_ended
from support.eventually import eventually
from support.history import History
from support.postgres import PostgresServer
from support.proxy import Cut, FaultProxy
from support.server import ValkeyServer
from support.store import RawStore
from taurine.app import Taurine
from taurine.jobs.catalog.declaring import JobTypeOptions
from taurine.jobs.handler.context import Context
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.worker.worker import JobWorker

Figure = Callable[[str], None]

LANES = 12
"""Queues that are cut side by side, since each reset costs a pause."""

WORKERS = 4
"""Applications whose ledger is cut, side by side for the same reason: the jobs of one would be recorded together, by
one request.
"""

BEYOND = 100_000

ALONE = Upkeep(reconcile_every=None, expire_every=None, purge_every=None)


class Lane:
    """One queue, whose jobs cut the next answer that the worker gets to a request with their mark; the desk, which
    takes jobs on, is not cut.

    Jobs that `chat` say something, which is saved together with how they ended.
    """

    def __init__(
        self,
        desk: Taurine,
        app: Taurine,
        name: str,
        history: History,
        arm: Callable[[int, str], Cut],
        *,
        chat: bool = False,
    ) -> None:
        self.name = name
        self.cut: Cut | None = None
        self._desk = desk
        self._chat = chat
        self._history = history
        self._arm = arm
        self._after = 0
        self._added = 0
        self._base = f"{app.settings.prefix}:{name}:"
        rules: JobTypeOptions = {"queue": name, "job_id": "{name}", "keep_completed": True}
        app.job(f"cut.{name}", **rules)(self._run)
        self._work = desk.declare(f"cut.{name}", Load, str, **rules)

    async def _run(self, load: Load, ctx: Context) -> str:
        token = f"{load.name}/{ctx.fence}"
        self._history.start(load.name, token=token, worker="w")
        self._history.effect(load.name, token=token, worker="w")
        if self._chat:
            ctx.log.info("as good as done")
        if load.name.endswith("-0"):
            # While this is the only job, the next request that holds the mark is the one that says how it ended.
            self.cut = self._arm(self._after, self._mark())
        return f"by {load.name}"

    def _mark(self) -> str:
        """What the ids of the present jobs begin with, and no other request of any lane holds."""
        return f"{self.name}.{self._after:06}-"

    async def settle_under_cut(self, raw: RawStore, after: int, jobs: int) -> Cut:
        """Run so many jobs, the first of which has the answer to its end cut."""
        self._after, self.cut = after, None
        names = [f"{self._mark()}{number}" for number in range(jobs)]
        with self._history.enqueuing(*names):
            await self._work.enqueue_many([Load(name=name) for name in names])
        self._added += jobs
        await until_ended(raw, self._base, self._added, within=20)
        assert self.cut is not None
        return self.cut

    async def cut_at(self, raw: RawStore, places: range, jobs: int) -> None:
        for after in places:
            cut = await self.settle_under_cut(raw, after, jobs)
            assert cut.happened.is_set(), f"the answer was shorter than {after} bytes"

    async def require_one_charge(self, raw: RawStore) -> int:
        """Every job was charged one attempt, in the record and in the queue, and ended there once; how many there were."""
        entries = [fields for _, fields in await raw.xrange(f"{self._base}events")]
        told = [fields["jobId"] for fields in entries if fields["event"] in ("completed", "failed")]
        assert len(set(told)) == len(told) == self._added
        for name in told:
            record = await self._desk.get(name)
            assert record is not None
            assert (record.status, record.attempts, record.output) == ("completed", 1, f"by {name}")
            assert await raw.hmget(f"{self._base}{name}", "atm", "ats", "stc") == ["1", "1", None], name
        return len(told)


@pytest.fixture
async def application(prefix: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Callable[..., Taurine]]:
    """Make the application over a ledger: `application(database_url)`; with `redis_url` it reaches the queues by that."""
    async with AsyncExitStack() as stack:

        def make(database_url: str, *, redis_url: str = redis_url) -> Taurine:
            app = Taurine("cuts", redis_url=redis_url, database_url=database_url, prefix=prefix, home=tmp_path)
            stack.push_async_callback(app.close)
            return app

        yield make


def _worker(app: Taurine) -> JobWorker:
    return app.worker(concurrency=1, lease=60, stalled_interval=60, upkeep=ALONE, name="w")


@pytest.mark.parametrize("jobs", [1, 2], ids=["the turn settles", "the turn settles and claims"])
async def test_f24_recorded_jobs_outlive_every_cut_of_a_turns_reply(
    *,
    valkey: ValkeyServer,
    application: Callable[..., Taurine],
    ledger: str,
    raw: RawStore,
    history: History,
    figure: Figure,
    jobs: int,
) -> None:
    """F24, P3: the record has the end already, and the queue is told of it once."""
    async with FaultProxy(valkey.port) as proxy:
        desk, app = application(ledger), application(ledger, redis_url=proxy.url)

        def arm(after: int, mark: str) -> Cut:
            return proxy.cut_reply(after=after, to=mark.encode())

        lanes = [Lane(desk, app, f"lane{number:02}", history, arm) for number in range(LANES)]
        async with _worker(app):
            uncut = await lanes[0].settle_under_cut(raw, BEYOND, jobs)
            length = await eventually(lambda: first_reply(bytes(uncut.passed)), 5, "the reply did not come")
            assert length > 20
            await proxy.heal()
            async with asyncio.TaskGroup() as side_by_side:
                for number, lane in enumerate(lanes):
                    side_by_side.create_task(lane.cut_at(raw, range(number, length + 1, LANES), jobs))
            ended = sum([await lane.require_one_charge(raw) for lane in lanes])
            verdict = await judge(desk, history, figure, f"k tested {length + 1}, double_finish 0/{ended}")
        await app.close()
    assert ended == jobs * (length + 2)
    assert not verdict.duplicated


@pytest.mark.parametrize("chat", [False, True], ids=["one statement", "a transaction"])
async def test_f24_recorded_jobs_outlive_every_cut_of_the_ledgers_reply(
    *,
    postgres: PostgresServer,
    postgres_url: str,
    application: Callable[..., Taurine],
    raw: RawStore,
    history: History,
    figure: Figure,
    caplog: pytest.LogCaptureFixture,
    chat: bool,
) -> None:
    """F24, P3: a commit whose answer never came may have been one; it is asked for again, and counts once."""
    async with AsyncExitStack() as stack:
        desk = application(postgres_url)
        await desk.migrate()
        proxies = [await stack.enter_async_context(FaultProxy(postgres.port)) for _ in range(WORKERS)]
        lanes: list[Lane] = []
        for number, proxy in enumerate(proxies):
            through = make_url(postgres_url).set(port=proxy.port).render_as_string(hide_password=False)
            app = application(through)
            stack.push_async_callback(app.close)

            def arm(after: int, mark: str, proxy: FaultProxy = proxy) -> Cut:
                # The result is in no other request than the one that records it.
                return proxy.cut_reply(after=after, to=f"by {mark}".encode())

            lanes.append(Lane(desk, app, f"lane{number}", history, arm, chat=chat))
            await stack.enter_async_context(_worker(app))
        uncut = await lanes[0].settle_under_cut(raw, BEYOND, 1)
        length = await eventually(lambda: until_over(bytes(uncut.passed)), 5, "the end was not answered")
        assert length > 20
        assert (b"COMMIT" in uncut.passed[:length]) == chat
        await proxies[0].heal()
        async with asyncio.TaskGroup() as side_by_side:
            for number, lane in enumerate(lanes):
                side_by_side.create_task(lane.cut_at(raw, range(number, length + 1, WORKERS), 1))
        ended = sum([await lane.require_one_charge(raw) for lane in lanes])
        verdict = await judge(desk, history, figure, f"k tested {length + 1}, double_finish 0/{ended}")
    assert ended == length + 2
    assert not verdict.duplicated
    assert "was refused" not in caplog.text, "the worker took its own commit for somebody else's"
