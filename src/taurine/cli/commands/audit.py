"""`taurine audit`: who did what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJson, Tenant
from taurine.cli.failures import DONE, codes
from taurine.cli.running import run
from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.reporting.redaction import Redact
    from taurine.ledger.audit import AuditEntry

__all__ = ["add_to"]

_COLUMNS = ("at", "who", "action", "what", "")


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(audit)


def audit(
    context: typer.Context,
    *,
    job_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="What was done to this job, oldest first. Default: to anything."),
    ] = None,
    actor: Annotated[str | None, typer.Option("--by", metavar="NAME", help="By this person or key.")] = None,
    action: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this kind: cancel, retry, redrive, pause_queue and so on.")
    ] = None,
    tenant: Tenant = None,
    since: Annotated[str | None, typer.Option(metavar="DURATION", help="No longer ago than this, such as 2h.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Actions on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Where the page before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show who did what. To one job, or to all jobs, queues and quotas, the latest first."""

    async def look(app: Taurine, output: Output) -> int:
        from taurine.cli.reading import read_seconds

        if job_id is None:
            after = None if since is None else app.clock.now() - read_seconds(since, "--since")
            page = await app.actions(actor=actor, action=action, tenant=tenant, since=after, limit=limit, cursor=cursor)
        elif actor is None and action is None and since is None:
            page = await app.audit(job_id, tenant=tenant, limit=limit, cursor=cursor)
        else:
            raise InvalidOption("--by, --action and --since are of a list of all actions, and here is a job's id")
        _print(output, page.items, page.next_cursor)
        return DONE

    run(context, look, as_json=as_json)


def _print(output: Output, entries: list[AuditEntry], next_cursor: str | None) -> None:
    from taurine.cli.forms import action_json

    if output.as_json:
        told = [
            {**action_json(one), "job_id": one.job_id, "tenant": one.tenant, "detail": _detail(one, output.redact)}
            for one in entries
        ]
        output.json({"actions": told, "next_cursor": next_cursor})
        return
    if entries:
        output.table(_COLUMNS, [_row_of(one, output.redact) for one in entries])
    else:
        output.note("Nothing was done by hand.")
    if next_cursor is not None:
        output.hint(f"there are more: add --cursor {next_cursor}")


def _detail(entry: AuditEntry, redact: Redact) -> Any:
    return None if entry.detail is None else redact.data(json.loads(entry.detail))


def _row_of(entry: AuditEntry, redact: Redact) -> tuple[Any, ...]:
    from datetime import UTC, datetime

    from taurine.cli.forms import json_text, time_text

    at = time_text(datetime.fromtimestamp(entry.at / 1000, UTC))
    return at, entry.actor or "unknown", entry.action, entry.job_id, json_text(entry.detail, redact)
