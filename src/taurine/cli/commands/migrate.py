"""`taurine migrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from taurine.cli.commands.options import AsJson
from taurine.cli.failures import codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output

__all__ = ["add_to"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(migrate)


def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the ledger's tables to this version's. Safe to repeat, and on several machines at once."""

    async def bring_up(app: Taurine, output: Output) -> None:
        report = await app.migrate()
        if output.as_json:
            output.json({"before": report.before, "after": report.after, "applied": list(report.applied)})
        elif report.applied:
            output.line(
                f"The tables are at version {report.after} now; before they were {report.before or 'not there'}."
            )
        else:
            output.line(f"The tables are at version {report.after} already.")

    run(context, bring_up, as_json=as_json)
