"""What is over goes when its time has come, in small steps, and what is open stays however old it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select

from ledger.writing import NOW, insert_raw
from support.eventually import eventually
from taurine.errors import InvalidOption
from taurine.jobs.reconciler.retention import PurgeReport, Retention
from taurine.ledger.audit import AuditEntry, record_actions
from taurine.ledger.database import Database, Work
from taurine.ledger.retention import RetentionPolicy, purge_records
from taurine.ledger.schema import attempt, audit, dead_letter, effect, idempotency, job, job_log, job_tag
from taurine.testing import TestClock

DAY = 86_400_000
ERROR = '{"type":"E"}'


def _finished(connection: Connection, id_: str, days_ago: float, *, status: str = "completed", **given: Any) -> None:
    """A job that took an hour and ended so long ago, with a row in each table that goes with it."""
    ended = int(NOW - days_ago * DAY)
    filled = {"created_at": ended - 3_600_000, "updated_at": ended, "finished_at": ended, "status": status}
    if status == "failed":
        filled["error"] = ERROR
    insert_raw(connection, id=id_, **(filled | given))
    connection.execute(insert(job_tag), {"job_id": id_, "tag": "red", "created_at": ended})
    connection.execute(
        insert(attempt), {"job_id": id_, "fence": 1, "number": 1, "outcome": "retried", "finished_at": ended}
    )
    connection.execute(insert(job_log), {"job_id": id_, "number": 1, "at": ended, "level": "info", "message": "m"})


def _open(connection: Connection, id_: str, days_ago: float, status: str = "queued", **given: Any) -> None:
    created = int(NOW - days_ago * DAY)
    insert_raw(connection, id=id_, status=status, created_at=created, updated_at=created, **given)


def _dead(id_: str, failed_days_ago: float, resolved_days_ago: float | None = None, **given: Any) -> dict[str, Any]:
    filled = {
        "id": id_,
        "job_id": id_,
        "generation": 0,
        "type": "t",
        "queue": "q",
        "payload": "{}",
        "error": ERROR,
        "reason": "exhausted",
        "attempts": 3,
        "max_attempts": 3,
        "priority": 0,
        "failed_at": int(NOW - failed_days_ago * DAY),
        "status": "open" if resolved_days_ago is None else "discarded",
        "resolved_at": None if resolved_days_ago is None else int(NOW - resolved_days_ago * DAY),
    }
    return filled | given


def _effect(key: str, days_ago: float, job_id: str) -> dict[str, Any]:
    at = int(NOW - days_ago * DAY)
    return {"scope": "", "key": key, "status": "intent", "job_id": job_id, "fence": 1, "created_at": at}


def _count(connection: Connection, table: Any) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


async def _all(database: Database, column: Any) -> set[Any]:
    return await database.read(lambda connection: set(connection.scalars(select(column))))


@pytest.fixture
def clock() -> TestClock:
    return TestClock(NOW / 1000)


@pytest.fixture
def sweep(database: Database, clock: TestClock) -> Callable[..., Retention]:
    def make(rows_per_step: int = 3, **policy: Any) -> Retention:
        return Retention(
            database, RetentionPolicy(**policy), clock=clock, random=Random(1), rows_per_step=rows_per_step
        )

    return make


async def test_finished_records_go_after_their_age_with_all_that_is_theirs(
    database: Database, sweep: Callable[..., Retention]
) -> None:
    def fill(connection: Connection) -> None:
        for number in range(10):
            _finished(connection, f"old-{number}", 31 + number, status=("completed", "failed", "cancelled")[number % 3])
        _finished(connection, "young", 29)
        # created long ago, and ended lately
        _finished(connection, "slow", 5, created_at=NOW - 300 * DAY)

    await database.write(fill)
    report = await sweep().run_once()
    assert report == PurgeReport(
        records=10, dead_letters=0, effects=0, idempotency_keys=0, audit=0, tallies=0, workers=0
    )
    for column in (job.c.id, job_tag.c.job_id, attempt.c.job_id, job_log.c.job_id):
        assert await _all(database, column) == {"young", "slow"}
    assert (await sweep().run_once()).total == 0


async def test_an_open_record_is_never_touched(database: Database, sweep: Callable[..., Retention]) -> None:
    def fill(connection: Connection) -> None:
        for status in ("queued", "running", "retrying", "waiting"):
            for number in range(3):
                _open(connection, f"{status}-{number}", 4_000, status)
        _finished(connection, "old", 3_999)

    await database.write(fill)
    assert (await sweep(records=timedelta(0)).run_once()).records == 1
    assert len(await _all(database, job.c.id)) == 12


async def test_each_type_has_its_own_age_and_none_is_for_ever(
    database: Database, sweep: Callable[..., Retention]
) -> None:
    """PEER-08."""

    def fill(connection: Connection) -> None:
        for name in ("bill", "mail", "tick", "word"):
            for days in (0.5, 2, 40, 400):
                _finished(connection, f"{name}-{days}", days, type=name)

    await database.write(fill)
    ages = {"tick": timedelta(days=1), "bill": None, "word": timedelta(days=100)}
    await sweep(by_type=ages).run_once()
    assert await _all(database, job.c.id) == {
        *("bill-0.5", "bill-2", "bill-40", "bill-400"),
        *("mail-0.5", "mail-2"),
        "tick-0.5",
        *("word-0.5", "word-2", "word-40"),
    }


async def test_dead_letters_go_by_when_they_were_resolved_and_open_ones_by_when_they_failed(
    database: Database, sweep: Callable[..., Retention]
) -> None:
    """PEER-37, CON-03: apart from the records, and longer."""
    letters = [
        _dead("open-old", 91),
        _dead("open-young", 89),
        _dead("resolved-old", 300, 91),
        _dead("resolved-lately", 300, 5),
        *(_dead(f"more-{number}", 100, 95) for number in range(7)),
    ]
    await database.write(lambda connection: connection.execute(insert(dead_letter), letters))
    kept = sweep(open_dead_letters=None)
    assert (await kept.run_once()).dead_letters == 8
    assert await _all(database, dead_letter.c.id) == {"open-old", "open-young", "resolved-lately"}
    assert (await sweep().run_once()).dead_letters == 1
    assert await _all(database, dead_letter.c.id) == {"open-young", "resolved-lately"}
    assert (await sweep(dead_letters=None, open_dead_letters=None).run_once()).dead_letters == 0


async def test_an_effect_is_kept_while_its_job_could_run_again(
    database: Database, sweep: Callable[..., Retention]
) -> None:
    """Else a redrive would charge a second time."""

    def fill(connection: Connection) -> None:
        _open(connection, "running", 200, "running")
        connection.execute(insert(dead_letter), _dead("dead", 80))
        rows = [_effect(f"gone-{number}", 100, "gone") for number in range(8)]
        rows += [_effect("of-running", 150, "running"), _effect("of-dead", 150, "dead"), _effect("young", 80, "gone")]
        connection.execute(insert(effect), rows)

    await database.write(fill)
    assert (await sweep().run_once()).effects == 8
    assert await _all(database, effect.c.key) == {"of-running", "of-dead", "young"}


async def test_idempotency_keys_go_when_they_expire(database: Database, sweep: Callable[..., Retention]) -> None:
    """CON-16: a key has a life of its own, whatever becomes of its record."""
    rows = [
        {"scope": "", "key": f"k{n}", "job_id": "x", "request_hash": "h", "created_at": NOW - DAY, "expires_at": at}
        for n, at in enumerate([NOW - 1, NOW, NOW + 1, *range(NOW - 20, NOW - 10)])
    ]
    await database.write(lambda connection: connection.execute(insert(idempotency), rows))
    assert (await sweep().run_once()).idempotency_keys == 12
    assert await _all(database, idempotency.c.key) == {"k2"}


async def test_audit_rows_outlive_records_and_go_at_last(database: Database, sweep: Callable[..., Retention]) -> None:
    days = [900, 800, 500, 400, 366, 364, 200, 1]
    entries = [AuditEntry(NOW - day * DAY, "ann", "enqueue", f"job-{day}") for day in days]
    await database.write(lambda connection: record_actions(connection, entries))
    assert (await sweep().run_once()).audit == 5
    assert await _all(database, audit.c.job_id) == {"job-364", "job-200", "job-1"}
    assert (await sweep(audit=None).run_once()).audit == 0


async def test_a_step_looks_at_no_more_rows_than_it_may(database: Database) -> None:
    def fill(connection: Connection) -> None:
        for number in range(20):
            _open(connection, f"open-{number:02}", 500 - number)
        for number in range(20):
            _finished(connection, f"old-{number:02}", 100 - number)

    await database.write(fill)
    policy = RetentionPolicy()
    removed: list[int] = []
    after = None
    while True:
        step = await database.write(lambda connection, after=after: purge_records(connection, policy, NOW, 8, after))
        removed.append(step.removed)
        after = step.after
        if after is None:
            break
    assert sum(removed) == 20
    assert max(removed) <= 8
    assert removed[:2] == [0, 0]  # the open ones are passed, not looked at again and again
    assert len(removed) == 6


async def test_a_job_that_is_run_again_meanwhile_stays(database: Database) -> None:
    """Its row is read as old and ended; when it is to go it is neither."""
    await database.write(lambda connection: _finished(connection, "a", 100))

    class Rerun:
        """A connection on which the job is queued again between the look and the removal."""

        def __init__(self, connection: Connection) -> None:
            self._connection = connection
            self._reads = 0

        def scalar(self, statement: Any) -> Any:
            return self._connection.scalar(statement)

        def execute(self, statement: Any) -> Any:
            done = self._connection.execute(statement)
            self._reads += 1
            if self._reads == 1:
                self._connection.execute(job.update().values(status="queued", finished_at=None))
                rows = done.all()
                return type("Rows", (), {"all": lambda _: rows})()
            return done

    step = await database.write(lambda connection: purge_records(Rerun(connection), RetentionPolicy(), NOW, 10))  # type: ignore[arg-type]
    assert step.removed == 0
    assert await _all(database, job.c.id) == {"a"}


async def test_sweeps_at_once_remove_each_row_once(database: Database, sweep: Callable[..., Retention]) -> None:
    def fill(connection: Connection) -> None:
        for number in range(60):
            _finished(connection, f"old-{number:02}", 100)

    await database.write(fill)
    reports = await asyncio.gather(*(sweep(rows_per_step=7).run_once() for _ in range(3)))
    assert sum(report.records for report in reports) == 60
    assert await _all(database, job.c.id) == set()


async def test_it_runs_without_traffic(database: Database, sweep: Callable[..., Retention], clock: TestClock) -> None:
    """BMQ-167: time alone removes; nothing is enqueued, and nothing finishes."""
    await database.write(lambda connection: _finished(connection, "a", 29.99))
    service = sweep()
    service.start()
    try:
        await eventually(lambda: clock.sleepers)
        assert await _all(database, job.c.id) == {"a"}
        clock.advance(7_200)

        async def gone() -> bool:
            return not await _all(database, job.c.id)

        await eventually(gone)
    finally:
        await service.stop()


async def test_other_writes_go_between_its_steps(database: Database, clock: TestClock) -> None:
    """Each step is a transaction of its own, so that nobody waits for a whole pass."""

    def fill(connection: Connection) -> None:
        for number in range(30):
            _finished(connection, f"old-{number:02}", 100)

    await database.write(fill)
    writes = 0

    class Counting:
        url = database.url
        read = database.read
        write_at_once = database.write_at_once
        close = database.close
        abandon = database.abandon

        async def write(self, work: Work[Any]) -> Any:
            nonlocal writes
            writes += 1
            return await database.write(work)

    await Retention(Counting(), RetentionPolicy(), clock=clock, random=Random(1), rows_per_step=5).run_once()
    assert writes >= 30 / 5 + 4


def test_a_negative_age_is_refused() -> None:
    with pytest.raises(InvalidOption, match="records"):
        RetentionPolicy(records=timedelta(days=-1))
    with pytest.raises(InvalidOption, match=r"mail\.send"):
        RetentionPolicy(by_type={"mail.send": timedelta(seconds=-1)})
