"""F33: the ledger is away, for longer than a lease, while jobs finish; the server of queues is there (P3).

Scaled for two busy cores: 600 jobs of 10 ms on 2 workers x 10, two outages of 2.5 s, leases of 2 s, and a wait of 1 s
for the ledger.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import make_url

from faults.job_process import Load, make_application
from faults.jobs import enqueue_all, job_process, judge, statuses, until_all_ended
from faults.workers import states
from support.history import ENDED, History
from support.postgres import PostgresServer
from support.proxy import FaultProxy
from support.store import RawStore
from taurine.errors import LedgerUnavailable
from taurine.jobs.catalog.job_type import JobType
from taurine.ledger.database import open_database
from taurine.ledger.migrate import migrate
from taurine.ledger.statuses import TERMINAL

Figure = Callable[[str], None]

TOTAL = 600
OUTAGE = 2.5


class Ledger(Protocol):
    """A ledger that can be taken from the application, while the test still reads it."""

    url: str
    """The application's."""
    own_url: str
    """The test's."""

    async def take_away(self) -> None: ...

    async def give_back(self) -> None: ...


class LockedFile:
    """SQLite: somebody else holds the lock for writing."""

    def __init__(self, path: Path) -> None:
        self.url = self.own_url = f"sqlite:///{path}"
        self._path = path
        self._holder: sqlite3.Connection | None = None

    async def take_away(self) -> None:
        self._holder = await asyncio.to_thread(self._lock)

    def _lock(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=20.0, check_same_thread=False)
        connection.execute("begin immediate").close()
        return connection

    async def give_back(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.close()


class KilledServer:
    """PostgreSQL: killed in the midst of its work, and started again out of the application's reach, so that the test
    sees what it has recovered before anybody adds to it.
    """

    def __init__(self, server: PostgresServer, proxy: FaultProxy, database: str) -> None:
        self.own_url = server.url_of(database)
        self.url = make_url(self.own_url).set(port=proxy.port).render_as_string(hide_password=False)
        self._server, self._proxy = server, proxy

    async def take_away(self) -> None:
        self._proxy.redirect(self._server.directory / "nobody")  # for connections that are yet to come
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)

    async def give_back(self) -> None:
        self._proxy.redirect(self._server.port)


@pytest.fixture(params=["sqlite", "postgresql"])
async def lost_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    """The ledger of this test alone, with its tables, of the kind that the test's id shows."""
    async with AsyncExitStack() as stack:
        ledger: Ledger = LockedFile(tmp_path / "taurine.db")
        if request.param == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres_factory")()
            proxy = await stack.enter_async_context(FaultProxy(server.port))
            ledger = KilledServer(server, proxy, await server.create_database())
        database = open_database(ledger.own_url)
        await migrate(database)
        await database.close()
        stack.push_async_callback(ledger.give_back)
        yield ledger


async def _is_refused(task: JobType[Load, str], history: History, name: str) -> float:
    """Enqueue one job in vain; the seconds that it took to say so."""
    asked = time.monotonic()
    history.record(kind="attempted", job=name)
    with pytest.raises(LedgerUnavailable):
        await task.enqueue(Load(name=name))
    history.record(kind="unknown", job=name)  # it might have been committed all the same
    return time.monotonic() - asked


async def test_f33_recorded_jobs_outlive_outages_of_the_ledger(
    *,
    lost_ledger: Ledger,
    redis_url: str,
    prefix: str,
    raw: RawStore,
    history: History,
    tmp_path: Path,
    figure: Figure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F33: no end is told to the queue that the ledger has not; each waits for the ledger, keeps its lease, and is
    recorded once. Producers get a typed error.
    """
    monkeypatch.setattr("taurine.ledger.database._LOCK_SECONDS", 1.0)
    settings: dict[str, Any] = {
        "url": redis_url, "prefix": prefix, "home": str(tmp_path), "database_url": lost_ledger.url,
        "concurrency": 10, "lease": 2.0, "keep": TOTAL * 2, "lock_seconds": 1.0,
    }  # fmt: skip
    app, task, _ = make_application(settings)
    refused, slowest, recover = 0, 0.0, list[float]()
    waited, reported, unrecorded = set[str](), set[str](), set[str]()
    database = open_database(lost_ledger.own_url)
    async with app, job_process(settings, history, "w1"), job_process(settings, history, "w2"):
        await enqueue_all(task, history, [f"j{number}" for number in range(TOTAL)])
        for outage in (1, 2):
            await until_all_ended(database, TOTAL * outage // 3)
            history.fault("to no lease")
            await lost_ledger.take_away()
            went = time.monotonic()
            while time.monotonic() - went < OUTAGE:
                slowest = max(slowest, await _is_refused(task, history, f"down-{refused}"))
                refused += 1
                await asyncio.sleep(0.1)  # the pace of a producer, not a wait
            told = {name for name, state in (await states(raw, f"{prefix}:q:")).items() if state in ENDED}
            recorded = {name for name, status in (await statuses(database)).items() if status in TERMINAL}
            returned = {event.job for event in history.events() if event.kind == "finish"}
            reported |= told
            unrecorded |= told - recorded
            waited |= returned - recorded
            await lost_ledger.give_back()
            came = time.monotonic()
            await until_all_ended(database, len(recorded) + 1, within=20)
            recover.append(time.monotonic() - came)
        await until_all_ended(database, TOTAL)
        figures = (
            f"2 outages of {OUTAGE:g} s, {len(waited)} ends waited for the ledger, unrecorded {len(unrecorded)}/{len(reported)} reported done, "
            f"recover_s {', '.join(f'{seconds:.2f}' for seconds in recover)}, {refused} enqueues refused, the slowest after {slowest:.2f} s"
        )
        verdict = await judge(app, history, figure, figures)
        await database.close()
    await app.close()
    assert not unrecorded, "told to the queue, and forgotten"
    assert len(waited) >= 20, "the outages met nothing that ended"
    assert not verdict.duplicated, "an outage of the ledger alone repeats nothing"
