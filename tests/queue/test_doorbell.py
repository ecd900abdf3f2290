"""The doorbell by itself: one blocking read for the idle workers of a process, who may come and go while it is under
way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from taurine.queue.connection import Connection
from taurine.queue.doorbell import Doorbell, shared_doorbell
from taurine.queue.keys import QueueKeys

BLOCK = 3_600.0
"""Seconds; longer than any test waits, so that only a marker ends a read."""


class Bell:
    """A worker's ring: notes what it is called with, and says whether it has a use for it."""

    def __init__(self, *, wants: bool = True) -> None:
        self.rung: list[int] = []
        self.wants = wants

    def __call__(self, due_ms: int) -> bool:
        self.rung.append(due_ms)
        return self.wants


@pytest.fixture
async def connection(redis_socket_url: str) -> AsyncIterator[Connection]:
    connection = Connection(redis_socket_url)
    yield connection
    await connection.close()


@pytest.fixture
async def doorbell(connection: Connection, prefix: str) -> AsyncIterator[Doorbell]:
    doorbell = Doorbell(connection, prefix=prefix, block=BLOCK)
    doorbell.start()
    yield doorbell
    await doorbell.stop()


async def until_reading(raw: Redis, queues: int) -> None:
    """Wait until the read covers so many queues; one key more is the doorbell's own."""

    async def covered() -> bool:
        keys = int((await raw.info("clients"))["total_blocking_keys"])
        assert keys == queues + 1, f"{keys} keys"
        return True

    await eventually(covered)


async def test_a_marker_rings_its_queues_worker_once(doorbell: Doorbell, raw: Redis, prefix: str) -> None:
    mine, other = QueueKeys("mine", prefix), QueueKeys("other", prefix)
    my_bell, other_bell = Bell(), Bell()
    doorbell.arm(mine, my_bell)
    doorbell.arm(other, other_bell)
    await until_reading(raw, 2)
    await raw.zadd(mine.marker, {"0": 0})
    await eventually(lambda: my_bell.rung)
    await until_reading(raw, 1)

    assert (my_bell.rung, other_bell.rung) == ([0], [])
    await raw.zadd(mine.marker, {"0": 0})
    await raw.zadd(other.marker, {"1": 1_800_000_000_000.5})
    await eventually(lambda: other_bell.rung)
    assert my_bell.rung == [0], "who has been rung must arm again"
    assert other_bell.rung == [1_800_000_000_000]


async def test_who_arms_while_the_read_is_under_way_is_in_it(doorbell: Doorbell, raw: Redis, prefix: str) -> None:
    bells = [Bell() for _ in range(10)]
    for number, bell in enumerate(bells):
        doorbell.arm(QueueKeys(f"q{number}", prefix), bell)
        await until_reading(raw, number + 1)
    await raw.zadd(QueueKeys("q9", prefix).marker, {"0": 0})
    await eventually(lambda: bells[9].rung)


async def test_a_marker_that_nobody_has_a_use_for_is_put_back(doorbell: Doorbell, raw: Redis, prefix: str) -> None:
    keys, bell = QueueKeys("q", prefix), Bell(wants=False)
    doorbell.arm(keys, bell)
    await until_reading(raw, 1)
    await raw.zadd(keys.marker, {"1": 5_000})
    await eventually(lambda: bell.rung)
    await eventually(lambda: raw.zscore(keys.marker, "1"))
    assert await raw.zrange(keys.marker, 0, -1, withscores=True) == [("1", 5_000.0)]


async def test_a_marker_put_back_does_not_replace_an_earlier_one(doorbell: Doorbell, raw: Redis, prefix: str) -> None:
    keys, bell = QueueKeys("q", prefix), Bell(wants=False)
    connection = doorbell._connection
    call = connection.call

    put_back = asyncio.Event()

    async def call_after_another_has_armed(*command: Any) -> Any:
        await raw.zadd(keys.marker, {"1": 3_000})
        reply = await call(*command)
        put_back.set()
        return reply

    connection.call = call_after_another_has_armed
    doorbell.arm(keys, bell)
    await until_reading(raw, 1)
    await raw.zadd(keys.marker, {"1": 5_000})
    await asyncio.wait_for(put_back.wait(), 10)
    assert await raw.zrange(keys.marker, 0, -1, withscores=True) == [("1", 3_000.0)]


async def test_a_marker_of_a_queue_that_was_disarmed_meanwhile_is_put_back(
    doorbell: Doorbell, raw: Redis, prefix: str
) -> None:
    keys, bell = QueueKeys("q", prefix), Bell()
    doorbell.arm(keys, bell)
    await until_reading(raw, 1)
    doorbell.disarm(keys, bell)
    await raw.zadd(keys.marker, {"0": 0})
    await eventually(lambda: raw.exists(keys.marker))
    assert bell.rung == []


async def test_workers_of_one_queue_are_rung_in_turn(doorbell: Doorbell, raw: Redis, prefix: str) -> None:
    keys, first, second = QueueKeys("q", prefix), Bell(wants=False), Bell()
    doorbell.arm(keys, first)
    doorbell.arm(keys, second)
    await until_reading(raw, 1)
    await raw.zadd(keys.marker, {"0": 0})
    await eventually(lambda: second.rung)
    assert first.rung == [0], "the one that has been idle longest is asked first"


async def test_work_without_a_marker_is_found_when_the_read_times_out(
    connection: Connection, raw: Redis, prefix: str
) -> None:
    full, empty = QueueKeys("full", prefix), QueueKeys("empty", prefix)
    full_bell, empty_bell = Bell(), Bell()
    await raw.lpush(full.wait, "1")
    doorbell = Doorbell(connection, prefix=prefix, block=0.05)
    doorbell.start()
    doorbell.arm(full, full_bell)
    doorbell.arm(empty, empty_bell)
    await eventually(lambda: full_bell.rung)
    await eventually(lambda: doorbell.saw_empty(empty, within=60))
    await doorbell.stop()

    assert empty_bell.rung == []
    assert not doorbell.saw_empty(full, within=60)


async def test_it_goes_on_after_an_error_that_nobody_foresaw(
    doorbell: Doorbell, raw: Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else no idle worker of the process would hear of work again, and nothing would say so."""
    bad, good, bell = QueueKeys("bad", prefix), QueueKeys("good", prefix), Bell()

    def broken_bell(_: int) -> bool:
        raise RuntimeError("a bug in a worker")

    doorbell.arm(bad, broken_bell)
    doorbell.arm(good, bell)
    await until_reading(raw, 2)
    await raw.zadd(bad.marker, {"0": 0})
    await eventually(lambda: "a bug in a worker" in caplog.text)
    await until_reading(raw, 1)
    await raw.zadd(good.marker, {"0": 0})
    await eventually(lambda: bell.rung)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_users_of_one_url_share_a_doorbell_and_the_last_ends_it(redis_socket_url: str, prefix: str) -> None:
    one, two = Connection(redis_socket_url), Connection(redis_socket_url)
    async with shared_doorbell(one, prefix=prefix, block=BLOCK) as first:
        async with shared_doorbell(two, prefix=prefix, block=BLOCK) as second:
            assert second is first
        async with shared_doorbell(two, prefix=f"{prefix}:b", block=BLOCK) as other:
            assert other is not first
        assert first.users
    assert not first.users
    async with shared_doorbell(one, prefix=prefix, block=BLOCK) as again:
        assert again is not first


async def leave(connection: Connection, prefix: str, leaving: asyncio.Future[Doorbell]) -> None:
    async with shared_doorbell(connection, prefix=prefix, block=BLOCK) as doorbell:
        leaving.set_result(doorbell)


async def test_who_is_cancelled_as_the_last_user_leaves_is_cancelled(connection: Connection, prefix: str) -> None:
    """And not taken for the read, which is cancelled then too."""
    leaving = asyncio.Future[Doorbell]()
    user = asyncio.create_task(leave(connection, prefix, leaving))
    await leaving
    user.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user


async def test_who_comes_while_the_last_user_leaves_has_a_doorbell_of_its_own(
    connection: Connection, raw: Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The link of the other is about to be cut."""
    keys, bell, leaving = QueueKeys("q", prefix), Bell(), asyncio.Future[Doorbell]()
    user = asyncio.create_task(leave(connection, prefix, leaving))
    other = await leaving
    assert not user.done(), "it waits for the end of its read"
    async with shared_doorbell(connection, prefix=prefix, block=BLOCK) as doorbell:
        assert doorbell is not other
        doorbell.arm(keys, bell)
        await user
        await until_reading(raw, 1)
        await raw.zadd(keys.marker, {"0": 0})
        await eventually(lambda: bell.rung)
        async with shared_doorbell(connection, prefix=prefix, block=BLOCK) as same:
            assert same is doorbell
    assert caplog.records == []


async def test_hammered_with_comers_and_goers_it_leaves_nothing(
    redis_socket_url: str, raw: Redis, prefix: str, seed: int
) -> None:
    """That neither connection nor task is left is counted after every test; nudges end by themselves."""
    choice = random.Random(seed)

    async def comer(number: int) -> None:
        connection = Connection(redis_socket_url)
        keys, bell = QueueKeys(f"q{number % 5}", prefix), Bell()
        for _ in range(20):
            async with shared_doorbell(connection, prefix=prefix, block=BLOCK) as doorbell:
                doorbell.arm(keys, bell)
                for _ in range(choice.randrange(4)):
                    await asyncio.sleep(0)
                doorbell.disarm(keys, bell)
        await connection.close()

    await asyncio.gather(*(comer(number) for number in range(10)))
    for key in await raw.keys(f"{prefix}::*"):
        assert await raw.pttl(key) > 0, f"{key} would stay for ever"


async def test_a_read_that_ends_when_nobody_is_idle_any_more(
    connection: Connection, prefix: str, raw: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is asked then, and nothing is complained of."""
    doorbell = Doorbell(connection, prefix=prefix, block=0.05)
    keys, bell = QueueKeys("q", prefix), Bell()
    doorbell.start()
    doorbell.arm(keys, bell)
    await until_reading(raw, 1)
    doorbell.disarm(keys, bell)

    async def no_more() -> bool:
        return int((await raw.info("clients"))["total_blocking_keys"]) == 0

    await eventually(no_more)
    await doorbell.stop()

    assert caplog.messages == []
