"""The check after every test finds what a test may forget."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from support.eventually import eventually
from support.leaks import ServerWatch, no_tasks_remain
from support.server import ValkeyServer


@pytest.fixture
def watch(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerWatch]:
    monkeypatch.setattr("support.leaks._GRACE_SECONDS", 0.05)
    watch = ServerWatch(valkey)
    watch.before()
    yield watch
    watch.close()


async def test_a_clean_test_passes(watch: ServerWatch, raw, prefix: str) -> None:
    await raw.set(f"{prefix}:mine", 1)
    watch.before()

    assert watch.after(prefix) == []
    await no_tasks_remain()


async def test_a_key_outside_the_prefix_is_found_and_everything_is_removed(
    watch: ServerWatch, raw, prefix: str
) -> None:
    await raw.set(f"{prefix}:mine", 1)
    await raw.set("somebody's", 1)

    watch.before()
    assert watch.after(prefix) == [f'key outside the prefix {prefix!r}: "somebody\'s"']
    assert await raw.dbsize() == 0


def test_an_open_connection_is_found(watch: ServerWatch, valkey: ValkeyServer, prefix: str) -> None:
    with redis.Redis.from_url(valkey.url, client_name="forgotten") as client:
        client.ping()
        (leak,) = watch.after(prefix)

    assert leak.startswith("connection left open")
    assert "'name': 'forgotten'" in leak


async def test_a_running_task_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.leaks._GRACE_SECONDS", 0.05)
    forgotten = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    with pytest.raises(AssertionError, match="name='forgotten'"):
        await no_tasks_remain()

    forgotten.cancel()


async def test_eventually_shows_what_was_last_seen() -> None:
    seen: list[int] = []

    def three() -> bool:
        seen.append(1)
        assert len(seen) > 1_000_000, f"{len(seen)} so far"
        return True

    with pytest.raises(AssertionError, match=r"the third one within 0\.05 s; last seen: \d+ so far"):
        await eventually(three, 0.05, "the third one")
    with pytest.raises(AssertionError, match="last seen: 0"):
        await eventually(lambda: 0, 0.05)


async def test_eventually_returns_what_came_true() -> None:
    values = iter([None, "", "here"])

    async def look() -> str | None:
        return next(values)

    assert await eventually(look) == "here"
