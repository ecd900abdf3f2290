"""SECURITY.md: the users that it sets up can do what it says, on a real server (A50, A52)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from embedded.processes import SOURCE
from support.eventually import eventually
from support.server import ValkeyServer
from taurine.queue import Job, Queue, QueueEvents, Worker

TEXT = (SOURCE.parent / "SECURITY.md").read_text("utf-8")


async def set_up(raw: Redis) -> None:
    """The users of the page, with its further rights for whoever administers."""
    lines = re.findall(r"^ACL SETUSER .+$", TEXT, re.MULTILINE)
    assert [line.split()[2] for line in lines] == ["worker", "producer"]
    further = re.search(r"give their users `([^`]+)`", TEXT)
    assert further is not None
    for line in (*lines, f"ACL SETUSER admin on >CHANGE-ME {further[1]}"):
        await raw.execute_command(*line.split())


async def test_the_users_of_the_page_can_do_their_work(server_factory: Callable[[], ValkeyServer]) -> None:
    server = server_factory()
    urls = {name: server.url.replace("//", f"//{name}:CHANGE-ME@") for name in ("worker", "producer", "admin")}

    async def handler(job: Job) -> str:
        await job.log("started")
        if job.attempts_made == 0:
            raise RuntimeError("once")
        return "done"

    async with Redis.from_url(server.url, decode_responses=True) as raw:
        await set_up(raw)
        async with (
            Queue("q", urls["admin"]) as administered,
            Queue("q", urls["producer"]) as queue,
            QueueEvents("q", urls["admin"]) as events,
        ):
            async with Worker("q", handler, urls["worker"], name="w"):
                await queue.add("work", attempts=2, job_id="a:b")
                await queue.add_many([("work", None, {"attempts": 2, "priority": 1, "delay": 0.05})])
                await eventually(lambda: both_completed(raw), 10)
                assert [worker.name for worker in await administered.workers() or ()] == ["w"]
            assert (await anext(events)).name == "added"
            job = await administered.get_job("a:b")
            assert job is not None
            assert await job.wait(timeout=10) == "done"
            await administer(administered)
        refused: Any = await raw.execute_command("ACL", "LOG")

    objects = {entry["object"] for entry in refused}
    assert objects <= {"client|setinfo", "client|setname", "client|id", "client|list", "info"}, objects


async def both_completed(raw: Redis) -> bool:
    return await raw.zcard("bull:q:completed") == 2


async def administer(queue: Queue) -> None:
    await queue.upsert_scheduler("s", every=60, name="work")
    await queue.pause()
    assert (await queue.counts())["completed"] == 2
    await queue.resume()
    await queue.retry_jobs(state="completed")
    await queue.clean(0)
    await queue.drain()
    await queue.obliterate(force=True)
