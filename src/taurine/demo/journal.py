"""Who ran what, written down by the workers outside of the application, so that its own account can be checked.

A line is one write to a file opened for appending: lines of several processes do not mix, and a SIGKILL loses none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["Journal", "Run", "read_journal"]


class Run(NamedTuple):
    """`worker` began to index `file`."""

    worker: str
    file: str


class Journal:
    """One worker's way to write into the journal at `path`. May be used from any thread."""

    def __init__(self, path: Path, worker: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._worker = worker

    def write(self, file: str) -> None:
        os.write(self._fd, (json.dumps(Run(self._worker, file)) + "\n").encode())

    def close(self) -> None:
        os.close(self._fd)


def read_journal(path: Path) -> list[Run]:
    """All runs in the order in which they began; none when nobody has written."""
    if not path.exists():
        return []
    return [Run(*json.loads(line)) for line in path.read_text("utf-8").splitlines()]
