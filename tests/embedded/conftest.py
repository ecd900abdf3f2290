"""Users of an embedded server as processes of their own, and a check that no process of theirs is left."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, cast

import pytest

from embedded.processes import StartUser, User, processes_on, spawn
from support.eventually import eventually


@pytest.fixture
def start_user() -> Iterator[StartUser]:
    """Start a process that uses a directory's server, and wait until it does."""
    users: list[User] = []

    def start(directory: Path) -> User:
        process = spawn(str(directory))
        line = cast(IO[str], process.stdout).readline()
        assert line, f"the user ended with code {process.wait()} instead of starting"
        pid, url = line.split()
        users.append(User(process, int(pid), url))
        return users[-1]

    yield start
    for user in users:
        if not user.closed:
            user.kill()


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Path]:
    """A directory for an embedded server, not made yet; no process of it may outlive the test."""
    directory = tmp_path / "home"
    yield directory
    try:
        await eventually(lambda: not processes_on(tmp_path), 10, "processes outlive the test")
    except AssertionError:
        left = processes_on(tmp_path)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        pytest.fail(f"processes outlive the test: {left}", pytrace=False)
