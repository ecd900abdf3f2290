"""Listening to a queue: BMQ-132 to BMQ-135."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from support.eventually import eventually
from support.proxy import FaultProxy
from support.server import ValkeyServer
from taurine.errors import InvalidOption, StoreUnavailable
from taurine.options import Dedup, Parent
from taurine.queue import Job, Queue, Worker, events
from taurine.queue.connection import Connection
from taurine.queue.event_stream import stream_order
from taurine.queue.events import Event, QueueEvents
from taurine.testing import TestClock


async def fetched(hand: Worker) -> Job:
    job = await hand.fetch()
    assert job is not None
    return job


async def take(happenings: QueueEvents, count: int) -> list[Event]:
    async with asyncio.timeout(5):
        return [await anext(happenings) for _ in range(count)]


async def until(happenings: QueueEvents, last: Callable[[Event], bool]) -> list[Event]:
    """The events up to the first that is the `last`."""
    seen: list[Event] = []
    async with asyncio.timeout(10):
        async for event in happenings:
            seen.append(event)
            if last(event):
                break
    return seen


async def blocked_readers(raw: Redis) -> list[dict[str, Any]]:
    return [client for client in await raw.client_list() if client["cmd"] == "xread"]


@pytest.fixture
def happenings(connection: Connection, prefix: str) -> QueueEvents:
    return QueueEvents("q", connection, prefix=prefix, block=1)


async def test_every_event_is_told_typed(
    queue: Queue, hand: Worker, happenings: QueueEvents, *, clock: TestClock, raw: Redis, prefix: str
) -> None:
    """BMQ-132: each of them provoked, and heard by one listener."""
    async with happenings:
        simple = await queue.add("simple", job_id="simple")
        await queue.add("simple", job_id="simple")
        await queue.add("other", job_id="other", deduplication=Dedup("simple"))
        await queue.add("late", job_id="dropped", deduplication=Dedup("simple"))
        running = await fetched(hand)
        await running.update_progress({"done": 1})
        await hand.complete(running, {"v": "ü"})
        await hand.fail(await fetched(hand), ValueError("no"))

        delayed = await queue.add("delayed", job_id="later", delay=10)
        await delayed.promote()
        await delayed.remove()

        parent = await queue.add("parent", job_id="parent")
        waiting = await fetched(hand)
        child = await queue.add("child", job_id="child", parent=Parent("parent", "q"))
        with contextlib.suppress(Exception):
            await waiting.wait_for_children()
        await queue.pause()
        await queue.resume()

        stalled = await fetched(hand)
        await hand.recover_stalled()
        await raw.delete(f"{prefix}:q:{stalled.id}:lock", f"{prefix}:q:stalled-check")
        await hand.recover_stalled()
        await hand.complete(await fetched(hand))
        await hand.complete(await fetched(hand))

        clock.advance(60)
        await queue.clean(30, state="completed")
        seen = await until(happenings, lambda event: isinstance(event, events.Cleaned))

    plain = [dataclasses.replace(event, id="") for event in seen]
    due = next(event for event in seen if isinstance(event, events.Delayed))
    assert plain[: plain.index(events.Paused(""))] == [
        events.Added("", simple.id, "simple"),
        events.Waiting("", simple.id, None),
        events.Duplicated("", "simple"),
        events.Added("", "other", "other"),
        events.Waiting("", "other", None),
        events.Deduplicated("", "other", "simple", "dropped"),
        events.Active("", simple.id, "waiting"),
        events.Progress("", simple.id, {"done": 1}),
        events.Completed("", simple.id, {"v": "ü"}, "active"),
        events.Active("", "other", "waiting"),
        events.Failed("", "other", "no", "active"),
        events.RetriesExhausted("", "other", 1),
        events.Drained(""),
        events.Added("", delayed.id, "delayed"),
        events.Delayed("", delayed.id, due.due_at),
        events.Waiting("", delayed.id, "delayed"),
        events.Removed("", delayed.id, "wait"),
        events.Added("", parent.id, "parent"),
        events.Waiting("", parent.id, None),
        events.Active("", parent.id, "waiting"),
        events.Added("", child.id, "child"),
        events.Waiting("", child.id, None),
        events.WaitingChildren("", parent.id, "active"),
    ]
    rest = plain[plain.index(events.Paused("")) :]
    assert rest == [
        events.Paused(""),
        events.Resumed(""),
        events.Active("", child.id, "waiting"),
        events.Waiting("", child.id, "active"),
        events.Stalled("", child.id),
        events.Active("", child.id, "waiting"),
        events.Completed("", child.id, None, "active"),
        events.Waiting("", parent.id, "waiting-children"),
        events.Active("", parent.id, "waiting"),
        events.Completed("", parent.id, None, "active"),
        events.Drained(""),
        events.Cleaned("", 3),
    ]
    assert due.due_at == pytest.approx(clock.now() - 50, abs=0.01)
    assert all(abs(event.at - due.at) < 60 for event in seen)
    assert [event.name for event in plain[:3]] == ["added", "waiting", "duplicated"]


async def test_listening_begins_with_the_block(queue: Queue, happenings: QueueEvents) -> None:
    """BMQ-132: "$" is the moment of entering, not of the first read."""
    await queue.add("before")
    async with happenings:
        job = await queue.add("after")
        [event] = await take(happenings, 1)
    assert dataclasses.replace(event, id="") == events.Added("", job.id, "after")


async def test_a_listener_goes_on_from_an_id(queue: Queue, connection: Connection, prefix: str) -> None:
    """BMQ-133: nothing is missed, nothing told twice; also from the middle of a batch that was read."""
    async with QueueEvents("q", connection, prefix=prefix) as first:
        await queue.add_many([(str(number), None) for number in range(10)])
        seen = await take(first, 5)
        assert first.last_id == seen[-1].id
    await queue.add("while nobody listened")
    async with QueueEvents("q", connection, prefix=prefix, last_id=first.last_id) as second:
        assert second.last_id == first.last_id
        seen += await take(second, 17)
    names = [event.job_name for event in seen if isinstance(event, events.Added)]
    assert names == [*map(str, range(10)), "while nobody listened"]
    assert all(stream_order(a.id) < stream_order(b.id) for a, b in pairwise(seen))


async def test_a_listener_may_start_with_all_that_is_kept(queue: Queue, connection: Connection, prefix: str) -> None:
    """BMQ-133."""
    await queue.add("before")
    async with QueueEvents("q", connection, prefix=prefix, last_id="0") as happenings:
        assert [event.name for event in await take(happenings, 2)] == ["added", "waiting"]


@pytest.mark.parametrize("last_id", ["", "x", "1-", "-1", "1-x", "$$"])
def test_a_place_that_is_none_is_refused(last_id: str, prefix: str) -> None:
    """BMQ-133."""
    with pytest.raises(InvalidOption, match="last_id"):
        QueueEvents("q", "redis://127.0.0.1:1", prefix=prefix, last_id=last_id)


async def test_a_lost_connection_loses_no_event(valkey: ValkeyServer, queue: Queue, prefix: str, raw: Redis) -> None:
    """BMQ-133: reset, refused and silent connections, while events go on."""
    async with FaultProxy(valkey.port) as proxy, QueueEvents("q", proxy.url, prefix=prefix, block=0.2) as happenings:
        seen: list[Event] = []

        async def listen() -> None:
            async for event in happenings:
                seen.append(event)  # noqa: PERF401 - the test looks at the list while it grows

        listener = asyncio.create_task(listen())
        for number, fault in enumerate((proxy.reset, proxy.down, proxy.black_hole)):
            await queue.add(f"before {number}")
            await eventually(lambda number=number: len(seen) >= 4 * number + 2, message="no event before the fault")
            fault()
            await queue.add(f"during {number}")
            await proxy.heal()
            await eventually(lambda number=number: len(seen) >= 4 * number + 4, message="no event after the fault")
        await happenings.close()
        await listener
    names = [event.job_name for event in seen if isinstance(event, events.Added)]
    assert names == [f"{when} {number}" for number in range(3) for when in ("before", "during")]


async def test_a_half_open_connection_is_given_up(valkey: ValkeyServer, queue: Queue, prefix: str) -> None:
    """BMQ-133: nobody closes it, and nothing comes: the reader's own time-out ends it."""
    async with FaultProxy(valkey.port) as proxy, QueueEvents("q", proxy.url, prefix=prefix, block=0.05) as happenings:
        await queue.add("first")
        await take(happenings, 2)
        proxy.black_hole()
        reader = asyncio.create_task(take_one(happenings))
        await queue.add("second")
        accepted = proxy.accepted
        await eventually(lambda: proxy.accepted > accepted, 10, "the reader does not open a new connection")
        await proxy.heal()
        event = await asyncio.wait_for(reader, 10)
    assert isinstance(event, events.Added)
    assert event.job_name == "second"


async def take_one(happenings: QueueEvents) -> Event:
    return await anext(happenings)


async def test_a_server_that_lost_its_events_is_listened_to_anew(server_factory: Any, prefix: str) -> None:
    """BMQ-133: the place of the old stream may lie far in the future of the new one."""
    server: ValkeyServer = server_factory()
    async with (
        QueueEvents("q", server.socket_url, prefix=prefix, block=0.1, last_id="9999999999999-0") as happenings,
        Queue("q", server.socket_url, prefix=prefix) as queue,
    ):
        await queue.add("n")
        assert [event.name for event in await take(happenings, 2)] == ["added", "waiting"]
        reader = asyncio.create_task(take_one(happenings))
        server.restart()
        await eventually(lambda: readded(queue), message="the queue does not come back")
        assert (await asyncio.wait_for(reader, 10)).name == "added"


async def readded(queue: Queue) -> bool:
    try:
        await queue.add("n", job_id="after")
    except StoreUnavailable:
        return False
    return True


async def test_a_server_that_is_down_is_said_at_once(prefix: str) -> None:
    with pytest.raises(StoreUnavailable):
        async with QueueEvents("q", "redis://127.0.0.1:1", prefix=prefix):
            pass


async def test_a_listener_has_one_named_connection(happenings: QueueEvents, queue: Queue, raw: Redis) -> None:
    """BMQ-132: by the name, BullMQ's tools list who listens."""
    async with happenings:
        reader = asyncio.create_task(take_one(happenings))
        readers: Any = await eventually(lambda: blocked_readers(raw), message="nobody reads")
        [client] = readers
        assert client["name"] == f"{queue.prefix}:cQ==:qe"
        await queue.add("n")
        await reader


async def test_a_close_ends_the_iteration(happenings: QueueEvents, raw: Redis) -> None:
    async def listen() -> list[Event]:
        return [event async for event in happenings]

    listener = asyncio.create_task(listen())
    await eventually(lambda: blocked_readers(raw), message="nobody reads")
    await happenings.close()
    await happenings.close()
    assert await asyncio.wait_for(listener, 5) == []


async def test_a_time_out_of_the_caller_loses_no_event(happenings: QueueEvents, queue: Queue, raw: Redis) -> None:
    """Asking again after a cancelled wait goes on at the same place."""
    async with happenings:
        names: list[str] = []
        for number in range(3):
            reader = asyncio.create_task(take_one(happenings))
            await eventually(lambda: blocked_readers(raw), message="nobody reads")
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await queue.add(str(number))
            names += [event.job_name for event in await take(happenings, 2) if isinstance(event, events.Added)]
    assert names == ["0", "1", "2"]


async def test_the_stream_keeps_to_its_length(queue: Queue, connection: Connection, raw: Redis, prefix: str) -> None:
    """BMQ-134: the oldest events are gone, the newest are there."""
    await queue.set_max_events(200)
    for _ in range(10):
        await queue.add_many([("n", None)] * 100)
    length = await raw.xlen(f"{prefix}:q:events")
    assert 200 <= length <= 200 + 100 + 200  # cut by whole nodes of 100, before a call of 200 events
    async with QueueEvents("q", connection, prefix=prefix, last_id="0") as happenings:
        first, *_ = await take(happenings, length)
    assert isinstance(first, events.JobEvent)
    assert int(first.job_id) > 500
    job = await queue.get_job("1000")
    assert job is not None
    assert dataclasses.replace(_[-1], id="") == events.Waiting("", job.id, None)


async def test_the_length_is_ten_thousand_by_default(queue: Queue, raw: Redis, prefix: str) -> None:
    """BMQ-134."""
    await queue.add("n")
    assert await raw.hget(f"{prefix}:q:meta", "opts.maxLenEvents") == "10000"


async def test_custom_events_are_published_and_heard(happenings: QueueEvents, raw: Redis, prefix: str) -> None:
    """BMQ-135: also what another program publishes."""
    async with happenings:
        published = await happenings.publish("order-paid", order="7", amount=12)
        await raw.xadd(f"{prefix}:q:events", {"event": "from elsewhere", "x": "1"})
        await raw.xadd(f"{prefix}:q:events", {"no": "event"})
        await raw.xadd(f"{prefix}:q:events", {"event": "empty"})
        seen = await take(happenings, 3)
    assert seen[0] == events.Custom(published, "order-paid", {"order": "7", "amount": "12"})
    assert [event.name for event in seen] == ["order-paid", "from elsewhere", "empty"]


async def test_a_custom_event_does_not_cut_the_stream(
    queue: Queue, happenings: QueueEvents, raw: Redis, prefix: str
) -> None:
    """BMQ-135: BullMQ's publisher cuts it to 1,000."""
    await queue.add_many([("n", None)] * 1000)
    async with happenings:
        await happenings.publish("mine")
    assert await raw.xlen(f"{prefix}:q:events") == 2001


@pytest.mark.parametrize("name", ["", "completed", "progress", "error", "a\nb"])
async def test_a_name_of_the_queues_own_is_not_published(
    happenings: QueueEvents, name: str, raw: Redis, prefix: str
) -> None:
    """BMQ-135: a `completed` without a result would end every Node listener."""
    with pytest.raises(InvalidOption, match="event name"):
        await happenings.publish(name)
    with pytest.raises(InvalidOption, match="'event'"):
        await happenings.publish("mine", event="completed")
    assert await raw.exists(f"{prefix}:q:events") == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"event": "completed", "jobId": "1", "returnvalue": "{no json"},
        {"event": "completed", "jobId": "1"},
        {"event": "progress", "data": "1"},
        {"event": "delayed", "jobId": "1", "delay": "soon"},
        {"event": "cleaned", "count": "many"},
    ],
)
async def test_an_event_that_cannot_be_read_is_passed_on(
    happenings: QueueEvents, raw: Redis, prefix: str, fields: dict[str, str], queue: Queue
) -> None:
    """BMQ-132: one bad entry stops a Node listener for good; here the next event follows."""
    async with happenings:
        await raw.xadd(f"{prefix}:q:events", fields)  # pyright: ignore[reportArgumentType] - redis-py's type is invariant
        await queue.add("n")
        bad, good = await take(happenings, 2)
    rest = {name: value for name, value in fields.items() if name != "event"}
    assert bad == events.Custom(bad.id, fields["event"], rest)
    assert good.name == "added"


async def test_a_slow_listener_holds_little(queue: Queue, happenings: QueueEvents) -> None:
    """BMQ-132: what is not asked for stays on the server."""
    async with happenings:
        for _ in range(5):
            await queue.add_many([("n", None)] * 1000)
        await take(happenings, 1)
        assert len(happenings._waiting) < 1000
        assert len(await take(happenings, 9999)) == 9999
