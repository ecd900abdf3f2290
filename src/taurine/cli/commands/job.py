"""`taurine job`: everything about one job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taurine.cli.commands.options import AsJson
from taurine.cli.failures import CANCELLED, DONE, FAILED, UNAVAILABLE, codes
from taurine.cli.running import run
from taurine.errors import RecordNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.operations.why import Why
    from taurine.jobs.reporting.redaction import Redact
    from taurine.ledger.attempts import Attempt
    from taurine.ledger.job_logs import NumberedLine
    from taurine.ledger.records import JobRecord

__all__ = ["add_to"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    watched = {FAILED: "failed (--watch)", CANCELLED: "cancelled or expired (--watch)"}
    program.command(epilog=codes(watched))(job)


def job(
    context: typer.Context,
    *,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    why: Annotated[bool, typer.Option("--why", help="Only why it is not running, and what is expected next.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show how far it is until it has ended.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", metavar="N", min=0, max=1000, help="Lines of its log, the latest.")
    ] = 20,
    tenant: Annotated[str | None, typer.Option(help="Find it only if it is this tenant's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a job, and why it is not running. Its record, its attempts, and its log."""

    async def show(app: Taurine, output: Output) -> int:
        if watch:
            return await _watch(app, output, job_id, tenant, lines)
        explained = await app.why(job_id, tenant=tenant)
        if explained.code == "not_found":
            raise RecordNotFound(f"there is no job {job_id!r}", job_id=job_id)
        if why or explained.record is None:
            _print_why(output, explained)
            return UNAVAILABLE if explained.record is None else DONE
        await _print_all(app, output, explained.record, explained, tenant=tenant, lines=lines)
        return DONE

    run(context, show, as_json=as_json)


async def _watch(app: Taurine, output: Output, job_id: str, tenant: str | None, lines: int) -> int:
    from asyncio import CancelledError

    from taurine.cli.following import conclude, follow, goes_on
    from taurine.cli.forms import record_json

    def tell(record: JobRecord) -> None:
        if output.as_json:
            output.json_line(record_json(record, output.redact))

    try:
        record = await follow(app, job_id, output, tenant=tenant, changed=tell)
    except CancelledError:
        goes_on(job_id, output)
        raise
    if not output.as_json:
        await _print_all(app, output, record, None, tenant=tenant, lines=lines)
    return conclude(record, output)


async def _print_all(
    app: Taurine, output: Output, record: JobRecord, why: Why | None, *, tenant: str | None, lines: int
) -> None:
    from taurine.cli.forms import attempt_json, log_line_json, record_json

    attempts = (await app.attempts(record.id, tenant=tenant, newest_first=True))[::-1]
    log: Sequence[NumberedLine] = ()
    if lines:
        log = (await app.logs(record.id, tenant=tenant, limit=lines, newest_first=True))[::-1]
    if not output.as_json:
        _print_job(output, record, attempts, log, why)
        return
    output.json(
        {
            "job": record_json(record, output.redact),
            "attempts": [attempt_json(attempt, output.redact) for attempt in attempts],
            "logs": [log_line_json(line, output.redact) for line in log],
            "why": None if why is None else output.redact.data(why.to_json()),
        }
    )


def _print_job(
    output: Output, record: JobRecord, attempts: Sequence[Attempt], log: Sequence[NumberedLine], why: Why | None
) -> None:
    output.facts(_facts_of(record, output.redact))
    if why is not None:
        _print_why(output, why)
    if attempts:
        output.line()
        output.table(
            ("attempt", "outcome", "started", "seconds", "worker", "error"),
            [_row_of(attempt, output.redact) for attempt in attempts],
        )
    if log:
        from datetime import UTC, datetime

        output.line()
        for line in log:
            at = datetime.fromtimestamp(line.at / 1000, UTC)
            fields = "".join(f" {name}={value}" for name, value in output.redact.data(line.fields or {}).items())
            # Indented, so that none of its own lines can pass for another one of the log.
            said = output.redact.text(f"{line.message}{fields}").replace("\n", f"\n{'':18}")
            output.line(f"{at:%H:%M:%S} {line.level:<8} {said}")


def _print_why(output: Output, why: Why) -> None:
    """The reasons, each in a line, and what is expected next."""
    if output.as_json:
        output.json(output.redact.data(why.to_json()))
        return
    # An error's text may be in it, and no line of that is to pass for one of ours.
    output.line(output.redact.text(" ".join(why.sentence.splitlines())), "bold")
    for reason in why.reasons[1:]:
        output.line(output.redact.text(f"Also, it {' '.join(reason.text.splitlines())}."))
    if why.next_event is not None:
        at = "" if why.next_at is None else f", about {why.next_at:%Y-%m-%d %H:%M:%S} UTC"
        output.line(f"Next: {why.next_event}{at}.")


def _facts_of(record: JobRecord, redact: Redact) -> list[tuple[str, object]]:
    from taurine.cli.forms import cause, json_text, progress_text

    times = {"created": record.created_at, "started": record.started_at, "finished": record.finished_at}
    return [
        ("id", record.id),
        ("type", record.type),
        ("queue", record.queue),
        ("tenant", record.tenant),
        ("status", record.status),
        ("attempts", f"{record.attempts} of {record.max_attempts}"),
        ("worker", record.worker),
        ("tags", redact.text(", ".join(record.tags)) or None),
        *(
            (name, None if time is None else f"{f'{time:%Y-%m-%d %H:%M:%S.%f}'[:-3]} UTC")
            for name, time in times.items()
        ),
        ("payload", json_text(record.payload_json, redact)),
        ("progress", progress_text(redact.data(record.progress))),
        ("output", json_text(record.output_json, redact)),
        ("error", cause(record.error, redact)),
    ]


def _row_of(attempt: Attempt, redact: Redact) -> tuple[object, ...]:
    from taurine.cli.forms import cause, time_text

    return (
        f"{attempt.generation}.{attempt.number}" if attempt.generation else attempt.number,
        attempt.outcome,
        time_text(attempt.started_at),
        _seconds_of(attempt),
        attempt.worker,
        cause(attempt.error, redact),
    )


def _seconds_of(attempt: Attempt) -> str:
    if attempt.started_at is None or attempt.finished_at is None:
        return ""
    return f"{(attempt.finished_at - attempt.started_at).total_seconds():.3f}"
