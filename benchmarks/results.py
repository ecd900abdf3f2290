"""Rows of the table, what is required of them, and the values measured so far."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

OWN = "own"
ABSOLUTE = "absolute"


@dataclass(frozen=True)
class Requirement:
    """A bound on a value of one peer's.

    of: the peer's key. baseline: what its value is divided by. `peer:KEY`: the value of the peer of that key in the
    same row. `own`: its own value in the row `own_row`. `absolute`: nothing.
    aim: a bound beyond the required one, which is shown beside it; None for none.
    """

    sense: Literal["≥", "≤"]
    limit: float
    baseline: str = "peer:bullmq"
    own_row: str = ""
    of: str = "taurine"
    aim: float | None = None

    @property
    def baseline_peer(self) -> str | None:
        """The key of the peer that it is compared with; None for the others."""
        return self.baseline.removeprefix("peer:") if self.baseline.startswith("peer:") else None

    def met_by(self, value: float) -> bool:
        """Whether the value is in bounds, as precisely as the table shows it."""
        value = round(value, 2)
        return value >= self.limit if self.sense == "≥" else value <= self.limit

    def __str__(self) -> str:
        aim = "" if self.aim is None else f" (aim {self._bound(self.aim)})"
        return f"{self.sense} {self._bound(self.limit)}{aim}"

    def _bound(self, value: float) -> str:
        if self.baseline == ABSOLUTE:
            return f"{value:g}"
        # One decimal at least, so that a column of ratios lines up; two where they matter.
        return f"{value:.1f}×" if round(value, 1) == value else f"{value:.2f}×"


@dataclass(frozen=True)
class Row:
    """One measured quantity. digits: decimals shown. required: its bounds, each of one peer."""

    key: str
    title: str
    unit: str
    digits: int = 0
    required: tuple[Requirement, ...] = ()

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

    def compared(self, row: Row, required: Requirement) -> float | None:
        """The value that a requirement is about. None if it, or what it is compared with, was not measured."""
        value = self.median(row.key, required.of)
        if required.baseline == ABSOLUTE:
            return value
        if required.baseline == OWN:
            return _ratio(value, self.median(required.own_row, required.of))
        assert required.baseline_peer is not None
        return _ratio(value, self.median(row.key, required.baseline_peer))


def _ratio(value: float | None, base: float | None) -> float | None:
    if value is None or not base:
        return None
    return value / base
