"""One worker on several queues: slots, limits, pauses and connections of its own for each, and its life as operators
see it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from support.eventually import eventually
from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import InvalidOption, StoreRefused
from taurine.jobs.handler.context import Context
from taurine.jobs.worker.supervisor import READINESS
from taurine.options import RateLimit
from taurine.queue import Queue, Worker

TCP = "127.0.0.1:"
"""How the address of a connection by TCP starts; one by the server's socket has the path of that."""


class Mail(BaseModel):
    number: int


class Post:
    """An application with the queues "mail" and "export", whose handlers run until the test lets them go on."""

    def __init__(self, app: Taurine) -> None:
        self.app = app
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.go_on = asyncio.Event()
        self.mail = app.declare("mail.send", Mail, int, queue="mail").handler(self.handle)
        self.export = app.declare("data.export", Mail, int, queue="export").handler(self.handle)

    async def handle(self, mail: Mail, ctx: Context) -> int:
        self.running[ctx.queue] += 1
        self.most[ctx.queue] = max(self.most[ctx.queue], self.running[ctx.queue])
        try:
            await self.go_on.wait()
        finally:
            self.running[ctx.queue] -= 1
        self.done[ctx.queue] += 1
        return mail.number

    async def enqueue(self, *, mail: int = 0, export: int = 0) -> None:
        await self.mail.enqueue_many([Mail(number=number) for number in range(mail)])
        await self.export.enqueue_many([Mail(number=number) for number in range(export)])

    async def until_running(self, **counts: int) -> None:
        await eventually(lambda: self.running == Counter(counts) or None, 20, f"never running: {counts}")

    async def until_done(self, **counts: int) -> None:
        await eventually(lambda: self.done == Counter(counts) or None, 20, f"never done: {counts}")


@pytest.fixture
async def post(app: Taurine) -> AsyncIterator[Post]:
    post = Post(app)
    yield post
    post.go_on.set()


async def test_each_queue_has_slots_of_its_own(post: Post) -> None:
    """SEED-102, SEED-121: of 10 slow jobs 5 are active; another queue's do not count."""
    await post.enqueue(mail=10, export=10)
    async with post.app.worker(concurrency={"export": 2}) as worker:
        await post.until_running(mail=5, export=2)
        assert worker.running == 7
        post.go_on.set()
        await post.until_done(mail=10, export=10)
    assert post.most == Counter(mail=5, export=2)
    assert worker.running == 0


async def test_slots_are_changed_while_it_runs(post: Post) -> None:
    await post.enqueue(mail=12)
    async with post.app.worker(concurrency=2) as worker:
        await post.until_running(mail=2)
        worker.set_concurrency("mail", 6)
        await post.until_running(mail=6)
        worker.set_concurrency("mail", 1)
        assert worker.concurrency("mail") == 1
        assert worker.running == 6, "those that run are left to"
        post.most.clear()
        post.go_on.set()
        await post.until_done(mail=12)
    assert post.most["mail"] <= 6
    with pytest.raises(InvalidOption, match="does not work on queue 'mial'; did you mean 'mail'"):
        worker.set_concurrency("mial", 1)
    with pytest.raises(InvalidOption, match="whole number from 1"):
        worker.set_concurrency("mail", 0)


async def test_slots_that_are_changed_before_it_runs(post: Post) -> None:
    worker = post.app.worker(concurrency=2)
    worker.set_concurrency("mail", 4)
    await post.enqueue(mail=5)
    async with worker:
        await post.until_running(mail=4)
        post.go_on.set()


async def test_a_rate_limit_is_of_its_queue(post: Post, redis_socket_url: str, prefix: str) -> None:
    """SEED-122, SEED-195: with 50 in 60 s the 51st waits; another queue's jobs do not."""
    post.go_on.set()
    await post.enqueue(mail=51, export=60)
    async with (
        Queue("mail", redis_socket_url, prefix=prefix) as queue,
        post.app.worker(concurrency=10, rate_limits={"mail": RateLimit(50, 60)}),
    ):
        await post.until_done(mail=50, export=60)
        assert await queue.rate_limit_ttl(50) > 30
        counts = await queue.counts()
        assert counts["waiting"] == 1, counts


async def test_one_queue_is_paused_and_the_other_goes_on(post: Post) -> None:
    post.go_on.set()
    async with post.app.worker() as worker:
        await worker.pause("mail")
        await post.enqueue(mail=3, export=3)
        await post.until_done(export=3)
        worker.resume("mail")
        await post.until_done(export=3, mail=3)
    with pytest.raises(InvalidOption, match="does not work on queue 'mial'"):
        await worker.pause("mial")


async def test_pausing_returns_when_what_runs_has_ended(post: Post) -> None:
    await post.enqueue(mail=6)
    async with post.app.worker() as worker:
        await post.until_running(mail=5)
        pause = asyncio.create_task(worker.pause())
        await asyncio.sleep(0)
        assert not pause.done()
        post.go_on.set()
        await asyncio.wait_for(pause, 20)
        assert post.done["mail"] == 5
        worker.resume()
        await post.until_done(mail=6)


async def test_a_pause_before_the_start_holds(post: Post) -> None:
    post.go_on.set()
    worker = post.app.worker()
    await worker.pause("mail")
    await post.enqueue(mail=2, export=2)
    async with worker:
        await post.until_done(export=2)
        worker.resume()
        await post.until_done(mail=2, export=2)


async def test_only_the_queues_that_were_named(post: Post) -> None:
    """SEED-061: which jobs a process works on is its own choice."""
    post.go_on.set()
    await post.enqueue(mail=1, export=1)
    async with post.app.worker(queues=["export"]) as worker:
        assert worker.queues == ["export"]
        await post.until_done(export=1)


# Connections --------------------------------------------------------------------------------------------------------------------------


async def connections(raw: RawStore, *, by: str = "") -> set[str]:
    """The ids of those whose other end starts with `by`."""
    return {client["id"] for client in await raw.client_list() if client["addr"].startswith(by)}  # pyright: ignore[reportAttributeAccessIssue]


async def test_producer_and_worker_do_without_each_others_connections(post: Post, raw: RawStore) -> None:
    """SEED-007, SEED-049, CON-09: cut one, the other lives, and the one that was cut comes back by itself."""
    post.go_on.set()
    before = await connections(raw)
    await post.enqueue(mail=1)
    producers = await connections(raw) - before
    async with post.app.worker() as worker:
        await eventually(lambda: worker.is_ready or None, 20)
        await post.until_done(mail=1)
        workers = await connections(raw) - before - producers
        assert producers
        assert workers

        for number in workers:
            await raw.client_kill_filter(_id=number)
        await post.enqueue(mail=1)
        assert producers <= await connections(raw), "the producer's live"
        await post.until_done(mail=2)

        workers = await connections(raw) - before - producers
        for number in producers:
            await raw.client_kill_filter(_id=number)
        assert workers <= await connections(raw), "the worker's live"
        await post.enqueue(mail=1)
        await post.until_done(mail=3)


async def test_the_worker_may_take_another_way_to_the_queues(
    app_factory: Callable[..., Taurine], redis_url: str, redis_socket_url: str, raw: RawStore
) -> None:
    """SEED-007: settings of its own; here the producer goes by the unix socket, the worker by TCP."""
    post = Post(app_factory(redis_url=redis_socket_url))
    post.go_on.set()
    before = await connections(raw, by=TCP)
    await post.enqueue(mail=1)
    assert await connections(raw, by=TCP) <= before
    async with post.app.worker(redis_url=redis_url):
        await post.until_done(mail=1)
        assert await connections(raw, by=TCP) - before


async def test_a_worker_that_has_ended_leaves_no_connection(
    app_factory: Callable[..., Taurine], redis_url: str, redis_socket_url: str, raw: RawStore
) -> None:
    """SEED-108, CON-32: its own are closed at its end, the application's at the application's."""
    # Told apart by their way to the server: the application opens another one whenever two of its loops call at once, so also while the worker runs.
    post = Post(app_factory(redis_url=redis_socket_url))
    before = await connections(raw)
    post.go_on.set()
    await post.enqueue(mail=1)
    async with post.app.worker(redis_url=redis_url):
        await post.until_done(mail=1)
        assert await connections(raw, by=TCP) - before
    await eventually(lambda: _none_but(raw, before, by=TCP), 20)
    assert await connections(raw) - before, "the application's as well"
    await post.app.close()
    await eventually(lambda: _none_but(raw, before), 20)


async def _none_but(raw: RawStore, known: set[str], *, by: str = "") -> bool:
    left = await connections(raw, by=by) - known
    assert not left, f"still open: {left}"
    return True


# Life ---------------------------------------------------------------------------------------------------------------------------------


async def test_its_life_is_in_the_log(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    """SEED-104: start, ready, stop and end."""
    caplog.set_level(logging.INFO, "taurine.jobs")
    await post.enqueue(mail=1)
    async with post.app.worker(name="anna", grace=20) as worker:
        await eventually(lambda: worker.is_ready or None, 20)
        await post.until_running(mail=1)
        post.go_on.set()
        await post.until_done(mail=1)
    lines = [line for record in caplog.records if (line := record.getMessage()).startswith("worker anna ")]
    assert lines[0] == "worker anna starts: 5 jobs at once of mail, 5 jobs at once of export"
    assert lines[1] == "worker anna is ready"
    assert lines[2].startswith("worker anna stops: ")
    assert lines[2].endswith("they have 20 s")
    assert lines[3:] == ["worker anna has ended"]
    assert not worker.is_ready


async def test_its_supervisor_hears_that_it_is_ready(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """F06: a process that crashes after that has not failed to start."""
    ours, theirs = os.pipe()
    monkeypatch.setenv(READINESS, str(theirs))
    async with post.app.worker() as worker:
        await eventually(lambda: worker.is_ready or None, 20)
    assert os.read(ours, 2) == b"1"
    os.close(ours)


async def test_stopped_before_it_runs(post: Post) -> None:
    worker = post.app.worker()
    await worker.stop()
    await asyncio.wait_for(worker.run(), 20)


async def test_stopped_while_it_starts(post: Post) -> None:
    worker = post.app.worker()
    run = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    await asyncio.wait_for(worker.stop(), 20)
    await asyncio.wait_for(run, 20)


async def test_it_runs_once_at_a_time(post: Post) -> None:
    async with post.app.worker() as worker:
        await eventually(lambda: worker.is_ready or None, 20)
        with pytest.raises(InvalidOption, match="runs already"):
            await worker.run()


async def test_a_handler_may_stop_its_worker(app: Taurine) -> None:
    """The handler that asks for it is let end like the others, and does not wait for itself."""
    stopping: list[Any] = []

    @app.job("worker.end", queue="mail")
    async def end(mail: Mail) -> int:
        await worker.stop()
        stopping.append(worker.running)
        return mail.number

    handle = await end.enqueue(Mail(number=4))
    worker = app.worker()
    await asyncio.wait_for(worker.run(), 30)
    assert stopping == [1]
    assert await handle.result(timeout=5) == 4


async def test_two_stops_at_once(post: Post) -> None:
    await post.enqueue(mail=1)
    worker = post.app.worker()
    run = asyncio.create_task(worker.run())
    await post.until_running(mail=1)
    patient = asyncio.create_task(worker.stop(grace=3_600))
    await asyncio.sleep(0)
    await asyncio.wait_for(worker.stop(grace=0), 30)
    await asyncio.wait_for(asyncio.gather(patient, run), 30)
    assert post.done["mail"] == 0


async def test_all_queues_stop_at_the_same_time(post: Post) -> None:
    """SEED-271: not one after the other; there are free slots, and nothing more is claimed on either."""
    await post.enqueue(mail=1, export=1)
    worker = post.app.worker()
    run = asyncio.create_task(worker.run())
    await post.until_running(mail=1, export=1)
    stop = asyncio.create_task(worker.stop(grace=3_600))
    await asyncio.sleep(0)
    await post.enqueue(mail=3, export=3)
    post.go_on.set()
    await asyncio.wait_for(asyncio.gather(stop, run), 30)
    assert post.done == Counter(mail=1, export=1)


async def test_what_has_not_ended_is_handed_back_on_all_queues(post: Post) -> None:
    await post.enqueue(mail=2, export=2)
    worker = post.app.worker()
    run = asyncio.create_task(worker.run())
    await post.until_running(mail=2, export=2)
    await asyncio.wait_for(worker.stop(grace=0), 30)
    await asyncio.wait_for(run, 5)
    assert [record.status for record in (await post.app.list()).items] == ["queued"] * 4


async def test_an_error_of_one_queue_ends_the_worker(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that turns the worker away on one queue must not leave it half alive."""
    run = Worker.run

    async def refused(self: Worker, **options: Any) -> None:
        if self._store.keys.name == "export":
            raise StoreRefused("NOPERM")
        await run(self, **options)

    monkeypatch.setattr(Worker, "run", refused)
    with pytest.raises(StoreRefused, match="NOPERM"):
        await asyncio.wait_for(post.app.worker().run(), 30)
