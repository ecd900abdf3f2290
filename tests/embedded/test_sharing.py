"""Who starts the server, who shares it, and who stops it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis
import redis.asyncio

from embedded.processes import (
    SOURCE,
    StartUser,
    answers_with,
    is_alive,
    never_ready,
    processes_on,
    record_of,
    servers_on,
    spawn,
)
from support.eventually import eventually
from taurine.embedded import EmbeddedServer
from taurine.embedded.keeper import BELL, USERS_LOCK
from taurine.embedded.locks import FileLock
from taurine.errors import EmbeddedServerError, InvalidOption


async def test_the_first_starts_the_others_share_the_last_stops(home: Path, start_user: StartUser) -> None:
    first, second, third = start_user(home), start_user(home), start_user(home)
    assert first.server == second.server == third.server
    assert first.url == second.url == third.url

    third.client().set("written by", "the third")
    first.stop()
    third.stop()

    assert second.client().get("written by") == "the third"
    assert is_alive(second.server)
    second.stop()
    assert servers_on(home) == [], "a stop returns when the server has ended"


async def test_data_outlives_the_last_user(home: Path) -> None:
    async with EmbeddedServer(home) as server, redis.asyncio.from_url(server.url) as client:
        await client.set("key", "value")

    async with EmbeddedServer(home) as server:
        assert answers_with(server.url, "key") == "value"


async def test_two_objects_of_one_process_are_two_users(home: Path) -> None:
    one, other = EmbeddedServer(home), EmbeddedServer(home)
    await one.start()
    await other.start()
    assert one.pid == other.pid

    await one.stop()

    answers_with(other.url, "key")
    await other.stop()
    assert servers_on(home) == []


async def test_start_and_stop_are_safe_to_repeat_and_in_any_order(home: Path) -> None:
    server = EmbeddedServer(home)
    await server.stop()
    await server.start()
    pid = server.pid
    await server.start()
    assert server.pid == pid

    await server.stop()
    await server.stop()
    assert servers_on(home) == []

    await server.start()
    assert server.pid not in {None, pid}
    await server.stop()


def test_without_an_event_loop(home: Path) -> None:
    with EmbeddedServer(home) as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()
        assert "started" in repr(server)

    assert servers_on(home) == []


def test_threads_may_share_one_object(home: Path) -> None:
    server = EmbeddedServer(home)
    seen: set[int | None] = set()

    def start() -> None:
        server.start_sync()
        seen.add(server.pid)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 1
    assert servers_on(home) == [server.pid]
    server.stop_sync()
    assert servers_on(home) == []


def test_an_object_that_is_not_started_has_no_address(home: Path) -> None:
    server = EmbeddedServer(home)

    for read in (lambda: server.url, lambda: server.socket, lambda: server.pid):
        with pytest.raises(EmbeddedServerError, match="call start first"):
            read()


def test_options_out_of_range_are_refused(home: Path) -> None:
    with pytest.raises(InvalidOption, match="start_timeout"):
        EmbeddedServer(home, start_timeout=0)
    with pytest.raises(InvalidOption, match="got 'no'"):
        EmbeddedServer(home, fsync="no")  # type: ignore[arg-type]


async def test_a_cancelled_start_ends_soon_and_leaves_no_user(home: Path) -> None:
    server = EmbeddedServer(home, binary=never_ready(home), start_timeout=600)
    start = asyncio.create_task(server.start())
    await eventually(lambda: processes_on(home), 10, "no keeper was made")

    start.cancel()

    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await start
    with FileLock(home / "keeper.lock") as keeper:
        assert keeper.try_exclusive(), "the keeper outlives the start"
    with pytest.raises(EmbeddedServerError):
        _ = server.url


def holds_open(path: Path) -> bool:
    """True when this process has the file open."""
    return any(os.path.lexists(fd) and fd.resolve() == path for fd in Path("/proc/self/fd").iterdir())


async def test_a_cancelled_start_leaves_the_server_to_other_users(home: Path, start_user: StartUser) -> None:
    user = start_user(home)
    keeper = record_of(home).keeper
    os.kill(user.server, signal.SIGSTOP)  # it does not answer, so the start waits
    server = EmbeddedServer(home)
    start = asyncio.create_task(server.start())
    await eventually(lambda: holds_open(home / USERS_LOCK), 10, "the start does not begin")

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    os.kill(user.server, signal.SIGCONT)
    assert record_of(home).keeper == keeper
    with user.client() as client:
        assert client.ping()


async def test_a_cancelled_start_whose_thread_comes_late_uses_nothing(home: Path) -> None:
    server = EmbeddedServer(home)
    begun = threading.Event()
    forget = server._forget_parent_process

    def forget_and_tell() -> None:
        begun.set()
        forget()

    server._forget_parent_process = forget_and_tell
    with server._mutex:
        start = asyncio.create_task(server.start())
        await asyncio.to_thread(begun.wait, 10)
        start.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await start
    assert "not started" in repr(server)
    assert list(home.parent.iterdir()) == [], "the directory was made"


async def test_a_start_cancelled_when_it_is_done_leaves_no_user(home: Path) -> None:
    server = EmbeddedServer(home)
    start = asyncio.create_task(server.start())
    await asyncio.sleep(0)
    while "not started" in repr(server):
        time.sleep(0.01)  # noqa: ASYNC251 - the loop must not learn that the start is done

    start.cancel()

    with pytest.raises(asyncio.CancelledError):
        await start
    assert "not started" in repr(server)
    assert servers_on(home) == []


def test_the_last_user_wakes_the_keeper(home: Path) -> None:
    server = EmbeddedServer(home, stop_timeout=0)
    server.start_sync()
    keeper = record_of(home).keeper
    assert keeper is not None
    os.kill(keeper, signal.SIGSTOP)
    try:
        bell = os.open(home / BELL, os.O_RDONLY | os.O_NONBLOCK)
        server.stop_sync()
        assert os.read(bell, 10) == b"!"
        os.close(bell)
    finally:
        os.kill(keeper, signal.SIGCONT)


async def test_who_comes_while_the_server_shuts_down_waits_for_that(home: Path) -> None:
    server = EmbeddedServer(home, stop_timeout=0)
    await server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await server.stop()
    await eventually(lambda: record_of(home).server is None, 10, "the keeper did not begin to stop the server")

    with pytest.raises(EmbeddedServerError, match=r"not ready .* the server is still shutting down"):
        await EmbeddedServer(home, start_timeout=0.1).start()

    os.kill(pid, signal.SIGCONT)
    async with EmbeddedServer(home) as newcomer:
        assert newcomer.pid != pid
        assert servers_on(home) == [newcomer.pid]


async def test_ctrl_c_reaches_users_and_not_the_server(home: Path, start_user: StartUser) -> None:
    interrupted, other = start_user(home), start_user(home)

    os.killpg(interrupted.process.pid, signal.SIGINT)
    await eventually(lambda: interrupted.process.poll() is not None, 10, "the user was not interrupted")

    assert other.client().ping()
    assert servers_on(home) == [other.server]


async def test_processes_that_start_at_once_get_one_server(home: Path) -> None:
    processes = [spawn(str(home)) for _ in range(6)]
    lines = [process.stdout.readline() for process in processes if process.stdout]

    assert len(set(lines)) == 1
    assert len(servers_on(home)) == 1
    for process in processes:
        process.communicate("\n")
        assert process.returncode == 0
    assert servers_on(home) == []


def test_a_maker_gets_no_child(home: Path) -> None:
    with EmbeddedServer(home) as server:
        keeper = record_of(home).keeper
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        assert not {str(keeper), str(server.pid)} & set(children)


FORKS = """
import os, sys
from taurine.embedded import EmbeddedServer
from taurine.embedded.keeper import BELL

server = EmbeddedServer(sys.argv[1])
server.start_sync()
pid = server.pid
hold, go = os.pipe()
child = os.fork()
if not child:
    os.close(go)
    os.read(hold, 1)        # until the parent has stopped
    first_use_ended = not os.path.exists(f"/proc/{pid}")
    server.stop_sync()      # not this process's use: does nothing
    server.start_sync()
    own_use_works = server.pid is not None
    server.stop_sync()
    os._exit(0 if first_use_ended and own_use_works else 1)
os.close(hold)
server.stop_sync()
os.close(go)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_has_no_part_in_its_parents_use(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(home)], env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False, timeout=60
    )

    assert done.returncode == 0
    assert servers_on(home) == []


async def test_a_forked_childs_stop_leaves_the_parents_use(home: Path) -> None:
    code = FORKS.split("hold, go", maxsplit=1)[0] + (
        "child = os.fork()\n"
        "if not child:\n"
        "    server.stop_sync()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "from taurine.embedded.locks import FileLock\n"
        "sys.exit(1 if FileLock(server.directory / 'users.lock').try_exclusive() else 0)\n"
    )
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        [sys.executable, "-c", code, str(home)], env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False, timeout=60
    )

    assert done.returncode == 0
    await eventually(lambda: not processes_on(home), 10, "the server outlives users that ended without a stop")
