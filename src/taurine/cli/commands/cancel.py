"""`taurine cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taurine.cli.commands.options import AsJson, User
from taurine.cli.failures import codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.ledger.records import JobRecord

__all__ = ["add_to"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(cancel)


def cancel(
    context: typer.Context,
    *,
    job_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="The jobs' ids.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "cancelled",
    tenant: Annotated[str | None, typer.Option(help="Only if they are this tenant's.")] = None,
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs, running ones too. Those that have not started never will; running ones hear of it within a second."""

    async def stop(app: Taurine, output: Output) -> int:
        from taurine.cli.each import each

        async def one(job_id: str) -> JobRecord:
            return await app.cancel(job_id, reason=reason, user=user, tenant=tenant)

        def told(record: JobRecord) -> str:
            return f"{record.id} is {'cancelled' if record.status == 'cancelled' else 'told to stop'}"

        return await each(output, job_ids, one, told)

    run(context, stop, as_json=as_json)
