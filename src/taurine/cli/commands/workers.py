"""`taurine workers`: who works, on what, and who has gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJson
from taurine.cli.failures import DONE, codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.operations.workers import WorkerView

__all__ = ["add_to"]

_COLUMNS = ("worker", "host", "process", "queues", "busy", "slots", "up", "seen", "")


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(workers)


def workers(
    context: typer.Context,
    *,
    everyone: Annotated[bool, typer.Option("--all", help="Those that have stopped in the last day too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List workers, in all processes. How many jobs each runs, since when, and which were not heard of any more."""

    async def look(app: Taurine, output: Output) -> int:
        from taurine.cli.forms import worker_json

        views = await app.workers.list(all=everyone)
        if output.as_json:
            output.json({"workers": [*map(worker_json, views)]})
        elif views:
            output.table(_COLUMNS, [*map(_row_of, views)], numbers=("process", "busy", "slots"))
            _tell(output, views)
        else:
            output.note("No workers.")
            output.hint("`taurine worker` starts one")
        return DONE

    run(context, look, as_json=as_json)


def _row_of(view: WorkerView) -> tuple[Any, ...]:
    from taurine.cli.forms import age

    late = sorted(name for name, loop in view.loops.items() if loop.late)
    marks = (
        "" if view.state == "running" else view.state,
        f"{view.leases_lost:,} jobs lost to others" if view.leases_lost else "",
        f"late: {', '.join(late)}" if late else "",
    )
    return (
        view.name,
        view.host,
        view.pid,
        ", ".join(view.queues),
        view.busy,
        view.slots,
        age(view.started_at),
        age(view.seen_at),
        ", ".join(filter(None, marks)),
    )


def _tell(output: Output, views: list[WorkerView]) -> None:
    """What the table's reader should know."""
    if any(view.state == "lost" for view in views):
        output.hint("a lost worker was killed, or cannot reach the database; what it ran is run again by others")
