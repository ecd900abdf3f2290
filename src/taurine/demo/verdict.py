"""What must hold when the demo has ended. Pure: it judges what was seen, and touches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from taurine.demo.counts import Counts
from taurine.demo.journal import Run

__all__ = ["Check", "Evidence", "Indexed", "Lost", "Operated", "judge"]

_NAMED = 3
"""Files that a line names at most."""


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence, and whether it is true."""

    holds: bool
    text: str


@dataclass(slots=True, kw_only=True)
class Indexed:
    """What was seen of the first act, file by file."""

    by_loop: Mapping[str, Counts] = field(default_factory=dict[str, Counts])
    """What the plain loop counted: one entry for each file."""
    by_records: Mapping[str, Counts] = field(default_factory=dict[str, Counts])
    """The outputs of the completed records."""
    unfinished: Mapping[str, int] = field(default_factory=dict[str, int])
    """Records of any other status in the end, by status."""
    victim: str = ""
    """The worker that was killed."""
    held: Collection[str] = ()
    """The jobs that were active under the killed worker's name when its connections were gone."""
    recorded: Collection[str] = ()
    """Those of them whose record said completed by then."""
    journal: Sequence[Run] = ()


@dataclass(slots=True, kw_only=True)
class Operated:
    """What was seen of the second act."""

    failed: str = ""
    """The record's status after the last attempt."""
    dead_letters: int = 0
    """Entries of the job, dealt with or not."""
    redriven: str = ""
    """Its status after the redrive."""
    duplicate: bool = False
    """Whether enqueueing it again gave back the same record."""
    cancelled: str = ""
    """The status of the job that was cancelled while it ran in another process."""
    looks: int = 0
    """What that job had done by then, as its record keeps it."""


@dataclass(slots=True, kw_only=True)
class Lost:
    """What was seen of the third act."""

    open: int = 0
    """Jobs that were accepted and not run when the server lost everything."""
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    """Their results, by file."""
    plain: Mapping[str, str] = field(default_factory=dict[str, str])
    """What they should be."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What was seen of the demo."""

    indexed: Indexed = field(default_factory=Indexed)
    operated: Operated = field(default_factory=Operated)
    lost: Lost = field(default_factory=Lost)
    ended_badly: Sequence[str] = ()
    """Processes that did not end, or ended with another exit code than 0; the killed worker is not among them."""


def judge(evidence: Evidence) -> list[Check]:
    """All checks, those that hold and those that do not."""
    return [
        _counted_alike(evidence.indexed),
        _nothing_lost(evidence.indexed),
        _recovered(evidence.indexed),
        _run_twice(evidence.indexed),
        _mended(evidence.operated),
        _cancelled(evidence.operated),
        _put_back(evidence.lost),
        _stopped(evidence.ended_badly),
    ]


# The first act ------------------------------------------------------------------------------------------------------------------


def _counted_alike(indexed: Indexed) -> Check:
    loop, records = indexed.by_loop, indexed.by_records
    different = [file for file in loop if file in records and records[file] != loop[file]]
    if different:
        return Check(False, f"{_files(different)} counted otherwise than by the plain loop")
    return Check(bool(loop), "file by file, the records hold what the plain loop counts")


def _nothing_lost(indexed: Indexed) -> Check:
    missing = indexed.by_loop.keys() - indexed.by_records.keys()
    unknown = indexed.by_records.keys() - indexed.by_loop.keys()
    if missing or unknown:
        return Check(False, f"without a result: {_files(missing)}; with one that nobody asked for: {_files(unknown)}")
    left = {status: count for status, count in indexed.unfinished.items() if count}
    if left:
        return Check(False, f"not completed in the end: {left}")
    return Check(True, f"nothing was lost: {len(indexed.by_loop):,} jobs, {len(indexed.by_records):,} results")


def _recovered(indexed: Indexed) -> Check:
    others = {run.file for run in indexed.journal if run.worker != indexed.victim}
    if left := set(indexed.held) - set(indexed.recorded) - others:
        return Check(False, f"held by {indexed.victim} and run by nobody else: {_files(left)}")
    if not indexed.held:
        return Check(True, f"{indexed.victim} held no job when it was killed")
    done = f"; {_files(indexed.recorded)} had a result already" if indexed.recorded else ""
    return Check(True, f"{_files(indexed.held)} held by {indexed.victim} went to the other worker{done}")


def _run_twice(indexed: Indexed) -> Check:
    runs = Counter(run.file for run in indexed.journal)
    never = indexed.by_loop.keys() - runs.keys()
    again = {file for file, times in runs.items() if times > 1}
    if never:
        return Check(False, f"never run by any worker: {_files(never)}")
    if after_success := again & set(indexed.recorded):
        return Check(False, f"run again although the record said completed: {_files(after_success)}")
    if unexplained := again - set(indexed.held):
        return Check(False, f"run more than once without a reason: {_files(unexplained)}")
    return Check(True, f"run more than once: {_files(again)}" + (f", all held by {indexed.victim}" if again else ""))


# The second and the third act -----------------------------------------------------------------------------------------------------


def _mended(operated: Operated) -> Check:
    seen = (operated.failed, operated.dead_letters, operated.redriven, operated.duplicate)
    if seen != ("failed", 1, "completed", True):
        return Check(
            False,
            f"expected a failed job with 1 dead letter, completed by its redrive and not enqueued twice; got {seen}",
        )
    return Check(True, "the job that failed has one dead letter, and completed when it was redriven")


def _cancelled(operated: Operated) -> Check:
    if operated.cancelled != "cancelled" or not operated.looks:
        return Check(
            False, f"the running job was not cancelled with its result: {operated.cancelled}, {operated.looks}"
        )
    return Check(True, "the running job was cancelled from another process, and its partial result is kept")


def _put_back(lost: Lost) -> Check:
    wrong = [file for file, digest in lost.plain.items() if lost.digests.get(file) != digest]
    if wrong or not lost.plain or lost.open != len(lost.plain):
        return Check(False, f"of {lost.open:,} jobs that the server lost, without the right result: {_files(wrong)}")
    return Check(True, f"all {lost.open:,} jobs that the server had lost were put back and completed")


def _stopped(ended_badly: Sequence[str]) -> Check:
    if ended_badly:
        return Check(False, f"did not stop cleanly: {', '.join(ended_badly)}")
    return Check(True, "producer, worker and server stopped cleanly")


def _files(files: Collection[str]) -> str:
    """How many, and which, if they are few enough to name."""
    if not files:
        return "no file"
    named = ", ".join(sorted(files)[:_NAMED])
    if len(files) == 1:
        return f"1 file ({named})"
    return f"{len(files):,} files ({named}{', …' if len(files) > _NAMED else ''})"
