from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taurine.testing import DetachedContext, TestClock, drain, run_job, run_twice

EVENING = datetime(2026, 3, 10, 20, tzinfo=UTC)


@pytest.fixture
def clock() -> TestClock:
    return TestClock(EVENING)


@pytest.fixture
def example(imported: Callable[..., Any], clock: TestClock) -> Any:
    return imported("maintenance", clock=clock)


def begin_sessions(example: Any, number: int, *, expires_at: datetime) -> None:
    with closing(example.open_site()) as site, site:
        rows = [("ada", int(expires_at.timestamp()))] * number
        site.executemany("insert into session values (null, ?, ?)", rows)


def sessions(example: Any) -> list[int]:
    with closing(example.open_site()) as site:
        return [each for (each,) in site.execute("select id from session order by id")]


def test_the_program_deletes_once(started: Callable[..., str]) -> None:
    """SEED-110: a second run, and a second start, find nothing left to delete."""
    again = "0 of 800 sessions deleted, 100 % done"

    assert started("maintenance").splitlines() == [
        "next at 03:30",
        "1200 of 2000 sessions deleted, 100 % done",
        again,
    ]
    assert started("maintenance").splitlines() == ["next at 03:30", again, again]


@pytest.mark.parametrize("number", [0, 1, 499, 500, 501, 1000])
async def test_what_has_expired_goes_and_the_rest_stays(example: Any, number: int) -> None:
    """SEED-110: multiples of a chunk too, and ids that are far apart; the second in which it expires counts."""
    begin_sessions(example, number, expires_at=EVENING)
    begin_sessions(example, 3, expires_at=EVENING + timedelta(seconds=1))
    with closing(example.open_site()) as site, site:
        site.execute("insert into session values (1000000, 'ada', 0)")

    swept = await run_job(example.sweep, {}, scheduled_for=EVENING)

    assert sessions(example) == [number + 1, number + 2, number + 3]
    assert (swept.looked_at, swept.deleted) == (number + 4, number + 1)


async def test_a_run_that_fails_goes_on_where_it_was(
    example: Any, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEED-110: no chunk is looked at twice, and its retry deletes what the tick was for: neither what expires
    meanwhile nor what begins.
    """
    begin_sessions(example, 1_200, expires_at=EVENING)
    begin_sessions(example, 1, expires_at=EVENING + timedelta(seconds=10))
    delete, chunks = example.delete_expired, list[tuple[int, int]]()

    def breaking(site: Any, after: int, until: int, now: int) -> int:
        if len(chunks) == 2:
            chunks.append((0, 0))
            clock.advance(timedelta(hours=1))
            begin_sessions(example, 1, expires_at=EVENING)
            raise ConnectionError("the database went away")
        chunks.append((after, until))
        return delete(site, after, until, now)

    monkeypatch.setattr(example, "delete_expired", breaking)
    handle = await example.app.schedules.trigger("expired-sessions")
    await drain(example.app, until="ended")
    record = await handle.record()

    assert (record.status, record.attempts) == ("completed", 2)
    assert chunks == [(0, 500), (500, 1000), (0, 0), (1000, 1201)]
    assert record.output == {"looked_at": 1_201, "deleted": 1_200}
    assert record.progress["percentage"] == 100
    assert sessions(example) == [1201, 1202]


async def test_a_run_that_is_killed_goes_on_from_what_was_saved_last(
    example: Any, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEED-110: the chunk after that is looked at again, which does no harm."""
    begin_sessions(example, 1_200, expires_at=EVENING)
    killed = DetachedContext(clock=clock, scheduled_for=EVENING)
    saved: list[dict[str, Any]] = []
    delete = example.delete_expired

    def watched(site: Any, after: int, until: int, now: int) -> int:
        saved.append(dict(killed.state))
        if len(saved) == 3:
            raise ConnectionError("the process dies")
        return delete(site, after, until, now)

    with monkeypatch.context() as patched:
        patched.setattr(example, "delete_expired", watched)
        with pytest.raises(ConnectionError):
            await run_job(example.sweep, {}, context=killed)
    left = len(sessions(example))
    context = DetachedContext(clock=clock, scheduled_for=EVENING, attempt=2, state=saved[1])
    swept = await run_job(example.sweep, {}, context=context)

    assert [state.get("after", 0) for state in saved] == [0, 500, 1000]
    assert left == 200
    assert sessions(example) == []
    assert (swept.looked_at, swept.deleted) == (700, 700)


async def test_a_night_may_be_run_twice(example: Any) -> None:
    """SEED-110."""
    begin_sessions(example, 600, expires_at=EVENING)
    begin_sessions(example, 2, expires_at=EVENING + timedelta(days=1))

    await run_twice(example.sweep, {}, outside=lambda: sessions(example), scheduled_for=EVENING)

    assert sessions(example) == [601, 602]


def test_one_run_at_a_time_and_every_night(example: Any) -> None:
    assert example.app.catalog.rules_of("maintenance").concurrency == 1
    assert [f"{time:%d %H:%M}" for time in example.app.schedules.next_runs("expired-sessions", 2, after=EVENING)] == [
        "11 03:30",
        "12 03:30",
    ]
