"""Looking at a queue: BMQ-019, 039 and 057 to 063, metrics, and jobs that cannot be decoded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from support.claims import ByHand
from support.eventually import eventually
from support.server import ValkeyServer
from taurine.errors import InvalidOption
from taurine.options import Parent
from taurine.queue import Queue, Worker
from taurine.queue.connection import Connection
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.states import JobState
from taurine.queue.store import QueueStore
from taurine.queue.turn import Completed, Failed, Turn, WaitingForChildren
from taurine.testing import TestClock


@pytest.fixture
def clock() -> TestClock:
    return TestClock(1_800_000_000.0)


@pytest.fixture
async def connection(redis_socket_url: str) -> AsyncIterator[Connection]:
    connection = Connection(redis_socket_url)
    yield connection
    await connection.close()


@pytest.fixture
def keys(prefix: str) -> QueueKeys:
    return QueueKeys("q", prefix)


@pytest.fixture
def queue(connection: Connection, prefix: str, clock: TestClock) -> Queue:
    return Queue("q", connection, prefix=prefix, clock=clock)


@pytest.fixture
def worker(keys: QueueKeys, connection: Connection, clock: TestClock) -> ByHand:
    return ByHand(keys, connection, clock)


async def claimed(worker: ByHand) -> Job:
    job = await worker.claim()
    assert job is not None, "there was nothing to claim"
    return job


async def finish(worker: ByHand, *results: Any) -> None:
    for result in results:
        await worker._settle(await claimed(worker), Completed(json.dumps(result), "::"))


# States and counts ----------------------------------------------------------------------------------------------------------------


async def test_a_job_in_every_state(queue: Queue, worker: ByHand) -> None:
    """BMQ-057: asked of the queue, and counted in that state and no other."""
    seen: list[str] = []

    async def look() -> None:
        state = await queue.state("j")
        seen.append(state)
        assert [job.id for job in await queue.get_jobs() if job.id == "j"] == ([] if state == "unknown" else ["j"])
        if state != "unknown":
            assert "j" in [job.id for job in await queue.get_jobs(state)]

    await look()
    await queue.add("n", {}, job_id="j", delay=100, priority=2)
    await look()
    await queue.promote_jobs()
    await look()
    job = await claimed(worker)
    await look()
    await queue.add("child", {}, job_id="c", parent=Parent("j", "q"))
    await worker._settle(job, WaitingForChildren())
    await look()
    await queue.remove("c")
    await worker._settle(await claimed(worker), Failed("no", "[]", "::", 1))
    await look()
    await queue.retry_jobs()
    await finish(worker, None)
    await look()
    await queue.remove("j")
    await queue.add("n", {}, job_id="j")
    await look()

    assert seen == [
        "unknown", "delayed", "prioritized", "active", "waiting-children", "failed", "completed", "waiting",
    ]  # fmt: skip


async def a_known_mix(queue: Queue, worker: ByHand) -> None:
    """One failed, two completed, three active, four waiting, five prioritized, six delayed jobs, and a parent of one of
    the waiting.
    """
    await queue.add_many([("n", {}, {"job_id": f"j{n}"}) for n in range(7)])
    await worker._settle(await claimed(worker), Failed("no", "[]", "::", 1))
    await finish(worker, 1, 2)
    for _ in range(3):
        await claimed(worker)
    parent = await claimed(worker)
    await queue.add("child", {}, parent=Parent(parent.id, "q"))
    await worker._settle(parent, WaitingForChildren())
    await queue.add_many([("n", {})] * 3)
    await queue.add_many([("n", {}, {"priority": priority}) for priority in (1, 1, 1, 9, 2_097_151)])
    await queue.add_many([("n", {}, {"delay": 10.0 * n}) for n in range(1, 7)])


async def test_counts_of_a_known_mix(queue: Queue, worker: ByHand) -> None:
    """BMQ-058."""
    await a_known_mix(queue, worker)

    assert await queue.counts() == {
        "waiting": 4, "prioritized": 5, "delayed": 6, "active": 3, "waiting-children": 1, "completed": 2, "failed": 1,
    }  # fmt: skip
    assert await queue.counts("failed", "delayed") == {"failed": 1, "delayed": 6}
    assert await queue.count() == 4 + 5 + 6 + 1
    assert await queue.count("completed") == 2
    assert await queue.count("active", "waiting") == 7
    with pytest.raises(InvalidOption, match="did you mean 'waiting'"):
        await queue.counts("wating")  # pyright: ignore[reportArgumentType]


async def test_counts_per_priority(queue: Queue, worker: ByHand) -> None:
    """BMQ-019."""
    await a_known_mix(queue, worker)

    counts = await queue.counts_per_priority([0, 1, 2, 8, 9, 2_097_151, 1])

    assert counts == {0: 4, 1: 3, 2: 0, 8: 0, 9: 1, 2_097_151: 1}
    assert await queue.counts_per_priority([]) == {}
    with pytest.raises(InvalidOption, match="expected a priority"):
        await queue.counts_per_priority([-1])


async def test_jobs_of_a_paused_queue_count_as_waiting(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-039: those that BullMQ 5 set aside too."""
    await queue.add("n", {}, job_id="early")
    await queue.pause()
    await queue.add("n", {}, job_id="late")
    await queue.add("n", {}, job_id="legacy")
    await raw.lrem(keys.wait, 0, "legacy")
    await raw.lpush(keys.legacy_paused, "legacy")

    assert await queue.counts("waiting") == {"waiting": 3}
    assert {job.id for job in await queue.get_jobs("waiting")} == {"early", "late", "legacy"}
    assert await queue.state("legacy") == "waiting"


async def test_delayed_count_before_a_time(queue: Queue, clock: TestClock) -> None:
    """BMQ-059: three of five before the cutoff; one that is due at the very time counts."""
    await queue.add_many([("n", {}, {"delay": delay}) for delay in (1.0, 2.0, 3.0, 4.0, 5.0)])
    now = clock.now()

    assert await queue.delayed_count() == 5
    assert await queue.delayed_count(now + 3) == 3
    assert await queue.delayed_count(datetime.fromtimestamp(now + 2.999, UTC)) == 2
    with pytest.raises(InvalidOption):
        await queue.delayed_count(datetime.fromtimestamp(now))  # noqa: DTZ006 - the thing that is refused


# Listing --------------------------------------------------------------------------------------------------------------------------


async def fill(queue: Queue, worker: ByHand, clock: TestClock, state: JobState) -> list[str]:
    """25 jobs of one state, and their ids: the oldest, or the next to run, first."""
    options: dict[str, Any] = {"delayed": {"delay": 5.0}, "prioritized": {"priority": 3}}.get(state, {})
    ids = [f"j{number:02}" for number in range(25)]
    for job_id in ids:
        await queue.add("n", {}, job_id=job_id, **options)
        if state == "completed":
            await finish(worker, None)
        elif state == "active":
            await claimed(worker)
        clock.advance(0.01)
    return ids


@pytest.mark.parametrize("state", ["waiting", "active", "completed", "delayed", "prioritized"])
async def test_pages_of_ten_both_ways(queue: Queue, worker: ByHand, clock: TestClock, state: JobState) -> None:
    """BMQ-060."""
    ids = await fill(queue, worker, clock, state)

    for ascending, expected in ((True, ids), (False, ids[::-1])):
        pages = [
            [job.id for job in await queue.get_jobs([state], start=first, end=first + 9, ascending=ascending)]
            for first in (0, 10, 20, 30)
        ]
        assert [len(page) for page in pages] == [10, 10, 5, 0]
        assert [job_id for page in pages for job_id in page] == expected
        assert [job.id for job in await queue.get_jobs(state, ascending=ascending)] == expected
        assert [job.id for job in await queue.get_jobs(state, start=-3, ascending=ascending)] == expected[-3:]


async def test_several_states_at_once(queue: Queue, worker: ByHand) -> None:
    """BMQ-060: the range counts in each state by itself, in the order of the states asked for."""
    await a_known_mix(queue, worker)

    jobs = await queue.get_jobs(["delayed", "waiting", "failed"], end=1, ascending=True)

    assert [await job.state() for job in jobs] == ["delayed", "delayed", "waiting", "waiting", "failed"]
    assert len(await queue.get_jobs()) == await queue.count(*(await queue.counts()))
    with pytest.raises(InvalidOption, match="expected a state"):
        await queue.get_jobs("paused")  # pyright: ignore[reportArgumentType]


async def test_a_long_list_is_read_in_pages(queue: Queue) -> None:
    """BMQ-060."""
    await queue.add_many([("n", {"i": n}) for n in range(1203)])

    jobs = await queue.get_jobs("waiting", ascending=True)

    assert [job.data["i"] for job in jobs] == list(range(1203))


async def test_a_job_reads_back_from_another_connection(
    queue: Queue, worker: ByHand, redis_url: str, prefix: str
) -> None:
    """BMQ-061, BMQ-066."""
    await queue.add("resize", {"path": "a.png", "text": "ünï"}, priority=4, attempts=3, job_id="j")
    await finish(worker, {"ok": True})

    async with Queue("q", redis_url, prefix=prefix) as elsewhere:
        job = await elsewhere.get_job("j")
        missing = await elsewhere.get_job("none")

    assert missing is None
    assert job is not None
    assert (job.name, job.data, job.priority, job.options.attempts) == (
        "resize",
        {"path": "a.png", "text": "ünï"},
        4,
        3,
    )
    assert (job.result, job.attempts_made, job.attempts_started) == ({"ok": True}, 1, 1)
    assert job.created_at == job.processed_at == job.finished_at == 1_800_000_000.0
    assert job.corrupt is None


async def test_an_automatic_number_finds_its_job(queue: Queue) -> None:
    """BMQ-061: and an equal id that somebody chose is another job, found first."""
    automatic = await queue.add("automatic", {})
    found = await queue.get_job(automatic.id)
    assert found is not None
    assert found.name == "automatic"

    await queue.add("chosen", {}, job_id=automatic.id)

    found = await queue.get_job(automatic.id)
    assert found is not None
    assert (found.name, found.id) == ("chosen", automatic.id)


async def test_keys_that_are_no_jobs_are_none(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-061: every key of a queue, asked for as if it were a job."""
    await queue.upsert_scheduler("tick", every=60)
    job = await queue.add("n", {}, job_id="j")
    await job.log("a line")
    await raw.hset(keys.key("metrics:completed"), mapping={"count": 1})
    await raw.hset(keys.key("j:processed"), mapping={keys.job("c"): "1"})
    await raw.set(keys.lock("j"), "token")

    async for key in raw.scan_iter(f"{keys.base}*"):
        suffix = key.removeprefix(keys.base)
        if suffix == "j" or suffix.count(":") == 2:
            assert await queue.get_job(suffix) is not None
        else:
            assert await queue.get_job(suffix) is None
            assert await queue.state(suffix) == "unknown"


# Corrupt jobs ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", "{"),
        ("opts", "[1]"),
        ("opts", '{"attempts":'),
        ("timestamp", "yesterday"),
        ("timestamp", "nan"),
        ("priority", "high"),
        ("progress", "half"),
        ("returnvalue", "{'a': 1}"),
        ("stacktrace", '"no list"'),
        ("parent", "[]"),
        ("atm", "x"),
        ("finishedOn", "inf"),
        ("data", "[" * 100_000),
    ],
)
async def test_a_corrupt_field_is_named_and_hides_nothing_else(
    queue: Queue, raw: Redis, keys: QueueKeys, field: str, value: str
) -> None:
    """BMQ-060, BMQ-061: Node's getter throws for the whole page."""
    await queue.add_many([("n", {"i": n}, {"job_id": f"j{n}"}) for n in range(3)])
    await raw.hset(keys.job("j1"), field, value)

    jobs = {job.id: job for job in await queue.get_jobs("waiting")}

    assert jobs.keys() == {"j0", "j1", "j2"}
    assert field in (jobs["j1"].corrupt or "")
    assert (jobs["j0"].corrupt, jobs["j2"].data) == (None, {"i": 2})
    everything(jobs["j1"])
    assert await queue.remove("j1")


def everything(job: Job) -> None:
    """Reads all that a job says of itself; none of it may raise."""
    names = [name for name in dir(type(job)) if not name.startswith("_") and not callable(getattr(type(job), name))]
    assert {"options", "stacktrace", "parent", "result", "created_at"} <= set(names)
    for name in names:
        getattr(job, name)
    repr(job)


async def test_an_id_without_a_job_is_left_out(queue: Queue, raw: Redis, keys: QueueKeys) -> None:
    """BMQ-060: with a key of another type as well, which is an error to read."""
    await queue.add("n", {}, job_id="real")
    await raw.rpush(keys.wait, "gone", "list-key")
    await raw.rpush(keys.job("list-key"), "x")

    assert [job.id for job in await queue.get_jobs("waiting")] == ["real"]
    assert await queue.get_job("list-key") is None


_FIELDS = ("name", "data", "opts", "timestamp", "delay", "priority", "processedOn", "finishedOn", "pb", "ats", "atm", "stc",
           "attemptsMade", "defa", "failedReason", "stacktrace", "returnvalue", "progress", "parentKey", "parent", "rjk", "deid",
           "unknown")  # fmt: skip
_VALUES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"null", b"1e999", b"-0", b"NaN", b"[]", b"{}", b"true", b"1e400", b'"\\ud800"', b"\xff", b'{"id":1,"queueKey":2}']),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["de", "backoff", "kl", "id", "type"]), inner),
        max_leaves=4,
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(_FIELDS), _VALUES))
def test_whatever_a_hash_holds_can_be_looked_at(fields: dict[str, bytes]) -> None:
    """BMQ-060: any bytes in any field."""
    store = QueueStore(QueueKeys("q", "p"), cast(Connection, None), TestClock())

    job = Job.stored(store, "j", {name.encode(): value for name, value in fields.items()})

    everything(job)


# Logs -----------------------------------------------------------------------------------------------------------------------------


async def test_pages_of_a_log(queue: Queue) -> None:
    """BMQ-062: 30 lines, page 3."""
    job = await queue.add("n", {})
    for number in range(30):
        await queue.add_log(job.id, f"line {number}")

    page = await queue.logs(job.id, 20, 29)
    newest = await queue.logs(job.id, 0, 2, ascending=False)

    assert page.lines == [f"line {number}" for number in range(20, 30)]
    assert newest.lines == ["line 29", "line 28", "line 27"]
    assert page.total == newest.total == 30
    assert (await queue.logs("none")).lines == []
    assert (await queue.logs("wait")).total == 0


# Workers and metrics --------------------------------------------------------------------------------------------------------------


async def nothing(_: Job) -> None: ...


async def test_workers_are_listed_while_they_are_connected(redis_url: str, prefix: str) -> None:
    """BMQ-063: by name; those of other queues and prefixes are not."""

    def start(name: str, queue: str = "q", prefix: str = prefix) -> Worker:
        return Worker(queue, nothing, redis_url, prefix=prefix, name=name)

    stranger = f"another:{QueueKeys('q', prefix).client_name('x')}"
    async with (
        Queue("q", redis_url, prefix=prefix) as queue,
        Redis.from_url(redis_url, client_name=stranger) as client,
    ):
        await client.ping()

        async def names() -> list[str]:
            workers = await queue.workers()
            assert workers is not None
            return sorted(worker.name for worker in workers)

        async def named(*expected: str) -> bool:
            return await names() == sorted(expected)

        async with start("first"), start("other", "q2"), start("elsewhere", prefix=f"{prefix}:deeper"), start(""):
            async with start("second"):
                await eventually(lambda: named("", "first", "second"), message="not all workers are listed")
                workers = await queue.workers()
            await eventually(lambda: named("", "first"), message="a stopped worker is listed")
        await eventually(named, message="stopped workers are listed")

    assert workers is not None
    assert all(worker.address.startswith("127.0.0.1:") for worker in workers)
    assert all(worker.age >= 0 and worker.idle >= 0 for worker in workers)


async def test_workers_are_unknown_where_the_server_keeps_them_secret(
    server_factory: Callable[..., ValkeyServer],
) -> None:
    """BMQ-063."""
    server = server_factory()
    async with Redis.from_url(server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-client|list")
    async with Queue("q", server.url.replace("redis://", "redis://app:secret@")) as queue:
        assert await queue.workers() is None
        assert await queue.count() == 0


async def test_metrics_by_the_minute(queue: Queue, worker: ByHand, clock: TestClock) -> None:
    """BMQ-136 as far as the queue reads it: points newest first, and the whole."""
    assert (await queue.metrics("completed")).points == []
    for finished in (1, 2, 3, 0, 4):
        for _ in range(finished):
            await queue.add("n", {})
            job = await claimed(worker)
            assert job.token is not None
            attempts = [(job.stored_id, job.token, Completed("null", "::"))]
            turn = Turn(worker.store.now_ms(), "none", 30_000, 0, attempts, metrics_points=100)
            await worker.store.run("turn", *turn.arguments())
        clock.advance(60)

    metrics = await queue.metrics("completed")

    assert metrics.count == 10
    assert metrics.total_points == len(metrics.points) == 4
    assert sum(metrics.points) == metrics.previous_count
    assert metrics.previous_at == 1_800_000_000.0 + 240
    assert (await queue.metrics("completed", start=1, end=2)).points == metrics.points[1:3]
    assert (await queue.metrics("failed")).count == 0
    with pytest.raises(InvalidOption):
        await queue.metrics("waiting")  # pyright: ignore[reportArgumentType]


async def test_counts_are_taken_at_one_moment(queue: Queue, worker: ByHand) -> None:
    """BMQ-058: while jobs move, the sum never changes."""
    await queue.add_many([("n", {}) for _ in range(300)])
    moving = asyncio.create_task(finish(worker, *range(300)))

    while not moving.done():
        assert sum((await queue.counts()).values()) == 300
    await moving
