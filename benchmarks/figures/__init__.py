"""Everything that is measured, in the order of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import adding, api, backlog, drain, idle, latency, memory, records

if TYPE_CHECKING:
    from benchmarks.figures.figure import Figure

ALL: tuple[Figure, ...] = (
    *drain.FIGURES,
    *adding.FIGURES,
    *latency.FIGURES,
    *backlog.FIGURES,
    *memory.FIGURES,
    *idle.FIGURES,
    *records.FIGURES,
    *api.FIGURES,
)
