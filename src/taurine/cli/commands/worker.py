"""`taurine worker`: run jobs."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taurine.cli.commands.options import AsJsonLines
from taurine.cli.failures import DONE, codes
from taurine.cli.running import run, run_plain
from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.worker.options import WorkerOptions

__all__ = ["add_to"]

log = logging.getLogger("taurine")


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes({DONE: "stopped by a signal, or nothing left to do"}))(worker)


def worker(
    context: typer.Context,
    *,
    queues: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            "-q",
            metavar="NAME[=SLOTS]",
            help="Work on this queue, with so many jobs at once; may be repeated. Default: all that have a handler.",
        ),
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency", "-c", metavar="SLOTS", help="Jobs at once of each queue: a number, io (100) or cpu."
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Run so many processes, each with these options.")
    ] = None,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="How long running jobs may take when it stops.")
    ] = "30s",
    until_empty: Annotated[
        bool,
        typer.Option(
            "--until-empty",
            "--drain",
            help="End when nothing is left to do, retries included; jobs of a later time stay.",
        ),
    ] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start anew when a Python file below this folder changes.")
    ] = False,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Shown with jobs that it ran.")] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65_535,
            help="Answer /health/live, /health/ready and /metrics here; 0 for any port. The variable TAURINE_METRICS_TOKEN holds what scrapers from other machines show.",
        ),
    ] = None,
    health_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address of the health port; 0.0.0.0 for probes from elsewhere.")
    ] = "127.0.0.1",
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = "info",
    as_json: AsJsonLines = False,
) -> None:
    """Run jobs until a signal.

    At SIGINT or SIGTERM nothing more is started, running jobs have their grace, and the rest is handed back. At a
    second one it ends at once.
    """
    if reload:
        _reload(context, grace)

    async def work(app: Taurine, output: Output) -> None:
        from taurine.cli import working
        from taurine.cli.logs import set_up_logs
        from taurine.cli.reading import read_queues, read_seconds

        set_up_logs(app.settings.log_format, log_level, output.redact)
        chosen, slots = read_queues(queues or [], concurrency)
        plan = working.plan_of(app, chosen, slots)
        options: WorkerOptions = {
            "queues": chosen,
            "concurrency": slots,
            "grace": read_seconds(grace, "--grace"),
            "name": name,
            "health_port": health_port,
            "health_host": health_host,
            "metrics_token": os.environ.get("TAURINE_METRICS_TOKEN") or None,
        }
        runner = app.worker(**options) if processes is None else app.worker(processes=processes, **options)
        _announce(output, app, plan, processes, until_empty=until_empty)
        worked_on = [*plan, *(app.catalog.system_queues if chosen is None else ())]
        await working.run_beside(app, runner, (lambda: working.until_empty(app, worked_on)) if until_empty else None)
        if output.as_json:
            output.json_line({"event": "stopped"})

    run(context, work, as_json=as_json, needs_types=True)


def _announce(output: Output, app: Taurine, plan: dict[str, int], processes: int | None, *, until_empty: bool) -> None:
    if output.as_json:
        output.json_line({"event": "started", "application": app.name, "queues": plan, "processes": processes or 1})
        return
    works_on = ", ".join(f"{queue} ({slots} at once)" for queue, slots in plan.items())
    each = "" if processes is None else f", in each of {processes} processes"
    until = "until nothing is left to do" if until_empty else "until Ctrl-C"
    text = f"{app.name} works on {works_on}{each}, {until}"
    if app.settings.log_format == "json":
        log.info(text)  # who reads the lines by program reads this one too
    else:
        output.note(text, "bold")


def _reload(context: typer.Context, grace: str) -> None:
    """Run the same command without --reload in a child, again and again."""

    def watch(output: Output) -> int:
        import asyncio

        from taurine.cli.reading import read_seconds
        from taurine.cli.reloading import refuse_without_watchfiles, run_reloading

        refuse_without_watchfiles()
        if context.obj.place is None:
            raise InvalidOption(
                "--reload needs the application by its name: taurine --app module:name worker --reload, or TAURINE_APP"
            )
        words = [word for word in sys.argv[1:] if word != "--reload"]
        return asyncio.run(run_reloading(words, output, folder=Path.cwd(), grace=read_seconds(grace, "--grace")))

    run_plain(context, watch)
