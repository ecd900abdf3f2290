"""What the tests of the executors share: a context, and how many threads, processes and descriptors there are."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from taurine.errors import InvalidOption
from taurine.jobs.executors import Call, ProcessExecutor

__all__ = ["RecordingContext", "call_of", "descriptors", "is_alive", "job_threads", "process_executor"]


class RecordingContext:
    """A context that remembers what the handler said; the answer to a request is its name and body, or an error for
    "refuse".
    """

    def __init__(self, **snapshot: Any) -> None:
        self.reason: str | None = None
        self.notes: list[tuple[str, Any]] = []
        self.cancel_seen = threading.Event()
        self._snapshot = {"job_id": "job-1", "attempt": 1, **snapshot}

    @property
    def cancelled(self) -> bool:
        return self.reason is not None

    def request_cancel(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            self.cancel_seen.set()

    def snapshot(self) -> Mapping[str, Any]:
        return self._snapshot

    def notify(self, name: str, body: Any) -> None:
        self.notes.append((name, body))

    async def answer(self, name: str, body: Any) -> Any:
        if name == "refuse":
            raise InvalidOption(f"refused {body}")
        self.notes.append((name, body))
        return [name, body]

    def noted(self, name: str) -> list[Any]:
        return [body for noted, body in self.notes if noted == name]


def call_of(handler: Any, payload: Any = None, context: RecordingContext | None = None) -> Call:
    return Call(handler=handler, payload=payload, context=context or RecordingContext())


def process_executor(*, binder: str = "support.process_binder:bind", **options: Any) -> ProcessExecutor:
    """One whose processes give handlers a PlainContext. options: those of ProcessExecutor."""
    return ProcessExecutor(binder=binder, **options)


def job_threads() -> list[str]:
    """The names of the threads that run jobs, the given-up ones included."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("taurine-job-")]


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, and what they are; the directory that lists them left out."""
    found: dict[str, str] = {}
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found[link.name] = str(link.readlink())
    return found


def is_alive(pid: int) -> bool:
    """False when there is no such process, or only its remains for its parent to collect."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
