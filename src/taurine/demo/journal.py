"""Who ran what, written down by the workers outside the queue, so that the queue's own account can be checked.

A line is one write to a file opened for appending: lines of several processes do not mix, and a SIGKILL loses none.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = ["Entry", "Journal", "read_journal"]

What: TypeAlias = Literal["ran", "recovered"]


@dataclass(frozen=True, slots=True)
class Entry:
    """`worker` began to run `file`, or noticed that its worker was gone and put it back in line."""

    worker: str
    what: What
    file: str


class Journal:
    """One worker's way to write into the journal at `path`."""

    def __init__(self, path: Path, worker: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._worker = worker

    def write(self, what: What, file: str) -> None:
        os.write(self._fd, (json.dumps([self._worker, what, file]) + "\n").encode())

    def close(self) -> None:
        os.close(self._fd)


def read_journal(path: Path) -> list[Entry]:
    """All entries in the order in which they were written; none when nobody has written."""
    if not path.exists():
        return []
    return [Entry(*json.loads(line)) for line in path.read_text("utf-8").splitlines()]
