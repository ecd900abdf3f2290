"""`taurine verify`: SQL against the queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from taurine.cli.commands.options import AsJson
from taurine.cli.failures import DONE, NO, codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output

__all__ = ["add_to"]

_MEANINGS = (
    ("gone", "open records whose job the queue has no more"),
    ("unsettled", "open records whose job has ended in the queue"),
    ("stranded", "open records whose job is stored and in no line"),
    ("ended", "jobs in line whose record has ended"),
    ("orphans", "jobs in line without a record"),
)


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes({NO: "they differ"}))(verify)


def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Compare the records with the queues. Nothing is changed.

    While jobs are added and run, a few may stand apart for a moment.
    """

    async def compare(app: Taurine, output: Output) -> int:
        found = await app.compare()
        counts = {name: getattr(found, name) for name, _ in _MEANINGS}
        if output.as_json:
            output.json({"differences": found.total, **counts, "waiting": found.waiting, "compared": found.compared})
            return NO if found.total else DONE
        if found.total:
            output.table(
                ("jobs", "what"), [(counts[name], text) for name, text in _MEANINGS if counts[name]], numbers=("jobs",)
            )
            output.hint("a running worker mends these within seconds; look again, and see its log if they stay")
        else:
            output.line(
                f"Records and queues agree: {found.compared:,} looked at. Jobs that have ended are not compared."
            )
        if found.waiting:
            output.note(f"{found.waiting:,} accepted jobs are not handed over yet, which is no difference.")
        return NO if found.total else DONE

    run(context, compare, as_json=as_json, needs_types=True)
