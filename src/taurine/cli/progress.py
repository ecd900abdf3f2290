"""Showing how far something is, on stderr: a bar where stderr is a terminal, else a line when the state changes and
every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from taurine.cli.output import plain

if TYPE_CHECKING:
    from taurine.cli.output import Output

__all__ = ["Show", "progress"]

LINE_SECONDS = 3.0
"""Seconds between two lines where there is no terminal."""


class Show(Protocol):
    """Shows how far something is."""

    def __call__(self, state: str, done: float | None = None, total: float | None = None, text: str = "") -> None:
        """Show a state in a word, how much is done of how much, None for unknown, and what else there is to say."""
        ...


@contextmanager
def progress(output: Output) -> Generator[Show]:
    """What it gives is called at each change, however often."""
    if not output.is_live:
        yield _lines(output)
        return
    from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Bar(BarColumn):
        """Nothing where there is no whole of which something could be done."""

        def render(self, task: Task) -> Any:
            return Text() if task.total is None else super().render(task)

    columns = (
        TextColumn("{task.description}", style="bold"),
        Bar(bar_width=30),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=output.side, transient=True) as bars:
        task = bars.add_task("", total=None, text="")

        def show(state: str, done: float | None = None, total: float | None = None, text: str = "") -> None:
            words = " ".join(filter(None, (_share(done, total), plain(text).replace("\n", " "))))
            bars.update(task, description=state, total=total, completed=done or 0, text=words)

        yield show


def _lines(output: Output) -> Show:
    last_line, last_at, last_state = "", -LINE_SECONDS, ""

    def show(state: str, done: float | None = None, total: float | None = None, text: str = "") -> None:
        nonlocal last_line, last_at, last_state
        line = " ".join(filter(None, (state, _share(done, total), text)))
        now = time.monotonic()
        if line == last_line or (state == last_state and now - last_at < LINE_SECONDS):
            return
        last_line, last_at, last_state = line, now, state
        output.note(line)

    return show


def _share(done: float | None, total: float | None) -> str:
    if done is None:
        return ""
    if not total:
        return f"{done:,.10g}"
    return f"{done:,.10g} of {total:,.10g} ({done / total:.0%})"
