"""The keeper: the process that runs one directory's Valkey server for as long as the directory has users.

It is run by path, as a script, and outlives whoever made it. Hence it imports nothing but the standard library: it
starts in a moment, stays small, and does not depend on what its maker had on its path. The rest of the package imports
from here what both sides must agree on: the file names, the record and the question whether a server answers.

    keeper.py DIRECTORY KEEPER_LOCK_FD SOCKET PRELOAD COMMAND…

It runs in DIRECTORY, whose name is for the record: all that the keeper and its server do there is by relative paths, so
they touch nothing of another server's if the directory was moved away or removed, and one was made in its place.
KEEPER_LOCK_FD is open on `keeper.lock` and locked. PRELOAD is a library that the server is to load first, or empty. Exits with 0 when nobody uses the directory, or when told to by
SIGTERM; with 1 when the server could not be started at all. The package's docstring tells how the locks work together.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket as sockets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

USERS_LOCK = "users.lock"
SERVER_LOCK = "server.lock"
BELL = "keeper.bell"
RECORD = "keeper.json"
LOG = "valkey.log"
DATA = "valkey"

LOG_LIMIT_BYTES = 1 << 20
LOOK_SECONDS = 1.0
READY_POLL_SECONDS = 0.02
SHUTDOWN_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
STABLE_SECONDS = 10.0
"""A server that was ready for this long has its next restart without a pause."""


class Record(NamedTuple):
    """What is known of a directory's server. Only the holder of `keeper.lock` writes it."""

    directory: str
    """Where it was written: in a copy of the directory, its socket is another server's."""
    socket: str
    keeper: int | None = None
    server: int | None = None
    """The server's process id; None while there is no ready server."""


def read_record(directory: Path) -> Record | None:
    """The record as it is now; None when there is none, or a keeper of another version left it."""
    try:
        fields = json.loads((directory / RECORD).read_text())
        return Record(**fields)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_record(directory: Path, record: Record) -> None:
    """Replace the record as a whole, so that a reader never sees half of it."""
    new = directory / f"{RECORD}.new"
    new.touch(mode=0o600)
    new.write_text(json.dumps(record._asdict()))
    new.replace(directory / RECORD)


def try_lock(fd: int, kind: int) -> bool:
    """Take the flock `kind` (LOCK_SH or LOCK_EX) on `fd`; False when it is held in a way that excludes this one."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def say(socket: str, command: str) -> bytes:
    """The start of the server's answer to an argument-free command, or nothing if there was none within a second."""
    try:
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(socket)
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(64)
    except OSError:
        return b""


def answers(socket: str) -> bool:
    """True when a server that has loaded its data answers on `socket`."""
    return say(socket, "PING").startswith(b"+PONG")


class Keeper:
    """One directory's keeper. `run` is its life; every other method is a step of it and returns at once, or says so."""

    def __init__(self, directory: Path, socket: Path, preload: str, command: list[str]) -> None:
        self._record = Record(str(directory), str(socket), os.getpid())
        self._socket_is_near = socket.parent == directory
        self._socket = Path(socket.name) if self._socket_is_near else socket
        self._command = command
        self._environment = {**os.environ, **({"LD_PRELOAD": preload} if preload else {})}
        self._users_fd = self._open(USERS_LOCK)
        self._server_fd = self._open(SERVER_LOCK)
        self._bell_fd = self._hang_bell()
        self._signal_fd = self._listen_to_signals()
        self._die_with_me = dying_with_parent()
        self._server: subprocess.Popen[bytes] | None = None
        self._told_to_stop = False
        self._alone = False
        self._ready_at: float | None = None
        self._ever_ready = False
        self._pause = FIRST_PAUSE_SECONDS
        self._launch_at = 0.0

    def run(self) -> int:
        self._publish()
        if not self._claim_data():
            self._log(f"another server still has the data after {SHUTDOWN_SECONDS:g} s; giving up")
            return 1
        try:
            return self._supervise()
        finally:
            self._shut_down()

    def _supervise(self) -> int:
        while not self._should_end():
            if not self._care():
                return 1
            self._bound_log()
            self._wait()
        return 0

    def _should_end(self) -> bool:
        # The exclusive lock is kept: whoever wants to become a user now waits until this process has ended.
        self._alone = try_lock(self._users_fd, fcntl.LOCK_EX)
        return self._alone or self._told_to_stop

    def _care(self) -> bool:
        """Bring the server one step nearer to ready; False when it has never been and ended."""
        now = time.monotonic()
        if self._server is None:
            if now >= self._launch_at:
                self._launch()
            return True
        if (code := self._server.poll()) is not None:
            return self._server_ended(code, now)
        if self._ready_at is None and answers(str(self._socket)):
            self._ready_at = now
            self._ever_ready = True
            self._publish(server=self._server.pid)
        return True

    def _launch(self) -> None:
        self._server = subprocess.Popen(
            self._command,
            cwd=DATA,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(self._server_fd,),
            preexec_fn=self._die_with_me,  # noqa: PLW1509 - this process has one thread
        )

    def _server_ended(self, code: int, now: float) -> bool:
        if not self._ever_ready:
            self._log(f"the server ended with code {code} before it was ready")
            return False
        lived = 0.0 if self._ready_at is None else now - self._ready_at
        if lived >= STABLE_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        self._log(f"the server ended with code {code} while in use; starting it again in {self._pause:g} s")
        self._launch_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        self._server = self._ready_at = None
        self._publish()
        return True

    def _wait(self) -> None:
        """Return when the bell rings, a signal comes, or it is time to look again."""
        seconds = LOOK_SECONDS
        if self._server is None:
            seconds = min(seconds, max(0.0, self._launch_at - time.monotonic()))
        elif self._ready_at is None:
            seconds = READY_POLL_SECONDS
        for fd in select.select([self._bell_fd, self._signal_fd], [], [], seconds)[0]:
            os.read(fd, 4096)

    def _claim_data(self) -> bool:
        """Wait until no other server has the data, telling one that was left behind to shut down."""
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        while not try_lock(self._server_fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                return False
            say(str(self._socket), "SHUTDOWN")
            time.sleep(READY_POLL_SECONDS)
        return True

    def _shut_down(self) -> None:
        # First of all, so that a user who comes while the server is still there does not take it for his.
        self._publish()
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(SHUTDOWN_SECONDS)
            except subprocess.TimeoutExpired:
                self._log(f"the server did not shut down within {SHUTDOWN_SECONDS:g} s; killing it")
                self._server.kill()
                self._server.wait()
        if self._alone:
            self._tidy()

    def _tidy(self) -> None:
        """Remove what only a running server needs. Users that remain would need the socket's place again."""
        for path in (self._socket, Path(RECORD), Path(BELL)):
            path.unlink(missing_ok=True)
        if not self._socket_is_near:
            with contextlib.suppress(OSError):
                self._socket.parent.rmdir()

    def _publish(self, *, server: int | None = None) -> None:
        # If the directory was removed while in use, nobody is left to read it.
        with contextlib.suppress(FileNotFoundError):
            write_record(Path(), self._record._replace(server=server))

    def _open(self, name: str) -> int:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)

    def _hang_bell(self) -> int:
        Path(BELL).unlink(missing_ok=True)
        os.mkfifo(BELL, 0o600)
        # Open for writing too: with a writer always there, the FIFO is never at its end and select sleeps.
        return os.open(BELL, os.O_RDWR | os.O_NONBLOCK)

    def _listen_to_signals(self) -> int:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGCHLD, self._on_sigchld)
        # The maker may have blocked signals in the thread that made this process.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return reading

    def _on_sigterm(self, *_: object) -> None:
        self._told_to_stop = True

    def _on_sigchld(self, *_: object) -> None:
        """Nothing: with a handler, the signal ends the wait."""

    def _bound_log(self) -> None:
        # Valkey opens its log anew for each line, so a rename is all that it takes.
        log = Path(LOG)
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > LOG_LIMIT_BYTES:
                log.replace(log.with_suffix(".log.1"))

    def _log(self, message: str) -> None:
        with contextlib.suppress(FileNotFoundError), Path(LOG).open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper {os.getpid()}: {message}\n")


def dying_with_parent() -> Callable[[], None] | None:
    """What a new child must call to get SIGTERM when this process dies; None where the system has no such thing."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes
    except ImportError:  # a Python that was built without it
        return None

    prctl = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1
    parent = os.getpid()

    def die_with_parent() -> None:
        prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return die_with_parent


def main() -> int:
    """Become a keeper; see this module's docstring for the arguments and the codes."""
    directory, lock_fd, socket, preload, *command = sys.argv[1:]
    # A second fork: the maker, which waits for this process only, gets no child that it never asked for.
    if os.fork():
        os._exit(0)
    os.set_inheritable(int(lock_fd), False)
    os.umask(0o077)
    try:
        return Keeper(Path(directory), Path(socket), preload, command).run()
    finally:
        # Ending would not do: a child that the maker forked meanwhile may have a copy of the descriptor.
        fcntl.flock(int(lock_fd), fcntl.LOCK_UN)


if __name__ == "__main__":
    sys.exit(main())
