"""`taurine top`: how each queue does, again and again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJsonLines
from taurine.cli.failures import DONE, codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group

    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.operations.queues import QueueView
    from taurine.jobs.operations.throughput import Throughput
    from taurine.jobs.operations.workers import WorkerView

__all__ = ["add_to"]

_COLUMNS = ("queue", "waiting", "active", "retrying", "jobs/s", "failed", "wait p95", "oldest", "busy", "workers", "")
_NUMBERS = _COLUMNS[1:-1]

_WINDOW = 60.0
"""Seconds that the rates are of, at least: they are counted by the minute."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One queue at one moment.

    rate: jobs that ended in a second. failed: of those that ended, the share that failed for good; None without any.
    wait: seconds that 95 of 100 jobs waited at most;
    None without any, and infinite where longer than the longest that is counted. oldest: seconds that the first has
    waited. workers: that are connected; None where their server did not answer. busy, slots: of those that have told of
    themselves; None where one of them works on other queues too, since it tells of all together. undelivered: accepted,
    and not handed over to the queue's server yet. error: why that did not answer.
    """

    queue: str
    waiting: int
    active: int
    retrying: int
    rate: float
    failed: float | None
    wait: float | None
    oldest: float | None
    busy: int | None
    slots: int | None
    workers: int | None
    paused: bool
    dead_letters: int
    undelivered: int
    error: str | None


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(top)


def top(
    context: typer.Context,
    *,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    every: Annotated[str, typer.Option(metavar="DURATION", help="How long from one look to the next.")] = "2s",
    as_json: AsJsonLines = False,
) -> None:
    """Watch how the queues do, until Ctrl-C. What waits, runs and fails, how fast, and who works."""

    async def watch(app: Taurine, output: Output) -> int:
        from taurine.cli.reading import read_seconds

        seconds = max(0.1, read_seconds(every, "--every"))
        if output.as_json or once or not output.is_live:
            await _print_each(app, output, seconds, once=once)
        else:
            await _show_live(app, output, seconds)
        return DONE

    run(context, watch, as_json=as_json)


async def _print_each(app: Taurine, output: Output, seconds: float, *, once: bool) -> None:
    from asyncio import sleep

    while True:
        lines, workers = await _look(app)
        if output.as_json:
            output.json_line({"queues": [*map(asdict, map(_finite, lines))]})
        else:
            output.table(_COLUMNS, [*map(_row_of, lines)], numbers=_NUMBERS)
            output.note(_sum_of(lines, workers), "dim")
            if (warning := _warning_of(lines)) is not None:
                output.warning(warning)
            output.flush()
        if once:
            return
        await sleep(seconds)


async def _show_live(app: Taurine, output: Output, seconds: float) -> None:
    from asyncio import sleep

    from rich.live import Live

    with Live(console=output.side, auto_refresh=False, screen=False) as live:
        while True:
            live.update(_drawn(*await _look(app)), refresh=True)
            await sleep(seconds)


async def _look(app: Taurine) -> tuple[list[Line], list[WorkerView]]:
    """Each queue, and the workers that run."""
    from asyncio import gather

    views, rates, workers = await gather(app.queues.list(), app.throughput(window=_WINDOW), app.workers.list())
    by_queue = {rate.queue: rate for rate in rates}
    running = [worker for worker in workers if worker.state == "running"]
    return [_line_of(view, by_queue.get(view.name), running) for view in views], running


def _line_of(view: QueueView, rate: Throughput | None, workers: Sequence[WorkerView]) -> Line:
    standing = view.standing
    own = [worker for worker in workers if view.name in worker.queues]
    told = all(len(worker.queues) == 1 for worker in own)
    return Line(
        queue=view.name,
        waiting=view.records["queued"].number,
        active=view.records["running"].number,
        retrying=view.records["retrying"].number,
        rate=0.0 if rate is None else rate.per_second or 0.0,
        failed=None if rate is None or not rate.ended else rate.failure_rate,
        wait=None if rate is None else rate.wait.quantile(0.95),
        oldest=view.oldest_waiting,
        busy=sum(worker.busy for worker in own) if told else None,
        slots=sum(worker.slots for worker in own) if told else None,
        workers=None if standing is None or standing.workers is None else len(standing.workers),
        paused=standing is not None and standing.paused,
        dead_letters=view.dead_letters,
        undelivered=view.undelivered,
        error=view.error,
    )


def _finite(line: Line) -> Line:
    """JSON has no infinity."""
    from dataclasses import replace
    from math import isinf

    return replace(line, wait=None) if line.wait is not None and isinf(line.wait) else line


def _row_of(line: Line) -> tuple[Any, ...]:
    from math import isinf

    from taurine.jobs.reporting.durations import seconds_text, short_text

    marks = (
        "paused" if line.paused else "",
        f"{line.undelivered:,} not handed over" if line.undelivered else "",
        "nobody works on it" if line.workers == 0 and (line.waiting or line.retrying) else "",
        f"{line.dead_letters:,} dead" if line.dead_letters else "",
    )
    return (
        line.queue,
        f"{line.waiting:,}",
        f"{line.active:,}",
        f"{line.retrying:,}",
        _rate_text(line.rate),
        None if line.failed is None else f"{line.failed:.0%}",
        None if line.wait is None else "long" if isinf(line.wait) else f"≤ {short_text(line.wait)}",
        None if line.oldest is None else seconds_text(line.oldest),
        f"{line.busy:,}/{line.slots:,}" if line.slots else None,
        "?" if line.workers is None else line.workers,
        ", ".join(filter(None, marks)),
    )


def _rate_text(rate: float) -> str:
    """With a digit more where it is low: a job a minute is not nothing."""
    return f"{rate:,.1f}" if rate >= 1 or not rate else f"{rate:.2f}"


def _sum_of(lines: Sequence[Line], workers: Sequence[WorkerView]) -> str:
    """One line about all of them."""
    from datetime import UTC, datetime

    return (
        f"{datetime.now(UTC):%H:%M:%S} UTC · {sum(line.waiting for line in lines):,} waiting · {sum(line.active for line in lines):,} active · "
        f"{_rate_text(sum(line.rate for line in lines))} jobs/s in the last minute · "
        f"{sum(worker.busy for worker in workers):,} of {sum(worker.slots for worker in workers):,} slots busy"
    )


def _warning_of(lines: Sequence[Line]) -> str | None:
    from taurine.cli.commands.queues import records_alone

    error = next((line.error for line in lines if line.error is not None), None)
    return None if error is None else records_alone(error)


def _drawn(lines: Sequence[Line], workers: Sequence[WorkerView]) -> Group:
    from rich.console import Group
    from rich.text import Text

    from taurine.cli.output import plain, table_of

    rows = [*map(_row_of, lines)]
    parts = [table_of(_COLUMNS, rows, numbers=_NUMBERS), Text(), Text(_sum_of(lines, workers), "dim")]
    if (warning := _warning_of(lines)) is not None:
        parts.append(Text(plain(warning), "yellow"))
    return Group(*parts)
