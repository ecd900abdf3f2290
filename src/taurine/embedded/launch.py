"""Making a keeper for a directory that has none."""

from __future__ import annotations

import os
import subprocess

from taurine.embedded import keeper
from taurine.embedded.allocator import mimalloc_for, with_allocator
from taurine.embedded.binary import find_python
from taurine.embedded.directory import SOCKET, Directory
from taurine.embedded.keeper import LOG, Record, read_record, write_record
from taurine.embedded.locks import FileLock, open_private
from taurine.errors import EmbeddedServerError

__all__ = ["ensure_keeper", "has_keeper"]

ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "GLIBC_TUNABLES")
"""All that a keeper gets of its maker's environment: it outlives its maker, whose secrets are not its own."""


def ensure_keeper(directory: Directory, *, binary: str, fsync: str) -> bool:
    """Make a keeper if there is none, without waiting for its server; True if one was made.

    Does nothing while another process joins, leaves or makes one. Raises EmbeddedServerError if the keeper cannot run.
    """
    with FileLock(directory.start_lock) as start, FileLock(directory.keeper_lock) as lock:
        if not start.try_exclusive() or not lock.try_exclusive():
            return False
        previous = read_record(directory.path)
        own = previous is not None and previous.directory == str(directory.path)
        socket = directory.place_socket(previous.socket if previous and own else None)
        write_record(directory.path, Record(str(directory.path), socket))
        try:
            _spawn(directory, lock, socket, _server_command(directory, socket, binary=binary, fsync=fsync))
        finally:
            # Also when interrupted, since a keeper may have been made: an unlock here would be one for the keeper too.
            lock.hand_over()
        return True


def has_keeper(directory: Directory) -> bool:
    """False when there is no keeper; True when there is one, or another process is in a step that may make one."""
    with FileLock(directory.start_lock) as start, FileLock(directory.keeper_lock) as lock:
        return not (start.try_exclusive() and lock.try_exclusive())


def _server_command(directory: Directory, socket: str, *, binary: str, fsync: str) -> list[str]:
    # Relative to the data's directory, in which the keeper starts the server: see `keeper.py` for the reason.
    near = socket == str(directory.path / SOCKET)
    options = {
        "port": "0",
        "unixsocket": f"../{SOCKET}" if near else socket,
        "unixsocketperm": "600",
        "daemonize": "no",
        "logfile": f"../{LOG}",
        "save": "",
        "appendonly": "yes",
        "appendfsync": fsync,
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
    }
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]


def _spawn(directory: Directory, lock: FileLock, socket: str, command: list[str]) -> None:
    log = open_private(directory.log, os.O_WRONLY | os.O_APPEND)
    try:
        # Returns at once: the keeper forks, and the process made here ends.
        made = subprocess.run(
            [
                find_python(),
                "-I",
                "-S",
                keeper.__file__,
                str(directory.path),
                str(lock.fd),
                socket,
                mimalloc_for(command[0]),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory.path,
            env=with_allocator({name: os.environ[name] for name in ENVIRONMENT if name in os.environ}),
            pass_fds=(lock.fd,),
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)
    if made.returncode != 0:
        raise EmbeddedServerError(f"the keeper process ended with code {made.returncode}; see {directory.log}")
