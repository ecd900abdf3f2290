"""`taurine jobs`: records, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from taurine.cli.commands.options import AsJson, Tenant
from taurine.cli.failures import DONE, codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.reporting.redaction import Redact
    from taurine.ledger.records import JobRecord

__all__ = ["add_to"]

_LOOK_SECONDS = 1.0
"""Seconds between two looks with --watch."""

_COLUMNS = ("id", "type", "queue", "status", "attempts", "age", "error")


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(jobs)


def jobs(
    context: typer.Context,
    *,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS", help="queued, running, retrying, waiting, completed, failed, cancelled or expired."
        ),
    ] = None,
    job_type: Annotated[str | None, typer.Option("--type", metavar="NAME", help="Of this job type.")] = None,
    queue: Annotated[str | None, typer.Option(metavar="NAME", help="Of this queue.")] = None,
    tenant: Tenant = None,
    tag: Annotated[str | None, typer.Option(metavar="WORD", help="With this tag.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Accepted no longer ago than this, for example 2h.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Jobs on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Where the page before ended.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again each second, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first.

    With --json: {"jobs": […], "next_cursor": …}; with --watch one in each line, when it has changed.
    """

    async def show(app: Taurine, output: Output) -> int:
        from taurine.cli.reading import read_seconds

        ago = None if since is None else read_seconds(since, "--since")
        filters: dict[str, Any] = {"status": status, "type": job_type, "queue": queue, "tenant": tenant, "tag": tag}

        async def page() -> tuple[Sequence[JobRecord], str | None]:
            import time

            after = None if ago is None else time.time() - ago
            found = await app.list(**cast("Any", filters), since=after, cursor=cursor, limit=limit)
            return found.items, found.next_cursor

        if watch:
            await _watch(output, page)
        else:
            _print(output, *await page())
        return DONE

    run(context, show, as_json=as_json)


def _print(output: Output, records: Sequence[JobRecord], next_cursor: str | None) -> None:
    if output.as_json:
        output.json(_json_of(records, next_cursor, output.redact))
        return
    if records:
        output.table(_COLUMNS, [_row_of(record, output.redact) for record in records])
    else:
        output.note("No jobs.")
    if next_cursor is not None:
        output.hint(f"there are more: add --cursor {next_cursor}")


async def _watch(output: Output, page: Any) -> None:
    from asyncio import sleep

    shown: Any = None
    if output.is_live and not output.as_json:
        from rich.live import Live

        from taurine.cli.output import table_of

        with Live(console=output.side, auto_refresh=False, screen=False) as live:
            while True:
                records, _ = await page()
                live.update(table_of(_COLUMNS, [_row_of(record, output.redact) for record in records]), refresh=True)
                await sleep(_LOOK_SECONDS)
    while True:
        records, next_cursor = await page()
        now = [(record.id, record.status, record.updated_at) for record in records]
        if now != shown:
            shown = now
            if output.as_json:
                output.json_line(_json_of(records, next_cursor, output.redact))
            else:
                _print(output, records, None)
                output.line()
                output.flush()
        await sleep(_LOOK_SECONDS)


def _json_of(records: Sequence[JobRecord], next_cursor: str | None, redact: Redact) -> dict[str, Any]:
    from taurine.cli.forms import record_json

    return {"jobs": [record_json(record, redact) for record in records], "next_cursor": next_cursor}


def _row_of(record: JobRecord, redact: Redact) -> tuple[object, ...]:
    from taurine.cli.forms import age, cause

    error = cause(record.error, redact) or redact.text(record.cancel_reason or "")
    return (
        record.id,
        record.type,
        record.queue,
        record.status,
        f"{record.attempts}/{record.max_attempts}",
        age(record.created_at),
        error.partition("\n")[0][:80],
    )
