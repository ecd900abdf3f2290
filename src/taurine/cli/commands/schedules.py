"""`taurine schedules`: jobs that come back, when they come next, and one out of turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJson, User, Yes
from taurine.cli.failures import DONE, NO, REFUSED, codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.schedules.schedules import ScheduleInfo

__all__ = ["add_to"]

_NEXT = 5
"""Times that are shown of one schedule."""

ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.")]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    family = typer.Typer(rich_markup_mode=None)
    family.callback(invoke_without_command=True, epilog=codes())(schedules)
    ends = codes({NO: "no such schedule"})
    family.command("list", epilog=codes())(show_all)
    for command in (show, trigger, remove):
        family.command(epilog=ends)(command)
    program.add_typer(family, name="schedules")


def schedules(context: typer.Context, as_json: AsJson = False) -> None:
    """Show jobs that come back, and when; run one now."""
    if context.invoked_subcommand is None:
        show_all(context, as_json)


def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List schedules: those of the application, and those that stand in its queues."""

    async def look(app: Taurine, output: Output) -> None:
        infos = await app.schedules.list()
        if output.as_json:
            output.json([*map(_json_of, infos)])
        elif infos:
            output.table(("id", "type", "queue", "when", "next", "description", ""), [*map(_row_of, infos)])
        else:
            output.note("No schedules.")

    run(context, look, as_json=as_json, needs_types=True)


def show(context: typer.Context, schedule_id: ScheduleId, as_json: AsJson = False) -> None:
    """Show one schedule with its next times."""

    async def look(app: Taurine, output: Output) -> None:
        info = await app.schedules.get(schedule_id)
        if output.as_json:
            output.json(_json_of(info))
            return
        output.facts(
            [
                ("id", info.id),
                ("description", info.description or None),
                ("type", info.type),
                ("queue", info.queue),
                ("when", info.text),
                ("pattern", info.pattern),
                ("zone", info.tz),
                ("next", "\n".join(f"{at:%a %Y-%m-%d %H:%M:%S %Z}" for at in info.next_runs(_NEXT))),
            ]
        )

    run(context, look, as_json=as_json, needs_types=True)


def trigger(context: typer.Context, schedule_id: ScheduleId, user: User = None, as_json: AsJson = False) -> None:
    """Run a schedule's job now, as a job of its own: no tick is moved or left out."""

    async def tick(app: Taurine, output: Output) -> None:
        handle = await app.schedules.trigger(schedule_id, user=user)
        if output.as_json:
            output.json({"id": handle.id, "type": handle.type, "queue": handle.queue, "status": handle.status})
        else:
            output.line(f"job {handle.id} accepted ({handle.type}, queue {handle.queue}, {handle.status})")

    run(context, tick, as_json=as_json, needs_types=True)


def remove(
    context: typer.Context, schedule_id: ScheduleId, user: User = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """End a schedule that the application does not declare any more."""

    async def end(app: Taurine, output: Output) -> int:
        from taurine.cli.asking import confirmed

        info = await app.schedules.get(schedule_id)
        question = f"End the schedule {schedule_id} ({info.text}) of queue {info.queue}?"
        if not info.declared and not confirmed(output, question, yes=yes):
            return REFUSED
        await app.schedules.remove(schedule_id, user=user)
        if output.as_json:
            output.json({"id": schedule_id, "removed": True})
        else:
            output.line(f"{schedule_id} is removed")
        return DONE

    run(context, end, as_json=as_json, needs_types=True)


def _json_of(info: ScheduleInfo) -> dict[str, Any]:
    names = ("id", "type", "queue", "every", "pattern", "tz", "description", "text", "declared")
    return {name: getattr(info, name) for name in names} | {
        "next_run": None if info.next_run is None else info.next_run.isoformat(),
        "next_runs": [at.isoformat() for at in info.next_runs(_NEXT)],
    }


def _row_of(info: ScheduleInfo) -> tuple[object, ...]:
    at = None if info.next_run is None else f"{info.next_run:%Y-%m-%d %H:%M:%S %Z}"
    marks = ["" if info.declared else "not declared here", "" if at else "not installed: no worker has started"]
    return (info.id, info.type, info.queue, info.text, at, info.description, ", ".join(filter(None, marks)))
