"""Adding jobs: BMQ-001 to BMQ-012, BMQ-016, BMQ-017, BMQ-020, BMQ-021 and BMQ-039."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from taurine.errors import InvalidName, InvalidOption, PayloadError, PayloadTooLarge
from taurine.options import AddOptions
from taurine.queue import Job, Queue, Worker
from taurine.queue.connection import Connection
from taurine.retry import Exponential
from taurine.testing import TestClock


async def stored_events(raw: Redis, prefix: str) -> list[dict[str, str]]:
    entries: Any = await raw.xrange(f"{prefix}:q:events")
    return [fields for _, fields in entries]


async def run_order(hand: Worker) -> list[str]:
    """The names of the jobs in line, in the order in which they are claimed."""
    names: list[str] = []
    while (job := await hand.fetch()) is not None:
        names.append(job.name)
    return names


@pytest.mark.parametrize("name", ["", "a:b", "line\nbreak", "x" * 600])
def test_a_queue_name_that_cannot_be_stored_is_refused(name: str, connection: Connection) -> None:
    """BMQ-001."""
    with pytest.raises(InvalidName):
        Queue(name, connection)


def test_a_plain_name_is_accepted_without_a_server() -> None:
    """BMQ-001: nothing is opened before the first call."""
    assert Queue("emails", "redis://127.0.0.1:1").name == "emails"


async def test_a_job_is_read_back_by_another_process(queue: Queue, redis_url: str, prefix: str) -> None:
    """BMQ-002."""
    added = await queue.add("welcome", {"to": "ä@example.com"}, attempts=3, backoff=Exponential(1.0, jitter=0.5))
    script = (
        "import asyncio, sys\n"
        "from taurine.queue import Queue\n"
        "async def main():\n"
        "    async with Queue('q', sys.argv[1], prefix=sys.argv[2]) as queue:\n"
        "        job = await queue.get_job(sys.argv[3])\n"
        "        print([job.id, job.name, job.data, job.options.attempts, job.options.backoff])\n"
        "asyncio.run(main())\n"
    )
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, redis_url, prefix, added.id, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await other.communicate()
    assert output.decode().strip() == repr(
        [added.id, "welcome", {"to": "ä@example.com"}, 3, Exponential(1.0, jitter=0.5)]
    )


async def test_a_list_with_one_bad_job_stores_nothing(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-003: all are checked before any is sent."""
    jobs: list[tuple[str, int, AddOptions]] = [("n", number, {"attempts": 1}) for number in range(999)]
    with pytest.raises(InvalidOption, match="attempts"):
        await queue.add_many([*jobs, ("n", 999, {"attempts": 0})])
    assert await raw.keys(f"{prefix}:*") == []


async def test_a_long_list_is_stored_in_few_round_trips(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-003: 1,000 jobs in one script call, and their order is kept."""
    before = await raw.info("commandstats")
    jobs = await queue.add_many([("n", number) for number in range(1000)])
    after = await raw.info("commandstats")
    calls = sum(
        after.get(f"cmdstat_{command}", {"calls": 0})["calls"] - before.get(f"cmdstat_{command}", {"calls": 0})["calls"]
        for command in ("eval", "evalsha")
    )
    assert calls <= 2  # the second one sends the text of a script that the server does not know
    assert [job.id for job in jobs] == [str(number) for number in range(1, 1001)]
    assert await raw.lrange(f"{prefix}:q:wait", 0, -1) == [str(number) for number in range(1000, 0, -1)]


async def test_defaults_of_the_queue_are_overridden_by_the_job(connection: Connection, prefix: str) -> None:
    """BMQ-004."""
    queue = Queue("q", connection, prefix=prefix, defaults={"attempts": 3, "priority": 2})
    plain, special = await queue.add("plain"), await queue.add("special", attempts=5)
    stored = [await queue.get_job(job.id) for job in (plain, special)]
    assert [(job.options.attempts, job.options.priority) for job in stored if job] == [(3, 2), (5, 2)]


async def test_automatic_ids_count_up(queue: Queue) -> None:
    """BMQ-005."""
    jobs = [await queue.add("n") for _ in range(3)]
    ids = [int(job.id) for job in jobs]
    assert ids == sorted(set(ids))


async def test_an_id_that_exists_is_not_added_again(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-006."""
    first = await queue.add("n", {"v": 1}, job_id="order/7")
    second = await queue.add("n", {"v": 2}, job_id="order/7")
    assert (first.id, first.duplicate, second.id, second.duplicate) == ("order/7", False, "order/7", True)
    stored = await queue.get_job("order/7")
    assert stored is not None
    assert stored.data == {"v": 1}
    assert await raw.llen(f"{prefix}:q:wait") == 1
    duplicated = [event for event in await stored_events(raw, prefix) if event["event"] == "duplicated"]
    assert duplicated == [{"event": "duplicated", "jobId": "order/7"}]


async def test_ids_of_one_list_see_each_other(queue: Queue) -> None:
    """BMQ-006 inside one script call."""
    jobs = await queue.add_many([("n", 1, {"job_id": "a"}), ("n", 2, {"job_id": "a"})])
    assert [job.duplicate for job in jobs] == [False, True]


@pytest.mark.parametrize(
    "job_id", ["123", "0", "-5", "a:b", "a:b:c", "a:b:c:d", "0:1", "t%61", "ü ", "x/y", "01", "1.5"]
)
async def test_any_printable_id_is_accepted_and_reads_back(queue: Queue, job_id: str, raw: Redis, prefix: str) -> None:
    """BMQ-007, wider than BullMQ: an id that its producers refuse is stored in an escaped form."""
    job = await queue.add("n", job_id=job_id)
    assert job.id == job_id
    again = await queue.add("n", job_id=job_id)
    assert (again.id, again.duplicate) == (job_id, True)
    stored = await queue.get_job(job_id)
    assert stored is not None
    assert stored.id == job_id
    wire_ids: list[str] = await raw.lrange(f"{prefix}:q:wait", 0, -1)  # pyright: ignore[reportAssignmentType] - this client decodes
    [wire_id] = wire_ids
    assert wire_id.count(":") in (0, 2), "Node refuses other numbers of colons"
    assert not wire_id.lstrip("-").isdecimal() or wire_id.startswith("0"), "a whole number would meet an automatic id"


@pytest.mark.parametrize(
    "job_id", ["", "wait", "meta", "events", "repeat:x:1", "de:x", "dn:x", "metrics:completed", "a\nb", "x" * 2000]
)
async def test_an_id_that_would_break_the_queue_is_refused(queue: Queue, job_id: str, raw: Redis, prefix: str) -> None:
    """BMQ-007: a job under the name of one of the queue's own keys bricks the queue."""
    with pytest.raises(InvalidName):
        await queue.add("n", job_id=job_id)
    assert await raw.keys(f"{prefix}:*") == []


async def test_an_automatic_id_never_meets_a_custom_one(queue: Queue) -> None:
    """BMQ-007: `2` is given by the caller, and then by the counter."""
    custom = await queue.add("custom", job_id="2")
    automatic = await queue.add("automatic")
    assert automatic.stored_id == "2"
    assert custom.stored_id != automatic.stored_id
    assert not automatic.duplicate


async def test_a_removed_id_may_be_used_again(queue: Queue, hand: Worker) -> None:
    """BMQ-008: no tombstone."""
    await queue.add("n", job_id="again", remove_on_complete=True)
    job = await hand.fetch()
    assert job is not None
    await hand.complete(job)
    assert not (await queue.add("n", job_id="again")).duplicate


class NotJson:
    pass


@pytest.mark.parametrize("data", [NotJson(), {"x": {1, 2}}, float("nan"), [float("inf")], b"bytes", "\ud800"])
async def test_data_that_json_cannot_hold_is_refused(queue: Queue, data: object, raw: Redis, prefix: str) -> None:
    """BMQ-009."""
    with pytest.raises(PayloadError):
        await queue.add("n", data)
    assert await raw.keys(f"{prefix}:*") == []


@pytest.mark.parametrize("data", [{}, [], 0, "", False, {"a": [None, 1.5, "ü", {"b": "\U0001f402"}]}])
async def test_json_reads_back_as_it_was_given(queue: Queue, hand: Worker, data: object) -> None:
    """BMQ-009."""
    await queue.add("n", data)
    job = await hand.fetch()
    assert job is not None
    assert job.data == data


async def test_no_data_is_an_empty_object_on_the_wire(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-009: Node stores `undefined` so."""
    await queue.add("n")
    assert await raw.hget(f"{prefix}:q:1", "data") == "{}"


async def test_size_limit_counts_bytes_of_json(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-010: `"ääää"` is 6 characters and 10 bytes."""
    assert not (await queue.add("n", "ääää", size_limit=10)).duplicate
    with pytest.raises(PayloadTooLarge, match="10 bytes"):
        await queue.add("n", "ääää", size_limit=9)
    assert await raw.llen(f"{prefix}:q:wait") == 1


async def test_the_creation_time_may_be_given(queue: Queue) -> None:
    """BMQ-011: as seconds, or as an aware datetime."""
    when = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    by_number = await queue.add("n", timestamp=when.timestamp())
    by_datetime = await queue.add("n", timestamp=when)
    for job in (by_number, by_datetime):
        stored = await queue.get_job(job.id)
        assert stored is not None
        assert stored.created_at == when.timestamp()
    with pytest.raises(InvalidOption, match="naive"):
        await queue.add("n", timestamp=datetime(2026, 1, 2))  # noqa: DTZ001 - that it is naive is the point


async def test_a_delayed_job_does_not_start_before_its_time(queue: Queue, hand: Worker, clock: TestClock) -> None:
    """BMQ-012."""
    job = await queue.add("n", delay=0.3)
    assert await job.state() == "delayed"
    clock.advance(0.298)
    assert await hand.fetch() is None
    clock.advance(0.003)
    fetched = await hand.fetch()
    assert fetched is not None
    assert fetched.id == job.id


async def test_a_delay_is_heard_by_a_waiting_worker(redis_socket_url: str, prefix: str) -> None:
    """BMQ-012: with the machine's clock, and nobody looking by chance."""
    async with Queue("q", redis_socket_url, prefix=prefix) as queue:

        async def handler(_: Job) -> str:
            return "ran"

        async with Worker("q", handler, redis_socket_url, prefix=prefix):
            job = await queue.add("n", delay=0.3)
            assert await job.wait(timeout=5) == "ran"
        stored = await queue.get_job(job.id)
        assert stored is not None
        assert stored.processed_at is not None
        assert stored.processed_at >= job.created_at + 0.299


async def test_delays_count_from_the_given_creation_time(queue: Queue, hand: Worker, clock: TestClock) -> None:
    """BMQ-011, BMQ-012."""
    await queue.add("past", timestamp=clock.now() - 61, delay=60)
    assert await run_order(hand) == ["past"]


async def test_jobs_due_at_the_same_moment_keep_their_order(queue: Queue, hand: Worker, clock: TestClock) -> None:
    """BMQ-012: 4,096 per millisecond keep it."""
    await queue.add_many([(str(number), None, {"delay": 1.0}) for number in range(300)])
    clock.advance(1.1)
    assert await run_order(hand) == [str(number) for number in range(300)]


async def test_priorities_run_in_order_and_first_in_first_out_inside(queue: Queue, hand: Worker) -> None:
    """BMQ-016: 0 is none and runs first, then the lower number."""
    wanted = [("c1", 2_097_151), ("b1", 2), ("a1", 0), ("b2", 2), ("a2", 0), ("x", 1)]
    await queue.pause()
    for name, priority in wanted:
        await queue.add(name, priority=priority)
    assert await hand.fetch() is None
    await queue.resume()
    assert await run_order(hand) == ["a1", "a2", "x", "b1", "b2", "c1"]


@pytest.mark.parametrize("priority", [1.5, 2_097_152, -1, True, "1"])
async def test_a_priority_out_of_range_is_refused(queue: Queue, priority: object, raw: Redis, prefix: str) -> None:
    """BMQ-017."""
    with pytest.raises(InvalidOption, match="priority"):
        await queue.add("n", priority=priority)  # pyright: ignore[reportArgumentType] - what an untyped caller may pass
    assert await raw.keys(f"{prefix}:*") == []


async def test_lifo_goes_to_the_head_of_the_line(queue: Queue, hand: Worker) -> None:
    """BMQ-020: also inside one list."""
    await queue.pause()
    await queue.add("A")
    await queue.add("B", lifo=True)
    await queue.add_many([("C", None), ("D", None, {"lifo": True}), ("E", None)])
    await queue.resume()
    assert await run_order(hand) == ["D", "B", "A", "C", "E"]


async def test_a_worker_with_one_slot_keeps_the_order(redis_socket_url: str, prefix: str) -> None:
    """BMQ-021: 100 jobs, concurrency 1."""
    order: list[int] = []

    async def handler(job: Job) -> None:
        order.append(job.data)

    async with Queue("q", redis_socket_url, prefix=prefix) as queue:
        jobs = [await queue.add("n", number) for number in range(100)]
        async with Worker("q", handler, redis_socket_url, prefix=prefix, concurrency=1):
            await jobs[-1].wait(timeout=20)
    assert order == list(range(100))


async def test_concurrent_adds_of_one_process_keep_their_order(queue: Queue, hand: Worker) -> None:
    """BMQ-021: they share script calls."""
    await asyncio.gather(*(queue.add(str(number)) for number in range(600)))
    assert await run_order(hand) == [str(number) for number in range(600)]


async def test_jobs_of_a_paused_queue_count_as_waiting(queue: Queue) -> None:
    """BMQ-039: there is no separate state for them."""
    await queue.pause()
    jobs = [await queue.add("n") for _ in range(3)]
    assert (await queue.counts())["waiting"] == 3
    assert [await job.state() for job in jobs] == ["waiting"] * 3


async def test_an_unknown_option_is_named(queue: Queue) -> None:
    with pytest.raises(InvalidOption, match="did you mean 'attempts'"):
        await queue.add("n", attemps=3)  # pyright: ignore[reportCallIssue] - the misspelling is the point


async def test_a_list_whose_caller_has_gone_fails_in_silence(prefix: str) -> None:
    """An enqueue waits half a second for the queue; what becomes of the list after that is nobody's news."""
    gone = Queue("gone", "redis://127.0.0.1:1", prefix=prefix)
    printed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: printed.append(context))
    caller = asyncio.create_task(gone.add_many([("n", 1)]))
    await asyncio.sleep(0)  # it has begun to send
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    (adding,) = [task for task in asyncio.all_tasks() if task.get_name() == "taurine add many"]
    await asyncio.wait({adding})
    del adding
    gc.collect()
    await gone.close()
    assert printed == []


async def test_options_that_a_generator_changes_are_each_jobs_own(queue: Queue) -> None:
    options: dict[str, Any] = {}

    def entries() -> Iterator[tuple[str, Any, Any]]:
        for priority in (0, 3, 3, 1):
            options["priority"] = priority
            yield "work", {}, options
        yield "work", {}, {"job_id": "own"}

    jobs = await queue.add_many(entries())
    assert [job.priority for job in jobs] == [0, 3, 3, 1, 0]
    assert jobs[-1].id == "own"
