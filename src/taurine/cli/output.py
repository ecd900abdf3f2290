"""What commands print: JSON for programs, text for people; and nothing of a user's text that a terminal would obey.

Lines are not wrapped, so that they can be searched and copied; tables are laid out for a terminal's width, and are as
wide as they need elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taurine.jobs.reporting.redaction import Redact

__all__ = ["Output", "console_on", "plain", "table_of"]

_WIDE = 10_000
"""Columns where there is no terminal: nothing is cut."""


def plain(text: object) -> str:
    """A text whose control characters, direction marks and lone surrogates are shown as escapes; line breaks stay."""
    return "".join(
        character if character == "\n" or character.isprintable() else _escaped(character) for character in str(text)
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # Rich would end the process here, with the code of a failure


def console_on(file: IO[str]) -> Console:
    """A console on stdout or stderr. With NO_COLOR it has no styles at all: bold text is in the way of a plain one too."""
    width = None if file.isatty() or os.environ.get("COLUMNS", "").isdigit() else _WIDE
    colors = None if os.environ.get("NO_COLOR") else "auto"
    return _Console(
        file=file, width=width, color_system=colors, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


class Output:
    """Where a command's answer goes. as_json: JSON on stdout and nothing else.

    redact: what must not be shown of what users and handlers wrote; commands ask it, as they alone know which texts
    those are. Default: the usual rules, until `run` gives it those of the application. unredacted: hide nothing.
    """

    def __init__(self, *, as_json: bool, unredacted: bool = False) -> None:
        self.as_json = as_json
        self.redact = Redact.NONE if unredacted else Redact.DEFAULT
        self._console = console_on(sys.stdout)
        self.side = console_on(sys.stderr)
        """stderr: for whatever is not the answer."""

    @property
    def is_live(self) -> bool:
        """True where something that moves can be shown: stderr is a terminal that can go back."""
        return sys.stderr.isatty() and not self.side.is_dumb_terminal

    @property
    def width(self) -> int:
        """Columns of stdout; very many where that is no terminal."""
        return self._console.width

    # The answer -----------------------------------------------------------------------------------------------------------------------

    def json(self, value: Any) -> None:
        """One JSON value; what is not ASCII is escaped, control characters with it."""
        self._console.file.write(json.dumps(value, indent=2) + "\n")

    def json_line(self, value: Any) -> None:
        """One JSON value in one line, now: for commands that go on."""
        self._console.file.write(json.dumps(value) + "\n")
        self._console.file.flush()

    def line(self, text: str = "", style: str = "") -> None:
        self._console.print(Text(plain(text), style))

    def marked(self, word: str, style: str, text: str) -> None:
        """A line that begins with a word in a column of its own."""
        self._console.print(Text.assemble((f"{word:<6}", style), plain(text)))

    def facts(self, facts: Sequence[tuple[str, object]]) -> None:
        """Names and values, one below the other; what is None is left out."""
        table = Table.grid(padding=(0, 2))
        for name, value in facts:
            if value is not None:
                table.add_row(Text(name, "bold"), Text(plain(value), overflow="fold"))
        self._print(table)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[str] = ()) -> None:
        """A table. numbers: the columns that are set to the right."""
        self._print(table_of(columns, rows, numbers=numbers))

    def _print(self, table: Table) -> None:
        # Rich fills cells up to their width; the spaces at the ends of lines are no one's.
        with self._console.capture() as captured:
            self._console.print(table, soft_wrap=False)
        self._console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    # Beside it ------------------------------------------------------------------------------------------------------------------------

    def note(self, text: str, style: str = "") -> None:
        """On stderr: what is good to know, and not what was asked for."""
        self.side.print(Text(plain(text), style))

    def ask(self, text: str) -> None:
        """On stderr, with the cursor left behind it."""
        self.side.print(Text(plain(text), "bold"), end="")

    def warning(self, text: str) -> None:
        """On stderr."""
        self.side.print(Text.assemble(("taurine: ", "bold yellow"), plain(text)))

    def error(self, text: str, *, hint: str | None = None) -> None:
        """On stderr. hint: what to do next, in a line of its own."""
        self.side.print(Text.assemble(("taurine: ", "bold red"), plain(text)))
        if hint is not None:
            self.hint(hint)

    def hint(self, text: str) -> None:
        """On stderr: what to do next."""
        self.side.print(Text.assemble(("hint: ", "bold cyan"), plain(text)))

    def flush(self) -> None:
        """Write out what is left. Raises BrokenPipeError when nobody reads on."""
        self._console.file.flush()


def table_of(columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[str] = ()) -> Table:
    """The same table, to be shown by something that moves."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in numbers else "left")
    for row in rows:
        table.add_row(*(Text("" if cell is None else plain(cell)) for cell in row))
    return table
