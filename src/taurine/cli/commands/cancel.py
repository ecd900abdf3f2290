"""`taurine cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taurine.cli.commands.options import (
    AsJson,
    DryRun,
    Everything,
    Ids,
    Most,
    OfQueue,
    OfType,
    Rate,
    Since,
    Tag,
    Tenant,
    User,
    Yes,
)
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
    job_ids: Ids = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.")] = "cancelled",
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS", help="Of a filter: queued, running, retrying or waiting. Default: all of these."
        ),
    ] = None,
    job_type: OfType = None,
    queue: OfQueue = None,
    tag: Tag = None,
    since: Since = None,
    tenant: Tenant = None,
    everything: Everything = False,
    limit: Most = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    user: User = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs, running ones too. Those that have not started never will; running ones hear of it within a second.

    By their ids, or all that a filter lets through.
    """

    async def stop(app: Taurine, output: Output) -> int:
        from taurine.cli.each import each
        from taurine.cli.in_bulk import Filter, change_all, one_of_both

        wanted = Filter(
            status=status,
            type=job_type,
            queue=queue,
            tenant=tenant,
            tag=tag,
            since=since,
            everything=everything,
            limit=limit,
            rate=rate,
            dry_run=dry_run,
        )
        if one_of_both(job_ids, wanted):
            return await change_all(app, output, "cancel", wanted, reason=reason, user=user, yes=yes)

        async def one(job_id: str) -> JobRecord:
            return await app.cancel(job_id, reason=reason, user=user, tenant=tenant)

        def told(record: JobRecord) -> str:
            return f"{record.id} is {'cancelled' if record.status == 'cancelled' else 'told to stop'}"

        return await each(output, job_ids or (), one, told)

    run(context, stop, as_json=as_json)
