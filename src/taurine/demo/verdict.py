"""What must hold when the demo has ended. Pure: it judges what was seen, and touches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from taurine.demo.counts import Counts
from taurine.demo.journal import Entry

__all__ = ["Check", "Evidence", "judge"]

_NAMED = 3
"""Files that a line names at most."""


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence, and whether it is true."""

    holds: bool
    text: str


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What was seen of the demo, file by file."""

    by_loop: Mapping[str, Counts] = field(default_factory=dict[str, Counts])
    """What the plain loop counted: one entry for each file."""
    by_queue: Mapping[str, Counts] = field(default_factory=dict[str, Counts])
    """The results of the jobs that completed."""
    unfinished: Mapping[str, int] = field(default_factory=dict[str, int])
    """Jobs in any other state in the end, by state."""
    victim: str = ""
    """The worker that was killed."""
    held: Collection[str] = ()
    """The jobs that were active under the killed worker's name when its connections were gone."""
    journal: Sequence[Entry] = ()
    ended_badly: Sequence[str] = ()
    """Processes that did not end, or ended with another exit code than 0; the killed worker is not among them."""


def judge(evidence: Evidence) -> list[Check]:
    """All checks, those that hold and those that do not."""
    return [
        _counted_alike(evidence),
        _nothing_lost(evidence),
        _recovered(evidence),
        _run_twice(evidence),
        _stopped(evidence),
    ]


def _counted_alike(evidence: Evidence) -> Check:
    loop, queue = evidence.by_loop, evidence.by_queue
    different = [file for file in loop if file in queue and queue[file] != loop[file]]
    if different:
        return Check(False, f"{_files(different)} counted otherwise than by the plain loop")
    return Check(bool(loop), "file by file, the workers counted what the plain loop counts")


def _nothing_lost(evidence: Evidence) -> Check:
    missing = evidence.by_loop.keys() - evidence.by_queue.keys()
    unknown = evidence.by_queue.keys() - evidence.by_loop.keys()
    if missing or unknown:
        return Check(False, f"without a result: {_files(missing)}; with one that nobody asked for: {_files(unknown)}")
    left = {state: count for state, count in evidence.unfinished.items() if count}
    if left:
        return Check(False, f"not completed in the end: {left}")
    return Check(True, f"nothing was lost: {len(evidence.by_loop):,} jobs, {len(evidence.by_queue):,} results")


def _recovered(evidence: Evidence) -> Check:
    recovered = Counter(entry.file for entry in evidence.journal if entry.what == "recovered")
    if recovered != Counter(evidence.held):
        return Check(False, f"{evidence.victim} held {_files(evidence.held)}, put back were {_files(recovered)}")
    if not recovered:
        return Check(True, f"{evidence.victim} held no job when it was killed, and none was put back")
    return Check(True, f"{_files(recovered)} held by {evidence.victim} were put back in line, and no other job")


def _run_twice(evidence: Evidence) -> Check:
    runs = Counter(entry.file for entry in evidence.journal if entry.what == "ran")
    never = evidence.by_loop.keys() - runs.keys()
    again = {file for file, times in runs.items() if times > 1}
    if never:
        return Check(False, f"never run by any worker: {_files(never)}")
    if unexplained := again - set(evidence.held):
        return Check(False, f"run more than once without a reason: {_files(unexplained)}")
    return Check(True, f"run more than once: {_files(again)}" + (f", all held by {evidence.victim}" if again else ""))


def _stopped(evidence: Evidence) -> Check:
    if evidence.ended_badly:
        return Check(False, f"did not stop cleanly: {', '.join(evidence.ended_badly)}")
    return Check(True, "producer, worker and server stopped cleanly")


def _files(files: Collection[str]) -> str:
    """How many, and which, if they are few enough to name."""
    if not files:
        return "no file"
    named = ", ".join(sorted(files)[:_NAMED])
    if len(files) == 1:
        return f"1 file ({named})"
    return f"{len(files):,} files ({named}{', …' if len(files) > _NAMED else ''})"
