"""What the demo shows: lines, progress bars on a terminal, a table. Colours follow the terminal and NO_COLOR."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from taurine.demo.verdict import Row

__all__ = ["Display", "Show"]

_PLAIN_STEPS = 4
"""Lines of progress where there is no terminal."""


class Show:
    """Shows how far several things are; each has a name."""

    def __init__(self, totals: Mapping[str, int]) -> None:
        self.totals = totals

    def __call__(self, name: str, done: int) -> None:
        raise NotImplementedError


class _Bars(Show):
    def __init__(self, totals: Mapping[str, int], progress: Progress) -> None:
        super().__init__(totals)
        self._progress = progress
        self._tasks = {name: progress.add_task(name, total=total) for name, total in totals.items()}

    def __call__(self, name: str, done: int) -> None:
        self._progress.update(self._tasks[name], completed=done)


class _Lines(Show):
    def __init__(self, totals: Mapping[str, int], display: Display) -> None:
        super().__init__(totals)
        self._display = display
        self._shown = dict.fromkeys(totals, 0)

    def __call__(self, name: str, done: int) -> None:
        step = done * _PLAIN_STEPS // self.totals[name]
        if step > self._shown[name]:
            self._shown[name] = step
            self._display.say(name, f"{done:,} of {self.totals[name]:,}")


class Display:
    """Shows the demo on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, what: str, text: str) -> None:
        """One line: what it is about, and what there is to say."""
        self._console.print(Text.assemble((f"{what:<12}", "bold"), text), soft_wrap=True)

    @contextlib.contextmanager
    def progress(self, totals: Mapping[str, int]) -> Generator[Show]:
        """Bars on a terminal, a line at each quarter elsewhere; call what it gives with a name and the number done so
        far.
        """
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            yield _Lines(totals, self)
            return
        columns = (
            TextColumn("{task.description:<11}", style="bold"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bars:
            yield _Bars(totals, bars)

    def table(self, rows: Sequence[Row]) -> None:
        """What happened, and what the witnesses say of it."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        for row in rows:
            mark = Text("ok", style="bold green") if row.holds else Text("FAILED", style="bold red")
            table.add_row(row.name, f"{row.value:,}", mark, row.text)
        self._console.print()
        self._console.print(table)
        self._console.print()
