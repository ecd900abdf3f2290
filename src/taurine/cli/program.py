"""The program `taurine`: its commands under one name, and the options that hold for all of them."""

from __future__ import annotations

from typing import Annotated

import typer

from taurine.cli.commands import (
    admins,
    alerts,
    audit,
    bench,
    cancel,
    dead,
    demo,
    dev,
    doctor,
    enqueue,
    events,
    job,
    jobs,
    keys,
    migrate,
    queues,
    retry,
    schedules,
    serve,
    top,
    verify,
    worker,
    workers,
)
from taurine.cli.failures import codes
from taurine.cli.running import Chosen

__all__ = ["program"]

program = typer.Typer(
    name="taurine",
    help="Background jobs: run them, look at them, and run their affairs.",
    epilog=codes(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"taurine {version('taurine')}")
        raise typer.Exit


@program.callback()
def choose(
    context: typer.Context,
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            envvar="TAURINE_APP",
            metavar="MODULE:NAME",
            help="The application, for example shop.jobs:app. Default: the settings of the environment, without job types.",
        ),
    ] = None,
    unredacted: Annotated[
        bool, typer.Option("--unredacted", help="Show secrets and addresses in what users and handlers wrote.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    context.obj = Chosen(app, debug=debug, unredacted=unredacted)


# In the order in which one meets them; families come last in the help.
for _family in (
    *(demo, dev, worker, serve, enqueue, jobs, job, retry, cancel),
    *(top, events, workers, alerts, audit),
    *(doctor, verify, migrate, bench, queues, dead, schedules, keys, admins),
):
    _family.add_to(program)
