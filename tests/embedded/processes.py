"""Processes that use an embedded server, and what can be seen of its processes from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import redis

import taurine.errors
from taurine.embedded.keeper import Record, read_record

SOURCE = Path(taurine.errors.__file__).parent.parent


@dataclass
class User:
    """A process that uses the server on a directory."""

    process: subprocess.Popen[str]
    server: int
    url: str

    @property
    def closed(self) -> bool:
        """True after `stop` or `kill`."""
        return cast(IO[str], self.process.stdout).closed

    def stop(self) -> None:
        """Let it stop in good order, and wait for that."""
        self.process.communicate("\n", timeout=30)
        assert self.process.returncode == 0

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def client(self) -> redis.Redis:
        """A client that keeps no connection when it is dropped, and tries once."""
        return redis.Redis.from_url(self.url, decode_responses=True)


StartUser = Callable[[Path], User]


def spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("user.py")), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        start_new_session=True,
    )


def processes_on(directory: Path) -> dict[int, str]:
    """The processes that run in the directory or name it in their command line: its keeper, its server, its users."""
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = str((entry / "cwd").readlink())
        except OSError:  # it ended meanwhile
            continue
        if str(directory) in command or place.startswith(str(directory)):
            found[int(entry.name)] = command
    return found


def servers_on(directory: Path) -> list[int]:
    """The Valkey processes on the directory, by the title that Valkey gives itself."""
    return [pid for pid, command in processes_on(directory).items() if "unixsocket:" in command]


def never_ready(home: Path) -> Path:
    """A server program, put beside `home`, that runs and answers nobody."""
    program = home.with_name("never-ready")
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o700)
    return program


def is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def record_of(directory: Path) -> Record:
    record = read_record(directory)
    assert record is not None, "there is no record"
    return record


def answers_with(url: str, key: str) -> str | None:
    """The value of a key; an AssertionError while there is no server."""
    try:
        with redis.Redis.from_url(url, decode_responses=True) as client:
            return cast("str | None", client.get(key))
    except redis.RedisError as error:
        raise AssertionError(f"no answer: {error!r}") from error
