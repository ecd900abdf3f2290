"""Counting in memory what a worker's jobs come to, until it is added to the ledger's tallies.

This is on the path of each job, so it is a few writes to lists and no more; `take` makes of them what is stored.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import repeat

from taurine.ledger.tallies import ABOVE_ALL, BOUNDS, Measure, Outcome, TallyCount

__all__ = ["OTHER", "Tally"]

OTHER = "other"
"""What stands for types, and queues, that are not declared: names that anybody may choose are not counted by."""

_BUCKETS = (*BOUNDS, ABOVE_ALL)


_FOLDED_AT = 4096
"""Durations that are kept as they are before they are counted into buckets: together that is done in C, and costs a
third.
"""


class _Durations:
    """A distribution in the making."""

    __slots__ = ("buckets", "fresh", "total")

    def __init__(self) -> None:
        self.fresh: list[int] = []
        self.buckets: Counter[int] = Counter()
        self.total = 0

    def fold(self) -> None:
        self.buckets.update(map(bisect_left, repeat(BOUNDS), self.fresh))
        self.total += sum(self.fresh)
        self.fresh.clear()


class _Cell:
    """The counts of one queue and type."""

    __slots__ = ("completed", "others", "runs", "waits")

    def __init__(self) -> None:
        self.completed = 0
        self.others: dict[Outcome, int] = {}
        self.waits = _Durations()
        self.runs = _Durations()

    def add(self, waited: int, ran: int) -> None:
        if ran >= 0:
            self.runs.fresh.append(ran)
        if waited >= 0:
            self.waits.fresh.append(waited)
        if len(self.runs.fresh) >= _FOLDED_AT:
            self.fold()

    def fold(self) -> None:
        self.runs.fold()
        self.waits.fold()


class Tally:
    """One worker's counts."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], _Cell] = {}

    def completed(self, queue: str, job_type: str, waited: int, ran: int) -> None:
        """A job completed. waited, ran: milliseconds; waited is -1 for one that had started before."""
        cell = self._cells.get((queue, job_type)) or self._cell(queue, job_type)
        cell.completed += 1
        runs = cell.runs.fresh
        runs.append(ran if ran > 0 else 0)
        if waited >= 0:
            cell.waits.fresh.append(waited)
        if len(runs) >= _FOLDED_AT:
            cell.fold()

    def ended(self, queue: str, job_type: str, outcome: Outcome, waited: int = -1, ran: int = -1) -> None:
        """An attempt came to something else. -1 for what there is not: an attempt that did not begin has not run."""
        cell = self._cells.get((queue, job_type)) or self._cell(queue, job_type)
        cell.others[outcome] = cell.others.get(outcome, 0) + 1
        cell.add(waited, ran)

    def take(self) -> list[TallyCount]:
        """What was counted since the last call."""
        cells, self._cells = self._cells, {}
        return [count for (queue, job_type), cell in cells.items() for count in _counts(queue, job_type, cell)]

    def _cell(self, queue: str, job_type: str) -> _Cell:
        return self._cells.setdefault((queue, job_type), _Cell())


def _counts(queue: str, job_type: str, cell: _Cell) -> Iterable[TallyCount]:
    cell.fold()
    plain: dict[Measure, int] = {
        "completed": cell.completed,
        "wait_sum": cell.waits.total,
        "run_sum": cell.runs.total,
        **cell.others,
    }
    distributions: tuple[tuple[Measure, _Durations], ...] = (("wait", cell.waits), ("run", cell.runs))
    for measure, number in plain.items():
        if number:
            yield TallyCount(queue, job_type, measure, 0, number)
    for measure, durations in distributions:
        for place, number in sorted(durations.buckets.items()):
            yield TallyCount(queue, job_type, measure, _BUCKETS[place], number)
