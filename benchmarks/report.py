"""The results as a page of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures import records
from benchmarks.peers import BULLMQ, Peer
from benchmarks.results import ABSOLUTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.figures.figure import Figure
    from benchmarks.results import Requirement, Results, Row

METHOD = """\
Every peer is measured in the same run on the same server, each in processes of its own, in turns: a round of one peer
is followed by a round of the next. A value is the median of the rounds, with the lowest and highest in brackets; what
no requirement is about is measured in one round.
The handler does nothing, the payload is `{"i": 1, "user": "u1"}`, jobs have 3 attempts, and 1,000 completed jobs are
kept, or what comes nearest in a library that keeps results by age. Everything else is as each library ships; those in
Python run without OpenTelemetry's SDK, which is installed for the tests, and which redis-py loads wherever it finds it.

- **Drain**: the queue is filled, then a worker is told to run. The time ends when the last job is settled (BullMQ,
  Taurine) or when its handler has returned (libraries that do not tell when a job is settled). For BullMQ and Taurine
  the server is then checked: nothing waits, nothing runs, 1,000 are kept; where jobs or records are in SQL, that all of
  them have ended well, and that none is open. Slow libraries get fewer jobs.
- **CPU**: of the worker's process and of the servers, over the same time.
- **Adding**: one process; bulk calls of 1,000, then 1,000 awaited together, then one after another.
- **Enqueue to handler start**: producer and worker in two processes, wall clock before the add and at the start of the
  handler, about 10 ms between two jobs so that the worker is idle.
- **Backlog**: the same number of jobs drained from a queue that holds no more, and from a long one, in turns, each on a
  server that has just started.
- **Idle**: commands that clients send, seen by MONITOR; commands run inside scripts are not counted.

With records:

- **Databases**: every figure of every peer begins with an empty one. All that use PostgreSQL use the same server, which
  waits for the disk at each commit; SQLite does as well (WAL, `synchronous=FULL`), on the same disk.
- **Taurine** is the application as users have it, with a job type whose payload is a Pydantic model; beside it the bare
  engine and BullMQ, which keep no records. A drain ends when every record is complete and the queue knows of it.
- **procrastinate** has psycopg in its binary build and a pool of 20 connections, which needs the least CPU per job out
  of 4 to 90; ended jobs stay in its table, as by default.
- **pgqueuer** is set up by its guide to performance: asyncpg, a connection for the worker and a pool for the producer,
  its settings for autovacuum, its durable tables, uvloop as in its own command, and batches of 100, its bound on
  concurrent tasks left off since it slows each claim. Ended jobs move to its log.
- **Start**: from the start of the process until its first job is added, tables being there already.
- **Memory**: what the worker's process occupies (RSS) after a tenth of its jobs and after the last, in one run.
- **Long ledger**: the same drains in one database before and after finished records are put in by SQL. Before each of
  those with many, the database is given time to tidy up (VACUUM and ANALYZE, or a checkpoint of SQLite's log).
- **API**: 50 connections that stay open, each with one request after another, from a process of its own; the server is one
  uvicorn process. Taurine's checks an API key, and answers when the record is committed and the queue has the job. Beside it
  an application on FastAPI with the same path, a model for the body and one for the answer, which keeps nothing.
"""


def page(
    command: str, machine: Mapping[str, str], figures: Sequence[Figure], peers: Sequence[Peer], results: Results
) -> str:
    """The whole page: how to repeat it, the machine, the required ratios, and every peer."""
    parts = [
        "# Benchmarks",
        f"Made by `{command}`. The figures are of one machine; the ratios are what to look at.",
        "\n".join(f"- {name}: {value}" for name, value in machine.items()),
        "## What is required",
        required_table(figures, peers, results),
        *_every_peer(figures, peers, results),
        "## How it is measured",
        METHOD.rstrip(),
    ]
    return "\n\n".join(parts) + "\n"


def required_table(figures: Sequence[Figure], peers: Sequence[Peer], results: Results) -> str:
    """A line for each requirement: the value, what it is compared with, the ratio or value that counts, and whether it
    is met.
    """
    titles = {peer.key: peer.title for peer in peers}
    lines = [
        _required_line(row, required, titles, results)
        for row in _rows(figures)
        for required in row.required
        if required.of in titles
    ]
    return _markdown(["", "of", "value", "against", "its value", "compared", "required", "met"], lines)


def peers_table(figures: Sequence[Figure], peers: Sequence[Peer], results: Results) -> str:
    """Every row of these figures, and a column for every peer."""
    lines = [[_title(row), *(_peer_cell(row, peer, results) for peer in peers)] for row in _rows(figures)]
    return _markdown(["", *(peer.title for peer in peers)], lines)


def _every_peer(figures: Sequence[Figure], peers: Sequence[Peer], results: Results) -> list[str]:
    """The peers' tables, each under its heading: of the queues alone, and with records."""
    parts: list[str] = []
    for heading, with_records in (("## Every peer", False), ("## Every peer, with records", True)):
        chosen = [figure for figure in figures if (figure.key == records.KEY) == with_records]
        columns = [peer for peer in peers if any(figure.applies_to(peer) for figure in chosen)]
        if columns:
            parts += [heading, "In brackets: the ratio to BullMQ on Node.", peers_table(chosen, columns, results)]
    return parts


def _rows(figures: Iterable[Figure]) -> list[Row]:
    return [row for figure in figures for row in figure.rows]


def _title(row: Row) -> str:
    return f"{row.title}, {row.unit}"


def _required_line(row: Row, required: Requirement, titles: Mapping[str, str], results: Results) -> list[str]:
    compared = results.compared(row, required)
    met = "" if compared is None else "yes" if required.met_by(compared) else "**no**"
    return [
        _title(row),
        titles[required.of],
        _value_with_range(row, row.key, required.of, results),
        *_baseline(row, required, titles, results),
        _compared(row, required, compared),
        str(required),
        met,
    ]


def _baseline(row: Row, required: Requirement, titles: Mapping[str, str], results: Results) -> tuple[str, str]:
    """What a value is compared with, and the value of that."""
    if required.baseline == ABSOLUTE:
        return "", ""
    if required.baseline_peer is None:
        return "itself", _value_with_range(row, required.own_row, required.of, results)
    title = titles.get(required.baseline_peer, required.baseline_peer)
    return title, _value_with_range(row, row.key, required.baseline_peer, results)


def _compared(row: Row, required: Requirement, compared: float | None) -> str:
    if compared is None:
        return "–"
    return row.show(compared) if required.baseline == ABSOLUTE else f"**{compared:.2f}×**"


def _value_with_range(row: Row, key: str, peer: str, results: Results) -> str:
    """The value in the row of this key, shown as those of `row` are."""
    samples = results.samples(key, peer)
    value = results.median(key, peer)
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
