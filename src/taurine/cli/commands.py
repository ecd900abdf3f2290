"""The commands, and what their failures mean for the exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NoReturn

import typer

from taurine.app import Taurine
from taurine.cli.loading import load_app
from taurine.cli.output import Output, attempt_json, record_json
from taurine.errors import (
    AccessError,
    CatalogError,
    EmbeddedServerError,
    InvalidOption,
    LedgerUnavailable,
    RecordError,
    RecordNotFound,
    StoreUnavailable,
    TaurineError,
)

__all__ = ["main"]

NOT_FOUND, USAGE, UNAVAILABLE, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes; see `taurine.cli`."""

_EXIT_CODES: tuple[tuple[type[TaurineError], int], ...] = (
    (RecordNotFound, NOT_FOUND),
    (InvalidOption, USAGE),
    (CatalogError, USAGE),
    (LedgerUnavailable, UNAVAILABLE),
    (StoreUnavailable, UNAVAILABLE),
    (EmbeddedServerError, UNAVAILABLE),
    (RecordError, REFUSED),
    (AccessError, REFUSED),
)
"""By the kind of error, the first that fits; others are refusals too."""

_CODES = "Exit codes: 0 done, 1 no such job, 2 wrong usage, 3 a server does not answer, 4 refused."

commands = typer.Typer(
    name="taurine",
    help="Background jobs: look at them, and run their affairs.",
    epilog=_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Chosen:
    """What holds for every command: which application."""

    def __init__(self, place: str | None) -> None:
        self.place = place


@commands.callback()
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
) -> None:
    context.obj = Chosen(app)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]


@commands.command(epilog=_CODES)
def job(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    why: Annotated[bool, typer.Option("--why", help="Only why it is not running, and what is expected next.")] = False,
    tenant: Annotated[str | None, typer.Option(help="Find it only if it is this tenant's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a job: its record, its attempts, and why it is not running."""
    output = Output(as_json=as_json)

    async def show(app: Taurine) -> int:
        explained = await app.why(job_id, tenant=tenant)
        if explained.code == "not_found":
            raise RecordNotFound(f"there is no job {job_id!r}", job_id=job_id)
        if why or explained.record is None:
            if output.as_json:
                output.json(explained.to_json())
            else:
                output.why(explained)
            return UNAVAILABLE if explained.record is None else 0
        attempts = await app.attempts(job_id, tenant=tenant)
        if output.as_json:
            record = record_json(explained.record)
            output.json({"job": record, "attempts": [*map(attempt_json, attempts)], "why": explained.to_json()})
        else:
            output.job(explained.record, attempts, explained)
        return 0

    _run(context, output, show)


@commands.command(epilog=_CODES)
def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the ledger's tables to this version's; safe to repeat, and on several machines at once."""
    output = Output(as_json=as_json)

    async def bring_up(app: Taurine) -> int:
        report = await app.migrate()
        if output.as_json:
            output.json({"before": report.before, "after": report.after, "applied": list(report.applied)})
        elif report.applied:
            output.line(
                f"The tables are at version {report.after} now; before they were {report.before or 'not there'}."
            )
        else:
            output.line(f"The tables are at version {report.after} already.")
        return 0

    _run(context, output, bring_up)


def _run(context: typer.Context, output: Output, command: Callable[[Taurine], Coroutine[Any, Any, int]]) -> NoReturn:
    """Load the application, run the command on it, and exit with its code, or with that of its error."""
    try:
        app = load_app(context.obj.place)  # before there is an event loop, since its modules may need one of their own
        code = asyncio.run(_closed_after(app, command))
    except TaurineError as error:
        output.error(str(error))
        code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), REFUSED)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


async def _closed_after(app: Taurine, command: Callable[[Taurine], Coroutine[Any, Any, int]]) -> int:
    try:
        return await command(app)
    finally:
        await app.close()


def main() -> None:
    """Run the command line of this process."""
    commands()
