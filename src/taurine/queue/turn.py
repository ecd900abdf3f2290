"""The typed call of the turn script: outcomes in, claimed jobs out.

An outcome is a small value: what became of one attempt. It knows the six arguments by which the script settles it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from taurine.options import RateLimit, to_milliseconds
from taurine.queue.scripts import Argument

__all__ = [
    "BLOCKED",
    "Completed",
    "Failed",
    "Outcome",
    "Released",
    "RetryLater",
    "RetryNow",
    "Snoozed",
    "Turn",
    "TurnReply",
    "WaitingForChildren",
]

BLOCKED = -1
"""`TurnReply.wait_ms` of a queue that is paused or at its concurrency limit."""

Arguments: TypeAlias = tuple[str, str, str, str | int, str, str | int]


@dataclass(frozen=True, slots=True)
class Completed:
    """The handler returned: `result` is JSON text, `keep` a retention policy."""

    result: str
    keep: str

    def arguments(self, job_id: str, token: str) -> Arguments:
        return ("complete", job_id, token, self.result, "", self.keep)


@dataclass(frozen=True, slots=True)
class Failed:
    """The job failed for good; `attempts` is how many it was allowed.

    trace: of the attempt, here and in the two that follow: its context as it travels, to be kept with the job. Default:
    none.
    """

    reason: str
    stacktrace: str
    keep: str
    attempts: int
    trace: str = ""

    def arguments(self, job_id: str, token: str) -> Arguments:
        return (
            "fail",
            job_id,
            token,
            self.reason,
            self.stacktrace,
            _with_trace(f"{self.keep}/{self.attempts}", self.trace),
        )


@dataclass(frozen=True, slots=True)
class RetryNow:
    """The attempt failed, and the next one is to start as soon as it can."""

    reason: str
    stacktrace: str
    lifo: bool
    trace: str = ""

    def arguments(self, job_id: str, token: str) -> Arguments:
        side = "lifo" if self.lifo else ""
        return ("retry", job_id, token, self.reason, self.stacktrace, _with_trace(side, self.trace))


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The attempt failed, and the next one is to start after a pause."""

    reason: str
    stacktrace: str
    pause_ms: int
    trace: str = ""

    def arguments(self, job_id: str, token: str) -> Arguments:
        pause = _with_trace(str(self.pause_ms), self.trace) if self.trace else self.pause_ms
        return ("delay", job_id, token, self.reason, self.stacktrace, pause)


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The job asked to run again after a pause; no attempt is charged."""

    pause_ms: int

    def arguments(self, job_id: str, token: str) -> Arguments:
        return ("snooze", job_id, token, self.pause_ms, "", "")


@dataclass(frozen=True, slots=True)
class Released:
    """The job goes back to the front of the line; no attempt is charged."""

    def arguments(self, job_id: str, token: str) -> Arguments:
        return ("release", job_id, token, "", "", "")


@dataclass(frozen=True, slots=True)
class WaitingForChildren:
    """The job waits until its children have ended; no attempt is charged."""

    def arguments(self, job_id: str, token: str) -> Arguments:
        return ("children", job_id, token, "", "", "")


def _with_trace(keep: str, trace: str) -> str:
    return f"{keep}\n{trace}" if trace else keep


Outcome: TypeAlias = Completed | Failed | RetryNow | RetryLater | Snoozed | Released | WaitingForChildren


@dataclass(frozen=True, slots=True)
class Turn:
    """One call of the script.

    attempts: (stored job id, token, outcome) of each attempt that ended.
    lost_tokens: tokens of earlier turns whose replies never came; the jobs that they claimed are claimed again.
    """

    now_ms: int
    token: str
    lease_ms: int
    want: int
    attempts: Sequence[tuple[str, str, Outcome]] = ()
    worker_name: str = ""
    limit: RateLimit | None = None
    metrics_points: int = 0
    lost_tokens: tuple[str, ...] = ()

    def arguments(self) -> list[Argument]:
        limit = self.limit
        arguments: list[Argument] = [
            self.now_ms,
            self.token,
            self.lease_ms,
            self.want,
            self.worker_name,
            "" if limit is None else limit.max,
            "" if limit is None else to_milliseconds(limit.duration, "RateLimit.duration"),
            self.metrics_points,
            ",".join(self.lost_tokens),
        ]
        for job_id, token, outcome in self.attempts:
            arguments += outcome.arguments(job_id, token)
        return arguments


_NEW_JOB_FIELDS = (b"name", b"data", b"opts", b"timestamp", b"delay", b"priority")
"""What a job has that nobody has touched since it was added, in the order of the script's reply."""


@dataclass(frozen=True, slots=True)
class TurnReply:
    """What the script answered; field by field in its header."""

    codes: list[int]
    jobs: list[tuple[bytes, int, Iterable[tuple[bytes, bytes]]]]
    """Id, attempts started, and stored fields with their values of each claimed job, which can be gone through once."""
    dropped: list[bytes]
    wait_ms: int
    due_ms: int

    @classmethod
    def read(cls, reply: Sequence[Any]) -> Self:
        """The script's reply, in which the jobs are one flat list."""
        codes, flat, dropped, wait_ms, due_ms = reply
        jobs: list[tuple[bytes, int, Iterable[tuple[bytes, bytes]]]] = []
        at, end = 0, len(flat)
        while at < end:
            job_id, started, count = flat[at : at + 3]
            first = at + 3
            if count:
                at = first + count
                fields = zip(flat[first:at:2], flat[first + 1 : at : 2], strict=True)
            else:
                at = first + len(_NEW_JOB_FIELDS)
                fields = zip(_NEW_JOB_FIELDS, flat[first:at], strict=True)
            jobs.append((job_id, started, fields))
        return cls(codes, jobs, dropped, wait_ms, due_ms)
