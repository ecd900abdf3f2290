"""What the demo shows: lines, a progress bar on a terminal, a table. Colours follow the terminal and NO_COLOR."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import fields

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from taurine.demo.counts import Counts
from taurine.demo.verdict import Check

__all__ = ["Display"]

_PLAIN_STEPS = 4
"""Lines of progress where there is no terminal."""


class Display:
    """Shows the demo on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, what: str, text: str) -> None:
        """One line: what it is about, and what there is to say."""
        self._console.print(Text.assemble((f"{what:<10}", "bold"), text), soft_wrap=True)

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Generator[Callable[[int], None]]:
        """A bar on a terminal, a line at each quarter elsewhere; call what it gives with the number done so far."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            yield self._plain_progress(label, total)
            return
        columns = (
            TextColumn("{task.description:<9}", style="bold"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _plain_progress(self, label: str, total: int) -> Callable[[int], None]:
        shown = 0

        def show(done: int) -> None:
            nonlocal shown
            step = done * _PLAIN_STEPS // total
            if step > shown:
                shown = step
                self.say(label, f"{done:,} of {total:,}")

        return show

    def table(self, jobs: tuple[Counts, float], loop: tuple[Counts, float]) -> None:
        """Both totals side by side, each with the seconds it took."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        table.add_column("")
        table.add_column("jobs", justify="right", min_width=10)
        table.add_column("plain loop", justify="right", min_width=10)
        for field in fields(Counts):
            name = field.name
            table.add_row(name.replace("_", " "), f"{getattr(jobs[0], name):,}", f"{getattr(loop[0], name):,}")
        table.add_row("seconds", f"{jobs[1]:.1f}", f"{loop[1]:.1f}")
        table.add_row("files a second", f"{_rate(*jobs):,.0f}", f"{_rate(*loop):,.0f}")
        self._console.print()
        self._console.print(table)
        self._console.print()

    def verdict(self, checks: Sequence[Check]) -> None:
        """A line for each check."""
        for check in checks:
            word, style = ("ok", "bold green") if check.holds else ("FAILED", "bold red")
            self._console.print(Text.assemble((f"{word:<10}", style), check.text), soft_wrap=True)


def _rate(counts: Counts, seconds: float) -> float:
    return counts.files / seconds if seconds > 0 else 0.0
