"""What happened to every job, written down outside the system under test, and the verdict on it.

Two append-only files of JSON lines in one directory, which any number of processes may write at once and which outlive
a killed one: `history.jsonl` holds what was called and answered, `effects.jsonl` holds one line for each time a handler
did its work in the world. Stamps are the machine's monotonic clock, which all its processes share.

    history = History(directory)                        # in the test, and in each worker process
    with history.enqueuing("job-1"):
        await queue.add("task", {}, job_id="job-1")
    …
    history.start("job-1", token=token, worker="w1")    # first line of the handler
    history.effect("job-1", token=token, worker="w1")
    …
    verdict = check(history, states={"job-1": "completed"})
    verdict.require()
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from taurine.errors import LedgerUnavailable, StoreUnavailable, TaurineError

__all__ = ["Event", "History", "Verdict", "check"]

Kind = Literal["attempted", "acked", "unknown", "refused", "start", "write", "finish", "fault"]

ENDED = frozenset({"completed", "failed"})
"""The states, and outcomes of a finish, that a job does not leave by itself."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the history."""

    kind: Kind
    at: float
    job: str = ""
    token: str = ""
    """Names one lease of the job: worker and attempt, or the lock's own token."""
    worker: str = ""
    outcome: str = ""
    """Of a finish: `completed`, `failed`, or `retried` where the job will run again by its own doing; `over` where a
    record says which. `returned` is the
    handler's end alone, which nobody has been told of: the lease goes on."""
    accepted: bool = True
    called: float | None = None
    """When the write was asked for, where that is known; `at` is when its answer was known."""
    note: str = ""


class History:
    """The recorder. Make one in each process, on the same directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._events = directory / "history.jsonl"
        self._effects = directory / "effects.jsonl"

    @contextmanager
    def enqueuing(self, *jobs: str) -> Generator[None]:
        """Record the call in the block as attempted, and then as acked, as refused by a typed error, or as unknown."""
        self._record_all("attempted", jobs)
        answer: Kind = "unknown"
        try:
            yield
            answer = "acked"
        except (LedgerUnavailable, StoreUnavailable):
            raise
        except TaurineError:
            answer = "refused"
            raise
        finally:
            self._record_all(answer, jobs)

    def start(self, job: str, *, token: str, worker: str) -> None:
        """The handler was entered."""
        self.record(kind="start", job=job, token=token, worker=worker)

    def effect(self, job: str, *, token: str, worker: str) -> None:
        """The handler did its work in the world: this is what must not happen twice."""
        _append(self._effects, {"job": job, "token": token, "worker": worker, "at": time.monotonic()})

    def write(self, job: str, *, token: str, worker: str, called: float, accepted: bool, note: str = "") -> None:
        """Progress, a log line or another change under a lease was accepted or refused; called is time.monotonic()."""
        self.record(kind="write", job=job, token=token, worker=worker, called=called, accepted=accepted, note=note)

    def finish(
        self, job: str, *, token: str, worker: str, outcome: str, accepted: bool = True, called: float | None = None
    ) -> None:
        """The outcome of an attempt was accepted or refused."""
        self.record(
            kind="finish", job=job, token=token, worker=worker, outcome=outcome, accepted=accepted, called=called
        )

    def fault(self, note: str, *, worker: str = "") -> None:
        """A fault is about to be injected; with `worker`, into every lease that worker holds.

        A worker that replaces a killed one needs a name of its own: leases are counted by worker.
        """
        self.record(kind="fault", worker=worker, note=note)

    def record(self, *, kind: Kind, **fields: Any) -> None:
        _append(self._events, asdict(Event(kind=kind, at=time.monotonic(), **fields)))

    def events(self) -> list[Event]:
        """All lines of all processes, by time."""
        return sorted((Event(**line) for line in _lines(self._events)), key=lambda event: event.at)

    def effects(self) -> Counter[str]:
        """How often each job had its effect."""
        return Counter(line["job"] for line in _lines(self._effects))

    def _record_all(self, kind: Kind, jobs: Iterable[str]) -> None:
        for job in jobs:
            self.record(kind=kind, job=job)


def _append(path: Path, line: Mapping[str, Any]) -> None:
    # One write to an O_APPEND file is not torn by other writers, nor by a SIGKILL between two of them.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


@dataclass(frozen=True)
class Verdict:
    """What the history shows. The sets and counts that `require` wants empty are marked so."""

    attempted: frozenset[str]
    acked: frozenset[str]
    unknown: frozenset[str]
    ran: frozenset[str]
    recovered: frozenset[str]
    """Enqueued with an unknown answer, and yet run: allowed."""
    duplicated: Mapping[str, int]
    """Effects beyond the first, by job: allowed where a fault or a retry explains each."""
    faults: int
    recover_seconds: tuple[float, ...]
    """For each fault that a completion followed: seconds from one to the other."""

    lost: frozenset[str]
    """Must be empty: acked, and never ended."""
    unexpected: frozenset[str]
    """Must be empty: ran, though never attempted, or refused."""
    excess_duplicates: Mapping[str, int]
    """Must be empty: effects beyond the first that no fault in the job's lease, and no retry, explains."""
    stale_writes: tuple[str, ...]
    """Must be empty: changes accepted from a lease that another one had replaced, or after the job had ended."""
    stuck: frozenset[str]
    """Must be empty: still there after the drain, and not ended."""
    hollow: frozenset[str]
    """Must be empty: completed, though no handler had its effect."""
    divergent: int = 0
    """Must be 0: jobs whose record and whose place in the queue disagree after the drain."""

    violations: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        broken = {
            "lost": sorted(self.lost),
            "unexpected": sorted(self.unexpected),
            "excess duplicates": sorted(self.excess_duplicates.items()),
            "stale writes": self.stale_writes,
            "stuck": sorted(self.stuck),
            "hollow": sorted(self.hollow),
            "divergent": range(self.divergent),
        }
        lines = (f"{len(found)} {name}: {_some(found)}" for name, found in broken.items() if found)
        object.__setattr__(self, "violations", tuple(lines))

    def require(self) -> None:
        """Raise AssertionError with every violation and the figures, if there is one."""
        if self.violations:
            raise AssertionError("\n".join([*self.violations, self.summary()]))

    def summary(self) -> str:
        """The figures in one line, zeros with their denominators."""
        recover = self.recover_seconds
        times = f", recover_s median {statistics.median(recover):.2f} worst {max(recover):.2f}" if recover else ""
        return (
            f"lost {len(self.lost)}/{len(self.acked)} acked of {len(self.attempted)} attempted, "
            f"recovered {len(self.recovered)}/{len(self.unknown)} unknown, unexpected {len(self.unexpected)}, "
            f"duplicated {sum(self.duplicated.values())}/{len(self.ran)} run, "
            f"excess_duplicates {sum(self.excess_duplicates.values())}, stale_writes {len(self.stale_writes)}, "
            f"stuck {len(self.stuck)}, hollow {len(self.hollow)}, divergent {self.divergent}, faults {self.faults}{times}"
        )


def check(
    history: History, *, states: Mapping[str, str], faults: Mapping[str, int] | None = None, divergent: int = 0
) -> Verdict:
    """Judge a history after the queue was drained.

    states: the state that the store shows for each job it still holds. Keep finished jobs in a fault test: a job that
    is gone counts as ended only where an accepted finish of it was recorded, and a killed worker may not have come to
    that.
    faults: faults injected into each job's lease, on top of those that the history itself shows: a `fault` with a
    worker counts for every job which that worker had started and not finished. Give them where the server of queues
    loses leases: it alone knows which it had granted just then.
    divergent: jobs whose record and whose place in the queue disagree, where there are records.
    """
    events = history.events()
    effects = history.effects()
    by_kind = {kind: frozenset(e.job for e in events if e.kind == kind) for kind in ("attempted", "acked", "unknown")}
    attempted, acked = by_kind["attempted"], by_kind["acked"]
    unknown = by_kind["unknown"] - acked
    ran = frozenset(effects) | {e.job for e in events if e.kind == "start"}
    stuck = frozenset(job for job, state in states.items() if state not in ENDED)
    ended = frozenset(states) - stuck | {e.job for e in events if _ends(e)} - stuck
    duplicated = {job: times - 1 for job, times in effects.items() if times > 1}
    explained = _faults_by_job(events) + _retries_by_job(events) + Counter(faults or {})
    excess = {job: extra - explained[job] for job, extra in duplicated.items() if extra > explained[job]}
    return Verdict(
        attempted=attempted,
        acked=acked,
        unknown=unknown,
        ran=ran,
        recovered=unknown & ran,
        duplicated=duplicated,
        faults=sum(e.kind == "fault" for e in events),
        recover_seconds=_recover_seconds(events),
        lost=acked - ended,
        unexpected=ran - acked - unknown,
        excess_duplicates=excess,
        stale_writes=(*_writes_of_replaced_leases(events), *_second_ends(events)),
        stuck=stuck,
        hollow=frozenset(job for job, state in states.items() if state == "completed" and not effects[job]),
        divergent=divergent,
    )


def _ends(event: Event) -> bool:
    return event.kind == "finish" and event.accepted and event.outcome in ENDED


def _faults_by_job(events: list[Event]) -> Counter[str]:
    """Faults that hit a worker between its start and its finish of a job."""
    found: Counter[str] = Counter()
    held: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for event in events:
        if event.kind == "start":
            held[event.worker][event.token] = event.job
        elif event.kind == "finish" and event.outcome != "returned":
            held[event.worker].pop(event.token, None)
        elif event.kind == "fault":
            found.update(held[event.worker].values())
    return found


def _retries_by_job(events: list[Event]) -> Counter[str]:
    return Counter(e.job for e in events if e.kind == "finish" and e.accepted and e.outcome == "retried")


def _writes_of_replaced_leases(events: list[Event]) -> Iterator[str]:
    """Accepted writes that were asked for after a later lease of the job had started.

    The time of the call counts, not of the answer: that may be recorded late for a write that was in time.
    """
    starts: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.kind == "start":
            starts[event.job].append(event)
    for event in events:
        if event.kind not in ("write", "finish") or not event.accepted or event.called is None:
            continue
        own = max((s.at for s in starts[event.job] if s.token == event.token), default=None)
        replaced = [s for s in starts[event.job] if own is not None and own < s.at < event.called]
        if replaced:
            yield f"{event.note or event.kind} of {event.job} under {event.token}, after {replaced[-1].token} had started"


def _second_ends(events: list[Event]) -> Iterator[str]:
    first: dict[str, Event] = {}
    for event in filter(_ends, events):
        if event.job in first:
            yield f"{event.job} {event.outcome} under {event.token}, after {first[event.job].token} had ended it"
        first.setdefault(event.job, event)


def _recover_seconds(events: list[Event]) -> tuple[float, ...]:
    completions = [e.at for e in events if _ends(e)]
    faults = [e.at for e in events if e.kind == "fault"]
    return tuple(after[0] - fault for fault in faults if (after := [at for at in completions if at > fault]))


def _some(found: Iterable[Any], shown: int = 5) -> str:
    items = list(found)
    more = f" … and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(map(str, items[:shown])) + more
