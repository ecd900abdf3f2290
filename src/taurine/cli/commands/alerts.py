"""`taurine alerts`: what fires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJson
from taurine.cli.failures import DONE, NO, codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.operations.alerts import AlertView
    from taurine.jobs.reporting.redaction import Redact

__all__ = ["add_to"]

_COLUMNS = ("alert", "about", "state", "severity", "since", "")


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes({NO: "something fires"}))(alerts)


def alerts(
    context: typer.Context,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="What is pending, or was over in the last day, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the alerts that fire. Ends with 1 while there are some, so that a script can ask."""

    async def look(app: Taurine, output: Output) -> int:
        from taurine.cli.forms import alert_json

        views = await app.alerts.list(all=everything)
        firing = any(view.state == "firing" for view in views)
        if output.as_json:
            output.json({"alerts": [alert_json(view, output.redact) for view in views]})
        elif views:
            output.table(_COLUMNS, [_row_of(view, output.redact) for view in views])
        else:
            output.note("No alerts.")
        if not output.as_json and all(worker.state != "running" for worker in await app.workers.list()):
            output.hint("nobody looks for them: a worker does, or `taurine serve`, and none runs")
        return NO if firing else DONE

    run(context, look, as_json=as_json)


def _row_of(view: AlertView, redact: Redact) -> tuple[Any, ...]:
    from taurine.cli.forms import age

    return (view.rule, view.subject, view.state, view.severity, age(view.since), redact.text(view.message))
