"""Counting in memory what a worker's jobs come to, until it is added to the ledger's tallies.

This is on the path of each job, so it is a few writes to lists and no more; `take` makes of them what is stored.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import TypeAlias

from taurine.ledger.tallies import ABOVE_ALL, BOUNDS, Measure, Outcome, TallyCount

__all__ = ["OTHER", "OnOutcome", "Tally"]

OnOutcome: TypeAlias = Callable[[str, str, Outcome, int, int], None]
"""Called with queue, type, outcome, and the milliseconds that the job waited for its first start and that the attempt ran; -1 where there is nothing to tell."""

OTHER = "other"
"""What stands for types, and queues, that are not declared: names that anybody may choose are not counted by."""

_BUCKETS = (*BOUNDS, ABOVE_ALL)


class _Cell:
    """The counts of one queue and type."""

    __slots__ = ("completed", "others", "run_ms", "runs", "wait_ms", "waits")

    def __init__(self) -> None:
        self.completed = 0
        self.others: dict[Outcome, int] = {}
        self.waits = [0] * len(_BUCKETS)
        self.wait_ms = 0
        self.runs = [0] * len(_BUCKETS)
        self.run_ms = 0


class Tally:
    """One worker's counts.

    on_outcome: told of each as it is counted, at once and by the hot path: metrics that leave the process by another way. Default: nobody.
    """

    def __init__(self, on_outcome: OnOutcome | None = None) -> None:
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._on_outcome = on_outcome

    def completed(self, queue: str, job_type: str, waited: int, ran: int) -> None:
        """A job completed. waited, ran: milliseconds; waited is -1 for one that had started before."""
        cell = self._latest
        if cell.queue != queue or cell.type != job_type:
            cell = self._latest = self._cell(queue, job_type)
        cell.completed.append((waited, ran))
        if len(cell.completed) >= _AT_ONCE:
            cell.add_up()
        if self._on_outcome is not None:
            self._on_outcome(queue, job_type, "completed", waited, ran)

    def ended(self, queue: str, job_type: str, outcome: Outcome, waited: int = -1, ran: int = -1) -> None:
        """An attempt came to something else. -1 for what there is not: an attempt that did not begin has not run."""
        cell = self._cells.get((queue, job_type)) or self._cell(queue, job_type)
        cell.others[outcome] = cell.others.get(outcome, 0) + 1
        if ran >= 0:
            cell.runs[bisect_left(BOUNDS, ran)] += 1
            cell.run_ms += ran
        if waited >= 0:
            cell.waits[bisect_left(BOUNDS, waited)] += 1
            cell.wait_ms += waited
        if self._on_outcome is not None:
            self._on_outcome(queue, job_type, outcome, waited, ran)

    def take(self) -> list[TallyCount]:
        """What was counted since the last call."""
        cells, self._cells = self._cells, {}
        return [count for (queue, job_type), cell in cells.items() for count in _counts(queue, job_type, cell)]

    def _cell(self, queue: str, job_type: str) -> _Cell:
        return self._cells.setdefault((queue, job_type), _Cell())


def _counts(queue: str, job_type: str, cell: _Cell) -> Iterable[TallyCount]:
    plain: dict[Measure, int] = {"completed": cell.completed, "wait_sum": cell.wait_ms, "run_sum": cell.run_ms}
    plain |= cell.others
    buckets: tuple[tuple[Measure, list[int]], ...] = (("wait", cell.waits), ("run", cell.runs))
    for measure, count in plain.items():
        if count:
            yield TallyCount(queue, job_type, measure, 0, count)
    for measure, numbers in buckets:
        for bucket, count in zip(_BUCKETS, numbers, strict=True):
            if count:
                yield TallyCount(queue, job_type, measure, bucket, count)
