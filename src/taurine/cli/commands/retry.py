"""`taurine retry`."""

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
    job_ids: Ids = None,
    edit: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Another payload: JSON, @FILE or -; of one job, which has ended. Needs --app."
        ),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS", help="Of a filter: failed (default), completed, cancelled or expired.", show_default=False
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
    """Run jobs again by hand.

    One that has ended with all its attempts, one that waits for its next attempt at once; or all that failed and that a
    filter lets through.
    """

    async def again(app: Taurine, output: Output) -> int:
        from taurine.cli.each import each
        from taurine.cli.in_bulk import Filter, change_all, one_of_both
        from taurine.cli.reading import read_payload

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
        if edit is not None and len(job_ids or ()) != 1:
            raise InvalidOption("--edit is for one job; retry it by itself, by its id")
        if one_of_both(job_ids, wanted):
            return await change_all(app, output, "retry", wanted, user=user, yes=yes)
        payload = None if edit is None else read_payload(edit, "--edit")

        async def one(job_id: str) -> JobRecord:
            return await app.retry(job_id, payload=payload, user=user, tenant=tenant)

        return await each(output, job_ids or (), one, lambda record: f"{record.id} is {record.status} again")

    run(context, again, as_json=as_json, needs_types=edit is not None)
