"""Rows of the table, what is required of them, and the values measured so far."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Baseline = Literal["bullmq", "own", "absolute"]


@dataclass(frozen=True)
class Requirement:
    """A bound on a value of Taurine's.

    baseline `bullmq`: the value divided by BullMQ's in the same row. `own`: divided by Taurine's own value in the row
    `own_row`. `absolute`: the value itself.
    """

    sense: Literal["≥", "≤"]
    limit: float
    baseline: Baseline = "bullmq"
    own_row: str = ""

    def met_by(self, value: float) -> bool:
        """Whether the value is in bounds, as precisely as the table shows it."""
        value = round(value, 2)
        return value >= self.limit if self.sense == "≥" else value <= self.limit

    def __str__(self) -> str:
        if self.baseline == "absolute":
            return f"{self.sense} {self.limit:g}"
        return f"{self.sense} {self.limit:.1f}×"


@dataclass(frozen=True)
class Row:
    """One measured quantity. digits: decimals shown."""

    key: str
    title: str
    unit: str
    digits: int = 0
    required: Requirement | None = None

    def show(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


Values = Mapping[str, float]


@dataclass
class Results:
    """Values by row and peer, one for each round."""

    _samples: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def record(self, peer: str, values: Values) -> None:
        for row, value in values.items():
            self._samples[row, peer].append(value)

    def samples(self, row: str, peer: str) -> Sequence[float]:
        return self._samples.get((row, peer), ())

    def median(self, row: str, peer: str) -> float | None:
        samples = self.samples(row, peer)
        return statistics.median(samples) if samples else None

    def compared(self, row: Row, peer: str) -> float | None:
        """The value that the row's requirement is about; without one, the ratio to BullMQ. None if not measured."""
        required = row.required or Requirement("≥", 0.0)
        value = self.median(row.key, peer)
        if required.baseline == "absolute":
            return value
        if required.baseline == "own":
            return _ratio(value, self.median(required.own_row, peer))
        return _ratio(value, self.median(row.key, "bullmq"))


def _ratio(value: float | None, base: float | None) -> float | None:
    if value is None or not base:
        return None
    return value / base
