"""`taurine retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taurine.cli.commands.options import AsJson, User
from taurine.cli.failures import codes
from taurine.cli.running import run
from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.ledger.records import JobRecord

__all__ = ["add_to"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(retry)


def retry(
    context: typer.Context,
    *,
    job_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="The jobs' ids.")],
    edit: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Another payload: JSON, @FILE or -; of one job, which has ended. Needs --app."
        ),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only if they are this tenant's.")] = None,
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Run jobs again by hand. One that has ended with all its attempts, one that waits for its next attempt at once."""

    async def again(app: Taurine, output: Output) -> int:
        from taurine.cli.each import each
        from taurine.cli.reading import read_payload

        if edit is not None and len(job_ids) > 1:
            raise InvalidOption("--edit is for one job; retry it by itself")
        payload = None if edit is None else read_payload(edit, "--edit")

        async def one(job_id: str) -> JobRecord:
            return await app.retry(job_id, payload=payload, user=user, tenant=tenant)

        return await each(output, job_ids, one, lambda record: f"{record.id} is {record.status} again")

    run(context, again, as_json=as_json, needs_types=edit is not None)
