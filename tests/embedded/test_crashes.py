"""What is left when each of the processes is killed: a server for who uses it, none for nobody, and the data."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest
import redis

from embedded.processes import StartUser, answers_with, is_alive, processes_on, record_of, servers_on
from support.eventually import eventually
from taurine.embedded import EmbeddedServer
from taurine.embedded import keeper as keeper_module
from taurine.embedded.locks import FileLock
from taurine.errors import EmbeddedServerError

RECOVERY_SECONDS = 20.0
"""Generous: a busy machine must not fail the test."""


async def test_a_killed_user_leaves_the_others_their_server(home: Path, start_user: StartUser) -> None:
    killed, other = start_user(home), start_user(home)

    killed.kill()

    assert other.client().ping()
    assert servers_on(home) == [other.server]
    other.stop()
    assert servers_on(home) == [], "a killed user is not counted"


async def test_when_all_users_are_killed_the_server_ends_and_keeps_the_data(home: Path, start_user: StartUser) -> None:
    users = [start_user(home) for _ in range(3)]
    users[0].client().set("key", "value")

    for user in users:
        user.kill()

    await eventually(lambda: not processes_on(home), RECOVERY_SECONDS, "the server outlives its users")
    assert answers_with(start_user(home).url, "key") == "value"


async def test_who_comes_right_after_a_crash_of_all_users_has_a_server(home: Path, start_user: StartUser) -> None:
    for count in range(5):
        user = start_user(home)
        assert user.client().incr("count") == count + 1
        user.kill()


async def test_a_killed_server_comes_back_with_its_data(home: Path) -> None:
    async with EmbeddedServer(home) as server:
        pid, url = server.pid, server.url
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
        assert pid is not None

        os.kill(pid, signal.SIGKILL)

        await eventually(lambda: answers_with(url, "key") == "value", RECOVERY_SECONDS, "the server did not come back")
        await eventually(lambda: server.pid not in {None, pid}, RECOVERY_SECONDS, "the new server was not recorded")
        assert servers_on(home) == [server.pid]
        assert server.url == url


async def test_a_server_that_keeps_ending_is_started_again_each_time(home: Path) -> None:
    async with EmbeddedServer(home) as server:
        known: set[int | None] = {None}
        for _ in range(4):
            await eventually(lambda: server.pid not in known, RECOVERY_SECONDS, "the server did not come back")
            pid = server.pid
            assert pid is not None
            known.add(pid)
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: server.pid not in known, RECOVERY_SECONDS, "the server did not come back")

    pauses = [line.split(" in ")[-1] for line in (home / "valkey.log").read_text().splitlines() if "keeper" in line]
    assert pauses == ["0.1 s", "0.2 s", "0.4 s", "0.8 s"]


async def test_a_shutdown_by_a_client_is_a_crash_for_the_users(home: Path) -> None:
    async with EmbeddedServer(home) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            client.shutdown()

        await eventually(lambda: answers_with(server.url, "key") == "value", RECOVERY_SECONDS, "it did not come back")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_keeper_is_replaced(home: Path, how: signal.Signals) -> None:
    async with EmbeddedServer(home) as server:
        pid, url, keeper = server.pid, server.url, record_of(home).keeper
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
        assert pid is not None
        assert keeper is not None

        os.kill(keeper, how)

        await eventually(lambda: record_of(home).keeper not in {None, keeper}, RECOVERY_SECONDS, "no new keeper came")
        await eventually(lambda: server.pid not in {None, pid}, RECOVERY_SECONDS, "no new server came")
        assert not is_alive(pid), "two servers on one data set"
        assert answers_with(url, "key") == "value"
        assert server.url == url

    assert servers_on(home) == []


async def test_keepers_killed_with_all_users_leave_no_server(home: Path, start_user: StartUser) -> None:
    users = [start_user(home) for _ in range(2)]
    keeper = record_of(home).keeper
    assert keeper is not None

    for user in users:
        user.kill()
    os.kill(keeper, signal.SIGKILL)

    await eventually(lambda: not processes_on(home), RECOVERY_SECONDS, "the server outlives its users and its keeper")


async def test_who_comes_right_after_a_crash_of_everything_has_its_server_and_the_data(
    home: Path, start_user: StartUser
) -> None:
    for count in range(5):
        user = start_user(home)
        assert user.client().incr("count") == count + 1
        record = record_of(home)
        assert record.keeper is not None
        assert record.server is not None
        user.kill()
        for pid in (record.keeper, record.server):
            os.kill(pid, signal.SIGKILL)


async def test_there_is_no_second_server_while_one_is_left_behind(home: Path) -> None:
    async with EmbeddedServer(home):
        pass
    with FileLock(home / "server.lock") as left_behind:
        await eventually(left_behind.try_exclusive, 10, "the keeper did not end")
        with pytest.raises(EmbeddedServerError, match="not ready after 1 s"):
            await EmbeddedServer(home, start_timeout=1).start()
        assert servers_on(home) == []

    async with EmbeddedServer(home) as server:
        answers_with(server.url, "key")


async def test_a_server_left_behind_is_told_to_shut_down(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system that does not end a child with its parent, a new keeper ends it."""
    monkeypatch.setattr(keeper_module, "__file__", str(without_parent_death_signal(home)))
    async with EmbeddedServer(home) as server:
        pid, keeper = server.pid, record_of(home).keeper
        assert pid is not None
        assert keeper is not None
        os.kill(keeper, signal.SIGKILL)

        await eventually(lambda: server.pid not in {None, pid}, RECOVERY_SECONDS, "no new server came")

        assert not is_alive(pid), "two servers on one data set"


def without_parent_death_signal(home: Path) -> Path:
    """The keeper's program as it is on other systems than Linux."""
    program = home.with_name("keeper.py")
    source = Path(keeper_module.__file__).read_text()
    program.write_text(source.replace('sys.platform != "linux"', "True"))
    return program


async def test_a_file_that_a_crash_cut_off_is_loaded_up_to_the_cut(home: Path) -> None:
    async with EmbeddedServer(home) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("whole", "value")
            client.set("cut", "value")
    (log,) = (home / "valkey" / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 3)

    async with EmbeddedServer(home) as server:
        assert answers_with(server.url, "whole") == "value"
        assert answers_with(server.url, "cut") is None


async def test_data_that_cannot_be_loaded_is_an_error_that_shows_why(home: Path) -> None:
    async with EmbeddedServer(home):
        pass
    (manifest,) = (home / "valkey" / "appendonlydir").glob("*.manifest")
    manifest.write_text("nonsense\n")

    with pytest.raises(EmbeddedServerError, match=r"(?s)ended before it was ready.*valkey\.log.*manifest"):
        await EmbeddedServer(home).start()
    await eventually(lambda: not processes_on(home), RECOVERY_SECONDS, "a failed start leaves processes")


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_directory_moved_or_removed_while_in_use_gives_way_to_a_new_one(
    home: Path, start_user: StartUser, how: str
) -> None:
    old = start_user(home)
    if how == "moved":
        home.rename(home.with_name("moved"))
    else:
        shutil.rmtree(home)

    new = start_user(home)
    assert new.server != old.server

    old.stop()
    wait_until_ended(old.server)
    assert new.client().ping(), "the old server's end took the new one's socket"
    assert record_of(home).server == new.server
    new.stop()
    assert servers_on(home) == []


async def test_a_removed_directory_can_be_left(home: Path) -> None:
    server = EmbeddedServer(home)
    await server.start()
    pid = server.pid
    assert pid is not None
    shutil.rmtree(home)

    await server.stop()

    await eventually(lambda: not is_alive(pid), RECOVERY_SECONDS, "the server outlives its user")
    assert not home.exists()  # noqa: ASYNC240


def wait_until_ended(pid: int) -> None:
    asyncio.run(eventually(lambda: not is_alive(pid), RECOVERY_SECONDS, "the server outlives its user"))
