"""The command `python -m taurine.demo`.

Exit code 0: every check holds. 1: one does not, or the demo could not go on. 130: ended by Ctrl-C or SIGTERM. Whatever the end, no process and no
file of it stays.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import warnings
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from taurine.demo.children import ChildFailed
from taurine.demo.display import Display
from taurine.demo.stage import shared_server
from taurine.demo.story import Story, Stuck
from taurine.errors import TaurineError


def _limit(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m taurine.demo",
        description="Index the standard library, a job each file; kill a worker half-way; lose the queues.",
    )
    parser.add_argument("--limit", type=_limit, metavar="N", help="index only N files, evenly spread; default: all")
    return parser


async def _run(display: Display, limit: int | None) -> bool:
    loop, told_to_stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_stop.set)
    with tempfile.TemporaryDirectory(prefix="taurine-demo-") as name:
        home = Path(name)
        story = Story(home, display, limit=limit)
        story.announce()
        async with shared_server(home) as server, AsyncExitStack() as stack:
            await _unless(told_to_stop, story.tell(server, stack))
    return story.conclude()


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, or cancel it at the event: the work alone, so that whatever ends its processes is let finish."""
    doing, waiting = asyncio.create_task(work), asyncio.create_task(event.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    doing.cancel()
    await doing


def main() -> int:
    """Run the demo; returns the exit code."""
    limit: int | None = _parser().parse_args().limit
    warnings.simplefilter("ignore", SyntaxWarning)  # the indexed files are data here
    display = Display(Console(highlight=False, emoji=False))
    try:
        return 0 if asyncio.run(_run(display, limit)) else 1
    except asyncio.CancelledError:
        display.say("ended", "by a signal; nothing is left behind")
        return 130
    except (ChildFailed, Stuck, TaurineError) as error:
        display.say("FAILED", str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
