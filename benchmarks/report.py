"""The results as a page of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers import BULLMQ, TAURINE, TAURINE_UVLOOP, Peer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.figures.figure import Figure
    from benchmarks.results import Results, Row

METHOD = """\
Every peer is measured in the same run on the same server, each in processes of its own, in turns: a round of one peer
is followed by a round of the next. A value is the median of the rounds, with the lowest and highest in brackets.
The handler does nothing, the payload is `{"i": 1, "user": "u1"}`, jobs have 3 attempts, and 1,000 completed jobs are
kept, or what comes nearest in a library that keeps results by age. Everything else is as each library ships.

- **Drain**: the queue is filled, then a worker is told to run. The time ends when the last job is settled (BullMQ,
  Taurine) or when its handler has returned (libraries that do not tell when a job is settled). For BullMQ and Taurine
  the server is then checked: nothing waits, nothing runs, 1,000 are kept. Slow libraries get fewer jobs.
- **CPU**: of the worker's process and of the server's, over the same time.
- **Adding**: one process; bulk calls of 1,000, then 1,000 awaited together, then one after another.
- **Enqueue to handler start**: producer and worker in two processes, wall clock before the add and at the start of the
  handler, about 10 ms between two jobs so that the worker is idle.
- **Backlog**: the same number of jobs drained from a queue that holds no more, and from a long one.
- **Idle**: commands that clients send, seen by MONITOR; commands run inside scripts are not counted.
"""


def page(
    command: str, machine: Mapping[str, str], figures: Sequence[Figure], peers: Sequence[Peer], results: Results
) -> str:
    """The whole page: how to repeat it, the machine, the required ratios, and every peer."""
    parts = [
        "# Benchmarks",
        f"Made by `{command}`. The figures are of one machine; the ratios are what to look at.",
        "\n".join(f"- {name}: {value}" for name, value in machine.items()),
        "## What is required, against BullMQ on Node",
        required_table(figures, peers, results),
        "## Every peer",
        "In brackets: the ratio to BullMQ on Node.",
        peers_table(figures, peers, results),
        "## How it is measured",
        METHOD.rstrip(),
    ]
    return "\n\n".join(parts) + "\n"


def required_table(figures: Sequence[Figure], peers: Sequence[Peer], results: Results) -> str:
    """Rows with a requirement: both sides, the ratio or value that counts, and whether it is met."""
    ours = [peer for peer in (TAURINE, TAURINE_UVLOOP) if peer in peers]
    header = ["", BULLMQ.title]
    for peer in ours:
        header += [peer.title, "compared"]
    rows = [_required_row(row, ours, results) for row in _rows(figures) if row.required]
    return _markdown([*header, "required", "met"], rows)


def peers_table(figures: Sequence[Figure], peers: Sequence[Peer], results: Results) -> str:
    """Every row, and a column for every peer."""
    rows = [[_title(row), *(_peer_cell(row, peer, results) for peer in peers)] for row in _rows(figures)]
    return _markdown(["", *(peer.title for peer in peers)], rows)


def _rows(figures: Iterable[Figure]) -> list[Row]:
    return [row for figure in figures for row in figure.rows]


def _title(row: Row) -> str:
    return f"{row.title}, {row.unit}"


def _required_row(row: Row, ours: Sequence[Peer], results: Results) -> list[str]:
    assert row.required is not None
    cells = [_title(row), _value_with_range(row, BULLMQ, results)]
    for peer in ours:
        cells += [_value_with_range(row, peer, results), _compared(row, peer, results)]
    headline = results.compared(row, TAURINE.key)
    met = "" if headline is None else "yes" if row.required.met_by(headline) else "**no**"
    return [*cells, str(row.required), met]


def _compared(row: Row, peer: Peer, results: Results) -> str:
    compared = results.compared(row, peer.key)
    if compared is None:
        return "–"
    if row.required and row.required.baseline == "absolute":
        return row.show(compared)
    if row.required and row.required.baseline == "own":
        return f"{compared:.2f}× own"
    return f"**{compared:.2f}×**"


def _value_with_range(row: Row, peer: Peer, results: Results) -> str:
    samples = results.samples(row.key, peer.key)
    value = results.median(row.key, peer.key)
    if value is None:
        return "–"
    if len(samples) == 1:
        return row.show(value)
    return f"{row.show(value)} ({row.show(min(samples))}–{row.show(max(samples))})"


def _peer_cell(row: Row, peer: Peer, results: Results) -> str:
    value = results.median(row.key, peer.key)
    if value is None:
        return "–"
    base = results.median(row.key, BULLMQ.key)
    if not base or peer is BULLMQ:
        return row.show(value)
    return f"{row.show(value)} ({value / base:.2f}×)"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    alignment = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, alignment, *rows))
