"""`taurine events`: what happens in the queues, as it happens."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJsonLines
from taurine.cli.failures import DONE, codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.reporting.redaction import Redact
    from taurine.queue.events import Event

__all__ = ["add_to"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(events)


def events(
    context: typer.Context,
    *,
    queues: Annotated[
        list[str] | None,
        typer.Option("--queue", "-q", metavar="NAME", help="Of this queue; may be repeated. Default: of all."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only these: completed, failed, active, stalled and so on; may be repeated."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Begin so long ago, as far as the queue still knows: about 10,000 events. Default: now.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many.")] = None,
    as_json: AsJsonLines = False,
) -> None:
    """Show what happens in the queues, until Ctrl-C. Jobs of other programs on these queues too, such as BullMQ's."""

    async def listen(app: Taurine, output: Output) -> int:
        from taurine.cli.reading import read_seconds

        ago = None if since is None else read_seconds(since, "--since")
        left = limit
        async with app.queues.events(*(queues or ()), since=ago) as happenings:
            if not output.as_json:
                output.note("Listening, until Ctrl-C.", "dim")
            async for queue, event in happenings:
                if only and event.name not in only:
                    continue
                _print(output, queue, event)
                if left is not None and (left := left - 1) == 0:
                    break
        return DONE

    run(context, listen, as_json=as_json)


def _print(output: Output, queue: str, event: Event) -> None:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(event.at, UTC)
    words = _words_of(event, output.redact)
    if output.as_json:
        output.json_line({"at": at.isoformat(), "queue": queue, "event": event.name, **words})
        return
    job_id = words.pop("job_id", "")
    rest = "  ".join(f"{name}={_short(value)}" for name, value in words.items() if name != "id" and value is not None)
    output.line(f"{at:%H:%M:%S.%f}"[:-3] + f"  {queue}  {event.name:<16}  {job_id}  {rest}".rstrip())
    output.flush()


def _words_of(event: Event, redact: Redact) -> dict[str, Any]:
    """The event's members, without what must not be shown of what users and handlers wrote."""
    from taurine.queue.events import Custom

    words = event.fields if isinstance(event, Custom) else asdict(event)
    written = {"result", "value", "reason"} if not isinstance(event, Custom) else set(words)
    return {"id": event.id} | {name: redact.data(word) if name in written else word for name, word in words.items()}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.partition("\n")[0][:80]
