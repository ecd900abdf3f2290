"""Many processes that start and stop as fast as they can: never two servers, never a user without one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from embedded.processes import answers_with, processes_on, servers_on, spawn
from support.eventually import eventually
from taurine.embedded import EmbeddedServer

PROCESSES = 10
ROUNDS = 8


async def test_ten_processes_start_and_stop_at_once(home: Path) -> None:
    """Each use adds one to a number on the server. A second server, or a stop that loses a write, would lose some."""
    processes = [spawn(str(home), str(ROUNDS)) for _ in range(PROCESSES)]
    most = 0

    def all_ended() -> bool:
        nonlocal most
        most = max(most, len(servers_on(home)))
        return all(process.poll() is not None for process in processes)

    await eventually(all_ended, 90, "the processes did not end")
    for process in processes:
        process.communicate()

    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert most == 1
    assert servers_on(home) == [], "the last stop returns when the server has ended"
    async with EmbeddedServer(home) as server:
        assert answers_with(server.url, "uses") == str(PROCESSES * ROUNDS)


async def test_users_that_are_killed_while_others_start_and_stop(home: Path) -> None:
    """A SIGKILL may hit a user at any point, with any lock held: the others go on."""
    steady = [spawn(str(home), str(ROUNDS)) for _ in range(3)]
    doomed: list[subprocess.Popen[str]] = []
    most = 0

    def all_ended() -> bool:
        nonlocal most
        most = max(most, len(servers_on(home)))
        running = [process for process in doomed if process.poll() is None]
        if len(running) > 2:
            running[0].kill()
        elif len(doomed) < 12:
            doomed.append(spawn(str(home), "1000"))
        return all(process.poll() is not None for process in steady)

    await eventually(all_ended, 90, "the processes did not end")
    for process in doomed:
        process.kill()
    for process in (*steady, *doomed):
        process.communicate()

    assert [process.returncode for process in steady] == [0] * len(steady)
    assert most == 1
    await eventually(lambda: not processes_on(home), 20, "the server outlives its users")
