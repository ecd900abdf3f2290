"""A lock on a file, shared or exclusive, that the kernel gives back when its holder dies.

It is a flock: it belongs to this one opening of the file, so two `FileLock`s on one path exclude or share like those
of two processes, also within one process.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Self

from taurine.embedded.keeper import try_lock
from taurine.errors import EmbeddedServerError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileLock", "open_private"]


def open_private(path: Path, flags: int) -> int:
    """Open a file of this user's, made with mode 0600 if it is missing, and return its descriptor.

    Raises EmbeddedServerError when a symbolic link stands in its place.
    """
    try:
        return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise EmbeddedServerError(f"{path} is a symbolic link; remove it") from error
        raise


class FileLock:
    """One opening of a lock file. It starts unlocked; leaving a `with` block closes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = open_private(path, os.O_RDWR)

    def in_place(self) -> bool:
        """False when the file is no longer the one at its path: it, or a directory above, was moved or removed."""
        try:
            return os.path.samestat(self._path.lstat(), os.fstat(self.fd))
        except FileNotFoundError:
            return False

    def try_shared(self) -> bool:
        """Hold the lock together with others; False if one holds it exclusively."""
        return try_lock(self.fd, fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Hold the lock alone; False if another holds it. A share that was held before is lost either way."""
        return try_lock(self.fd, fcntl.LOCK_EX)

    def close(self) -> None:
        """Unlock, for every process that has this opening, and close it. Safe twice, and after `hand_over`."""
        if self.fd >= 0:
            # Closing alone would not do: a child that another thread forked meanwhile would go on holding the lock.
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            self.hand_over()

    def hand_over(self) -> None:
        """Close this process's descriptor and leave the lock to the processes that inherited the opening."""
        os.close(self.fd)
        self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
