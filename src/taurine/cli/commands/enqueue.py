"""`taurine enqueue`: accept one job, and wait for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJson
from taurine.cli.failures import CANCELLED, DONE, FAILED, NO, TIMED_OUT, codes
from taurine.cli.running import run
from taurine.errors import InvalidOption, PayloadInvalid, WaitTimeout

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.enqueue.handle import JobHandle

__all__ = ["add_to"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    ends = {
        FAILED: "the job failed",
        CANCELLED: "it was cancelled or expired",
        TIMED_OUT: "it did not end within --timeout",
        NO: "its record is gone",
    }
    program.command(epilog=codes(ends))(enqueue)


def _known_types(context: typer.Context, incomplete: str) -> list[str]:
    """The names of job types, for the shell's completion."""
    from taurine.cli.loading import load_app
    from taurine.errors import TaurineError

    place = (context.find_root().params or {}).get("app") or os.environ.get("TAURINE_APP")
    try:
        names = [job_type.name for job_type in load_app(place).catalog]
    except TaurineError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def enqueue(
    context: typer.Context,
    *,
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="The job type's name.", autocompletion=_known_types)],
    payload: Annotated[
        str | None,
        typer.Argument(metavar="[PAYLOAD]", help="JSON, @FILE, or - for standard input. Default: {}."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has ended, show how far it is, and print its result.")
    ] = False,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Wait no longer than this; the job goes on. Default: no limit."),
    ] = None,
    job_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Its id. Default: as the type says.")] = None,
    delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Start this much later: 90, 30s, 5m, 2h30m, 1d.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option(metavar="N", help="0 goes first, then lower numbers. Default: the type's.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="WORD", help="A word to find it by; may be repeated.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose job it is. Default: as the type says.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="A repeat with the same key gives the same job.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks for it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Accept a job, and wait for it.

    With --wait its result is printed on stdout, as JSON, and the exit code says how it ended.
    """

    async def accept(app: Taurine, output: Output) -> int:
        from taurine.cli.reading import read_payload, read_seconds

        limit = None if timeout is None else read_seconds(timeout, "--timeout")
        if limit is not None and not wait:
            raise InvalidOption("--timeout is of --wait: say both")
        given: dict[str, Any] = {
            "job_id": job_id,
            "delay": None if delay is None else read_seconds(delay, "--delay"),
            "priority": priority,
            "tags": tags or None,
            "tenant": tenant,
            "idempotency_key": idempotency_key,
            "user": user,
        }
        options: Any = {name: value for name, value in given.items() if value is not None}
        declared = app.catalog.get(job_type)
        try:
            handle = await app.enqueue(declared, read_payload(payload), source="taurine enqueue", **options)
        except PayloadInvalid as error:
            raise _by_field(error) from None
        if not wait:
            _print_accepted(output, handle)
            return DONE
        output.note(_sentence(handle))
        return await _wait(app, output, handle.id, limit)

    run(context, accept, as_json=as_json, needs_types=True)


def _by_field(error: PayloadInvalid) -> PayloadInvalid:
    """The same with a line for each field."""
    listed = "".join(f"\n  {field}: {problem}" for field, problem in error.errors)
    return PayloadInvalid(
        f"{error.job_type}: the payload is not valid:{listed}", job_type=error.job_type, errors=error.errors
    )


def _sentence(handle: JobHandle[Any]) -> str:
    what = "was there already" if handle.duplicate else "accepted"
    return f"job {handle.id} {what} ({handle.type}, queue {handle.queue}, {handle.status})"


def _print_accepted(output: Output, handle: JobHandle[Any]) -> None:
    if not output.as_json:
        output.line(_sentence(handle))
        return
    output.json(
        {
            "id": handle.id,
            "type": handle.type,
            "queue": handle.queue,
            "status": handle.status,
            "duplicate": handle.duplicate,
            "created_at": handle.created_at.isoformat(),
        }
    )


async def _wait(app: Taurine, output: Output, job_id: str, timeout: float | None) -> int:
    from asyncio import CancelledError

    from taurine.cli.following import conclude, follow, goes_on
    from taurine.cli.forms import record_json

    try:
        record = await follow(app, job_id, output, timeout=timeout)
    except CancelledError:
        goes_on(job_id, output)
        raise
    except WaitTimeout:
        if output.as_json and (unended := await app.get(job_id)) is not None:
            output.json(record_json(unended, output.redact))
        raise
    code = conclude(record, output)
    if output.as_json:
        output.json(record_json(record, output.redact))
    elif record.status == "completed":
        output.json(output.redact.data(record.output))
    return code
