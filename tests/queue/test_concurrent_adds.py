"""Concurrent adds of one process: few calls, in order, each with its own outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from support.proxy import FaultProxy
from support.server import ValkeyServer
from support.site import Site
from taurine.errors import ParentNotFound, PayloadTooLarge, StoreUnavailable
from taurine.options import Parent
from taurine.queue import Queue


async def evalsha_calls(raw: Redis) -> int:
    stats: dict[str, Any] = await raw.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


async def test_a_thousand_adds_at_once_take_few_calls_and_keep_their_order(site: Site) -> None:
    await site.queue.add("first")
    await site.raw.config_resetstat()
    jobs = await asyncio.gather(*(site.queue.add("work", {"n": number}) for number in range(1_000)))

    assert await evalsha_calls(site.raw) <= 20
    assert [job.id for job in jobs] == [str(number) for number in range(2, 1_002)]
    assert await site.line() == [str(number) for number in range(1, 1_002)]
    assert [await site.raw.hget(site.keys.job(str(n + 2)), "data") for n in (0, 500, 999)] == [
        '{"n":0}',
        '{"n":500}',
        '{"n":999}',
    ]


async def test_each_add_has_its_own_outcome(site: Site) -> None:
    await site.queue.add("parent", job_id="parent")
    outcomes = await asyncio.gather(
        site.queue.add("good", job_id="a"),
        site.queue.add("orphan", job_id="b", parent=Parent("nobody", "q")),
        site.queue.add("too large", {"text": "x" * 100}, size_limit=50),
        site.queue.add("child", job_id="c", parent=Parent("parent", "q")),
        site.queue.add("again", job_id="a"),
        site.queue.add("good", job_id="d"),
        return_exceptions=True,
    )

    good, orphan, large, child, again, last = outcomes
    assert isinstance(orphan, ParentNotFound)
    assert orphan.job_id == "b"
    assert isinstance(large, PayloadTooLarge)
    assert isinstance(again, type(good))
    assert [(job.id, job.duplicate) for job in (good, child, again, last) if not isinstance(job, BaseException)] == [
        ("a", False),
        ("c", False),
        ("a", True),
        ("d", False),
    ]
    assert await site.line() == ["parent", "a", "c", "d"]


async def test_adds_that_are_cancelled_take_nobody_with_them(site: Site) -> None:
    adding = [asyncio.create_task(site.queue.add("work", job_id=f"j{number}")) for number in range(20)]
    await asyncio.sleep(0)
    for task in adding[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*adding, return_exceptions=True)

    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [True, False] * 10
    line = await site.line()
    assert [f"j{number}" for number in range(1, 20, 2)] == [job_id for job_id in line if int(job_id[1:]) % 2]


async def test_one_cancelled_add_of_a_thousand_at_a_slow_server_takes_nobody_with_it(
    site: Site, valkey: ValkeyServer
) -> None:
    async with FaultProxy(valkey.port) as proxy, Queue("q", proxy.url, prefix=site.keys.prefix) as queue:
        await queue.add("first")
        proxy.black_hole()
        # More than the sockets on the way take: whoever sends has to wait.
        adding = [asyncio.create_task(queue.add("work", {"n": n, "x": "x" * 50_000})) for n in range(1_000)]
        for _ in range(10):
            await asyncio.sleep(0)
        for task in (cancelled := adding[249::250]):
            task.cancel()
        await asyncio.wait(cancelled)
        await proxy.heal()
        outcomes = await asyncio.gather(*adding, return_exceptions=True)

    failed = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
    assert failed == [249, 499, 749, 999], [outcomes[number] for number in failed[:3]]


async def test_adds_survive_a_server_that_forgot_the_script(site: Site) -> None:
    await site.queue.add("work")
    await site.raw.script_flush()
    await asyncio.gather(*(site.queue.add("work") for _ in range(600)))

    assert sorted(map(int, await site.line())) == list(range(1, 602))


async def test_all_fail_when_the_server_is_away_and_work_again_after(server_factory: Any, prefix: str) -> None:
    server: ValkeyServer = server_factory()
    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        server.stop()
        outcomes = await asyncio.gather(*(site.queue.add("work") for _ in range(300)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        server.start()
        assert len(await asyncio.gather(*(site.queue.add("work") for _ in range(300)))) == 300
        await site.close()


async def test_a_refused_batch_fails_its_callers_and_not_the_next(server_factory: Any, prefix: str) -> None:
    server: ValkeyServer = server_factory()
    async with Redis.from_url(server.url, decode_responses=True) as raw:
        site = Site("q", prefix, server.url, raw)
        await raw.config_set("maxmemory", 1)
        outcomes = await asyncio.gather(*(site.queue.add("work") for _ in range(10)), return_exceptions=True)
        assert all("refused: OOM" in str(outcome) or "used memory" in str(outcome) for outcome in outcomes), outcomes
        await raw.config_set("maxmemory", 0)
        assert len(await asyncio.gather(*(site.queue.add("work") for _ in range(10)))) == 10
        await site.close()


@pytest.mark.parametrize("count", [0, 1, 1_000, 2_500])
async def test_many_in_one_call_keep_their_order(site: Site, count: int) -> None:
    jobs = await site.queue.add_many([("work", {"n": number}) for number in range(count)])

    assert [job.id for job in jobs] == await site.line() == [str(number) for number in range(1, count + 1)]
