"""The directory of an embedded server: whether it is safe to use, and where things lie in it."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from taurine.embedded.keeper import BELL, DATA, LOG, USERS_LOCK
from taurine.errors import EmbeddedServerError

__all__ = ["SOCKET", "Directory"]

SOCKET = "valkey.sock"
SOCKET_PATH_LIMIT_BYTES = 100
"""Linux takes 107 bytes, macOS 103."""

OTHERS_CAN_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Directory:
    """A directory that was found safe. Make one with `Directory.claim`."""

    path: Path

    @classmethod
    def claim(cls, path: Path) -> Directory:
        """Create the directory with mode 0700 if it is missing, and check it.

        Raises EmbeddedServerError when another user could read or change what is put there, or when it cannot be made.
        The package's docstring has the rules.
        """
        path = _make(path.parent, parents=True).resolve() / path.name
        _check_ancestors(path)
        for own in (path, path / DATA):
            _check_own(_make(own))
        _check_socket(path / SOCKET)
        return cls(path)

    @property
    def users_lock(self) -> Path:
        return self.path / USERS_LOCK

    @property
    def start_lock(self) -> Path:
        return self.path / "start.lock"

    @property
    def keeper_lock(self) -> Path:
        return self.path / "keeper.lock"

    @property
    def bell(self) -> Path:
        return self.path / BELL

    @property
    def log(self) -> Path:
        return self.path / LOG

    def place_socket(self, previous: str | None) -> str:
        """The path for the server's socket, in a directory that only this user can enter.

        previous: where it was, so that it can be there again for users that still have that address.
        """
        near = self.path / SOCKET
        if len(os.fsencode(near)) <= SOCKET_PATH_LIMIT_BYTES:
            return str(near)
        if previous is not None and _make_private(Path(previous).parent):
            return previous
        return str(_private_short_directory() / SOCKET)


def _private_short_directory() -> Path:
    """A new directory among the temporary files, made by `mkdtemp`: random name, mode 0700."""
    longest = SOCKET_PATH_LIMIT_BYTES - len("/taurine-12345678/" + SOCKET)
    for parent in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(parent)) <= longest and os.access(parent, os.W_OK):
            short = Path(parent).resolve() / "taurine-"
            _check_ancestors(short)
            return Path(tempfile.mkdtemp(prefix=short.name, dir=short.parent))
    raise EmbeddedServerError(
        f"no place for a unix socket: its path may have {SOCKET_PATH_LIMIT_BYTES} bytes, the directory's is longer, "
        "and there is no shorter directory for temporary files; choose a directory with a shorter path"
    )


def _make_private(path: Path) -> bool:
    """Make `path` a directory that only this user can enter; False if something else is there."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    except OSError:
        return False
    return True


def _make(path: Path, *, parents: bool = False) -> Path:
    try:
        path.mkdir(mode=0o777 if parents else 0o700, parents=parents, exist_ok=True)
    except OSError as error:
        raise EmbeddedServerError(f"cannot make the directory {path}: {error.strerror}") from error
    return path


def _check_own(path: Path) -> None:
    if path.is_symlink():
        raise EmbeddedServerError(f"{path} is a symbolic link; name the directory that it leads to, or remove it")
    found = path.lstat()
    if found.st_uid != os.geteuid():
        raise EmbeddedServerError(
            f"{path} belongs to user {found.st_uid}, and this process runs as user {os.geteuid()}; "
            "choose a directory of its own"
        )
    if found.st_mode & OTHERS_CAN_WRITE:
        raise EmbeddedServerError(
            f"other users can write to {path} (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"make sure that nothing in it is theirs, then run: chmod go-w {path}"
        )


def _check_ancestors(path: Path) -> None:
    for ancestor in path.parents:
        mode = ancestor.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise EmbeddedServerError(
                f"any user could replace {path}: {ancestor} has mode {stat.S_IMODE(mode):04o}; "
                f"run: chmod o-w {ancestor} (or chmod +t {ancestor})"
            )


def _check_socket(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise EmbeddedServerError(f"{path} is not a socket; remove it")
