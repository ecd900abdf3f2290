"""Measure Taurine and its peers in one run: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks import figures, machine, peers, report
from benchmarks.database import Databases
from benchmarks.figures.figure import QUICK, Bench, Figure, Sizes
from benchmarks.peers import Peer
from benchmarks.process import PeerFailed
from benchmarks.results import Results
from benchmarks.server import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Choice = TypeVar("Choice", Peer, Figure)


def main() -> None:
    args = _arguments()
    chosen_peers = _available(_chosen(args.peers, peers.ALL, "peer"))
    chosen_figures = _chosen(args.only, figures.ALL, "figure")
    sizes = QUICK if args.quick else Sizes()
    sizes = replace(sizes, jobs=args.jobs or sizes.jobs)
    rounds = 1 if args.quick else args.rounds
    results = Results()
    with running_server() as server, closing(Databases()) as databases:
        for figure, peer, round_number in _plan(chosen_figures, chosen_peers, rounds):
            server.flush()
            with databases.empty(peer) as database:
                _measure(Bench(server, database, sizes), figure, peer, round_number, results)
        facts = {"Run": _extent(sizes, rounds), **machine.describe(server, chosen_peers), **databases.facts()}
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    page = report.page(command, facts, chosen_figures, chosen_peers, results)
    print(page)
    if args.write:
        args.write.write_text(page, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--peers", help=f"comma-separated: {', '.join(peer.key for peer in peers.ALL)}")
    parser.add_argument("--only", help=f"comma-separated: {', '.join(_keys(figures.ALL))}")
    parser.add_argument("--jobs", type=int, help=f"jobs per drain and per add (default {Sizes.jobs:,})")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, the median counts (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that everything works")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page to this file")
    return parser.parse_args()


def _keys(items: Sequence[Peer | Figure]) -> list[str]:
    return list(dict.fromkeys(item.key for item in items))


def _chosen(wanted: str | None, items: Sequence[Choice], kind: str) -> list[Choice]:
    if wanted is None:
        return list(items)
    keys = wanted.split(",")
    for key in keys:
        if key not in _keys(items):
            sys.exit(f"expected a {kind} out of {', '.join(_keys(items))}, got {key!r}")
    return [item for item in items if item.key in keys]


def _available(wanted: Sequence[Peer]) -> list[Peer]:
    available: list[Peer] = []
    for peer in wanted:
        missing = peer.missing()
        if missing is None:
            available.append(peer)
        else:
            _progress(f"{peer.title} is left out: {missing}")
    return available


def _plan(
    chosen_figures: Sequence[Figure], chosen_peers: Sequence[Peer], rounds: int
) -> Iterator[tuple[Figure, Peer, int]]:
    """Peers take turns within a figure, so that a slow minute of the machine meets all of them alike."""
    for figure in chosen_figures:
        for round_number in range(1, rounds + 1):
            for peer in chosen_peers:
                if figure.applies_to(peer) and round_number <= figure.rounds_of(peer, rounds):
                    yield figure, peer, round_number


def _measure(bench: Bench, figure: Figure, peer: Peer, round_number: int, results: Results) -> None:
    try:
        values = figure.measure(bench, peer)
    except PeerFailed as failure:
        _progress(f"{figure.title}, {peer.title}: {failure}")
        return
    results.record(peer.key, values)
    shown = ", ".join(f"{row.show(values[row.key])} {row.unit}" for row in figure.rows)
    _progress(f"{figure.title}, round {round_number}, {peer.title}: {shown}")


def _extent(sizes: Sizes, rounds: int) -> str:
    return (
        f"{rounds} rounds, {sizes.jobs:,} jobs, backlog {sizes.backlog:,}, {sizes.paced_jobs} single jobs for latency, "
        f"{sizes.finished:,} records in a long ledger, {sizes.grown:,} jobs for a worker's memory"
    )


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
