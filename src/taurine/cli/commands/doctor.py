"""`taurine doctor`: is everything as it should be?"""

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

_STYLES = {"ok": "green", "warn": "bold yellow", "fail": "bold red"}


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes({NO: "something fails"}))(doctor)


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Look whether everything is as it should be.

    Settings, database, server of queues, disk, and who works on which queue; each line says what to do.
    """

    async def look(app: Taurine, output: Output) -> int:
        findings = await app.diagnose()
        failed = any(finding.level == "fail" for finding in findings)
        if output.as_json:
            names = ("check", "level", "text", "remedy")
            told = [
                {name: getattr(finding, name) for name in names} | {"details": dict(finding.details)}
                for finding in findings
            ]
            output.json({"ok": not failed, "findings": told})
            return NO if failed else DONE
        for finding in findings:
            output.marked(finding.level, _STYLES[finding.level], f"{finding.check:<14} {finding.text}")
            if finding.remedy is not None:
                output.line(f"{'':<6}{'':<14} → {finding.remedy}")
        return NO if failed else DONE

    run(context, look, as_json=as_json)
