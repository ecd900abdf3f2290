"""Standings of many jobs at once, pages of the line, removals that the stream tells of, and jobs that stand nowhere."""

from __future__ import annotations

from support.store import RawStore
from taurine.queue import Queue, Worker
from taurine.queue.standings import Ended


async def test_standings_of_jobs_in_every_place(queue: Queue, hand: Worker, prefix: str, raw: RawStore) -> None:
    await queue.add("job", job_id="good")
    await queue.add("job", job_id="bad")
    for _ in range(2):
        job = await hand.fetch()
        assert job is not None
        if job.id == "good":
            await hand.complete(job, {"n": 1})
        else:
            await hand.fail(job, RuntimeError("no"))
    await queue.add("job", job_id="runs")
    assert await hand.fetch() is not None
    await queue.add("job", job_id="waits")
    await queue.add("job", job_id="ordered", priority=2)
    await queue.add("job", job_id="later", delay=60)
    await raw.hset(f"{prefix}:q:nowhere", mapping={"name": "job", "data": "{}", "opts": "{}", "timestamp": 1})
    await raw.set(f"{prefix}:q:text", "no job")

    good, bad, *others = await queue.standings(
        ["good", "bad", "runs", "waits", "ordered", "later", "nowhere", "text", "none"]
    )

    assert isinstance(good, Ended)
    assert isinstance(bad, Ended)
    assert (good.completed, good.value, good.attempts_started, good.attempts_made) == (True, '{"n":1}', 1, 1)
    assert (bad.completed, bad.value) == (False, "no")
    assert "RuntimeError" in bad.stacktrace
    assert good.finished_at is not None
    assert others == [*["in line"] * 4, "nowhere", "gone", "gone"]


async def test_a_long_line_is_not_searched(queue: Queue, hand: Worker, prefix: str, raw: RawStore) -> None:
    """The cost does not grow with the queue: above 1,000 ids in the lists, a stored job is taken to be in line."""
    await queue.add_many([("job", {}) for _ in range(1001)])
    await raw.hset(f"{prefix}:q:nowhere", mapping={"name": "job"})

    assert await queue.standings(["nowhere"]) == ["in line"]


async def test_pages_of_the_line_begin_with_the_next_to_start(queue: Queue) -> None:
    for number in range(5):
        await queue.add("job", job_id=f"w{number}")
        await queue.add("job", job_id=f"p{number}", priority=5 - number)
        await queue.add("job", job_id=f"d{number}", delay=60 + number)

    assert await queue.line_page("wait", 0, 2) == ["w0", "w1"]
    assert await queue.line_page("wait", 4, 2) == ["w4"]
    assert await queue.line_page("wait", 5, 2) == []
    assert await queue.line_page("prioritized", 0, 2) == ["p4", "p3"]
    assert await queue.line_page("delayed", 3, 2) == ["d3", "d4"]


async def test_removals_are_told_as_long_as_the_stream_has_them(queue: Queue) -> None:
    await queue.add("job", job_id="a")
    await queue.add("job", job_id="7")
    await queue.remove("a")
    await queue.remove("7")
    await queue.add_many([("job", {}) for _ in range(1100)])  # more events than one read of the stream takes

    assert set((await queue.recently_removed())[0]) == {"a", "7"}

    await queue.trim_events(0)
    assert (await queue.recently_removed())[0] == {}


async def test_a_job_in_no_collection_is_put_back_where_it_belongs(
    queue: Queue, hand: Worker, prefix: str, raw: RawStore
) -> None:
    await queue.add("job", job_id="waits")
    await queue.add("job", job_id="ordered", priority=3)
    await queue.add("job", job_id="later", delay=60)
    assert not await queue.relist("waits"), "it stands in line"
    await raw.delete(*(f"{prefix}:q:{name}" for name in ("wait", "prioritized", "delayed", "marker")))

    assert [await queue.relist(job_id) for job_id in ("waits", "ordered", "later")] == [True] * 3

    assert [await queue.state(job_id) for job_id in ("waits", "ordered", "later")] == [
        *("waiting", "prioritized", "delayed")
    ]
    assert await raw.zcard(f"{prefix}:q:marker") > 0, "nobody is woken"
    assert not await queue.relist("none")


async def test_a_leased_job_in_no_collection_is_left(queue: Queue, hand: Worker, prefix: str, raw: RawStore) -> None:
    await queue.add("job", job_id="runs")
    assert await hand.fetch() is not None
    await raw.delete(f"{prefix}:q:active")

    assert not await queue.relist("runs")
