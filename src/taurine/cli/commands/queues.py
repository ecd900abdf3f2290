"""`taurine queues`: how each stands, and stopping, starting, limiting, emptying and cleaning one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJson, User, Yes
from taurine.cli.failures import DONE, REFUSED, codes
from taurine.cli.running import run
from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.operations.queues import QueueView

__all__ = ["add_to", "records_alone"]

_COLUMNS = ("queue", "queued", "running", "retrying", "failed", "completed", "dead", "oldest", "workers", "")
_NUMBERS = ("queued", "running", "retrying", "failed", "completed", "dead", "workers")

Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="The queues.")]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    family = typer.Typer(rich_markup_mode=None)
    family.callback(invoke_without_command=True, epilog=codes())(queues)
    for command in (show, pause, resume, drain, clean):
        family.command("list" if command is show else None, epilog=codes())(command)
    family.command("concurrency", epilog=codes())(concurrency)
    family.command("rate-limit", epilog=codes())(rate_limit)
    program.add_typer(family, name="queues")


def queues(context: typer.Context, as_json: AsJson = False) -> None:
    """Show what waits in each queue; pause, resume or drain one. Since when it waits, what runs, and who works on it."""
    if context.invoked_subcommand is None:
        show(context, as_json)


def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show all queues."""

    async def look(app: Taurine, output: Output) -> int:
        views = await app.queues.list()
        if output.as_json:
            from taurine.cli.forms import queue_json

            output.json([*map(queue_json, views)])
            return DONE
        if not views:
            output.note("No queues: no job type is declared here, and there are no records.")
            return DONE
        output.table(_COLUMNS, [*map(_row_of, views)], numbers=_NUMBERS)
        _tell(output, views)
        return DONE

    run(context, look, as_json=as_json)


def pause(context: typer.Context, names: Names, user: User = None, as_json: AsJson = False) -> None:
    """Let no worker start jobs of these queues; running ones go on, and jobs are accepted.

    Until resumed, or until the server loses its data.
    """

    async def stop(app: Taurine, output: Output) -> None:
        for name in names:
            await app.queues.pause(name, user=user)
        await _report(app, output, names, "paused")

    run(context, stop, as_json=as_json)


def resume(context: typer.Context, names: Names, user: User = None, as_json: AsJson = False) -> None:
    """Let workers start jobs of these queues again."""

    async def start(app: Taurine, output: Output) -> None:
        for name in names:
            await app.queues.resume(name, user=user)
        await _report(app, output, names, "resumed")

    run(context, start, as_json=as_json)


def drain(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The queue.")],
    delayed: Annotated[
        bool, typer.Option("--delayed", help="Also those of a later time, and those that wait for their next attempt.")
    ] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the records.")] = "the queue was drained",
    user: User = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cancel what waits in a queue. Running jobs go on."""

    async def empty(app: Taurine, output: Output) -> int:
        from taurine.cli.asking import confirmed

        view = await app.queues.get(name)
        waiting = view.records["queued"].number + (view.records["retrying"].number if delayed else 0)
        which = "all" if delayed else "those that are due of the"
        if not confirmed(output, f"Cancel {which} {waiting:,} jobs that wait in queue {name}?", yes=yes):
            return REFUSED
        cancelled = await app.queues.drain(name, delayed=delayed, reason=reason, user=user)
        if output.as_json:
            output.json({"queue": name, "cancelled": cancelled})
        else:
            output.line(f"{cancelled:,} jobs of queue {name} are cancelled.")
        return DONE

    run(context, empty, as_json=as_json)


def clean(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The queue.")],
    status: Annotated[
        str,
        typer.Option(
            metavar="STATUS", help="completed, failed, cancelled or expired: removed; queued or retrying: cancelled."
        ),
    ],
    older_than: Annotated[
        str, typer.Option(metavar="DURATION", help="Since their end, or since they were accepted; for example 7d.")
    ] = "0s",
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many.")] = None,
    user: User = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Clear away jobs of one status that have had it for long enough.

    Records that are removed are gone; dead letters and the audit stay.
    """

    async def clear(app: Taurine, output: Output) -> int:
        from typing import cast

        from taurine.cli.asking import confirmed
        from taurine.cli.reading import read_seconds
        from taurine.jobs.operations.queues import Cleanable

        seconds = read_seconds(older_than, "--older-than")
        age = f" older than {older_than}" if seconds else ""
        if not confirmed(output, f"Clear away {status} jobs{age} of queue {name}?", yes=yes):
            return REFUSED
        chosen = cast("Cleanable", status)  # the operation looks
        cleaned = await app.queues.clean(name, chosen, older_than=seconds, limit=limit, user=user)
        if output.as_json:
            output.json({"queue": name, "cleaned": cleaned})
        else:
            output.line(f"{cleaned:,} {status} jobs of queue {name} are cleared away.")
        return DONE

    run(context, clear, as_json=as_json)


def concurrency(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The queue.")],
    most: Annotated[str, typer.Argument(metavar="N", help="Jobs at once, over all workers; none for no limit.")],
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Limit how many jobs of a queue run at once, over all workers.

    What the application declares comes back with `none`.
    """

    async def limit(app: Taurine, output: Output) -> None:
        number = None if most == "none" else _whole(most, "N")
        await app.queues.set_concurrency(name, number, user=user)
        words = "has no limit of jobs at once" if number is None else f"runs at most {number:,} jobs at once"
        await _report(app, output, [name], words, verb="")

    run(context, limit, as_json=as_json)


def rate_limit(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The queue.")],
    rate: Annotated[
        str, typer.Argument(metavar="N/DURATION", help="Job starts per window, for example 100/1m; none for no limit.")
    ],
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Limit how many jobs of a queue start in a window of time, over all workers.

    What the application declares comes back with `none`.
    """

    async def limit(app: Taurine, output: Output) -> None:
        from taurine.cli.reading import read_seconds
        from taurine.options import RateLimit

        number, slash, window = rate.partition("/")
        if rate != "none" and not slash:
            raise InvalidOption(f"expected N/DURATION, for example 100/1m, or none, got {rate!r:.40}")
        if window and window[-1].isdigit():  # 2/10 may be meant as two of ten
            raise InvalidOption(f"expected a unit in {rate!r:.40}: {number:.20}/{window:.20}s, or m, h, d")
        chosen = None if rate == "none" else RateLimit(_whole(number, "N"), read_seconds(window, "DURATION"))
        await app.queues.set_rate_limit(name, chosen, user=user)
        words = "has no rate limit" if chosen is None else f"starts at most {chosen.max:,} jobs in {window}"
        await _report(app, output, [name], words, verb="")

    run(context, limit, as_json=as_json)


def _whole(text: str, name: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return int(text)
    raise InvalidOption(f"expected {name} to be a whole number from 1, or none, got {text!r:.40}")


async def _report(app: Taurine, output: Output, names: Sequence[str], what: str, *, verb: str = "is ") -> None:
    if not output.as_json:
        for name in names:
            output.line(f"{name} {verb}{what}")
        return
    from taurine.cli.forms import queue_json

    output.json([queue_json(view) for view in await app.queues.list() if view.name in names])


def _row_of(view: QueueView) -> tuple[Any, ...]:
    from taurine.cli.forms import seconds_text

    def number(status: Any) -> str:
        count = view.records[status]
        return f"{count.number:,}{'' if count.exact else '+'}"

    standing = view.standing
    workers = "?" if standing is None or standing.workers is None else len(standing.workers)
    marks = [
        "paused" if standing is not None and standing.paused else "",
        f"{view.undelivered:,} not handed over" if view.undelivered else "",
        "" if view.declared else "not declared here",
    ]
    return (
        view.name,
        *map(number, ("queued", "running", "retrying", "failed", "completed")),
        f"{view.dead_letters:,}",
        None if view.oldest_waiting is None else seconds_text(view.oldest_waiting),
        workers,
        ", ".join(filter(None, marks)),
    )


def records_alone(error: str) -> str:
    """What is said of figures of queues whose server did not answer."""
    return f"the server of queues did not answer, and these are the records alone: {error}"


def _tell(output: Output, views: Sequence[QueueView]) -> None:
    """What the table's reader should know."""
    if (error := next((view.error for view in views if view.error is not None), None)) is not None:
        output.warning(records_alone(error))
    if any(not count.exact for view in views for count in view.records.values()):
        output.note("+ is at least: of each status the newest 10,000 records are counted.")
    for view in views:
        if view.oldest_waiting is not None and view.standing is not None and view.standing.workers == []:
            output.hint(f"nobody works on queue {view.name}: `taurine worker --queue {view.name}`")
