"""Starting a command anew when source files change: this process watches, a child does the work.

The child is ended as a deployment would end it, by SIGTERM with its grace, so that what it was running is handed back.
One that ends by itself with an error, such as a file that cannot be imported, is started again at the next change.
Should this process be killed, the child ends too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taurine.cli.failures import DONE
from taurine.errors import InvalidOption
from taurine.jobs.worker.supervisor import LIFELINE, LIFELINE_GRACE, how_ended

if TYPE_CHECKING:
    from taurine.cli.output import Output

__all__ = ["can_reload", "child_command", "refuse_without_watchfiles", "run_reloading"]

_TIME_TO_END = 15.0
"""Seconds beyond its grace that a child has to end before it is killed."""


def can_reload() -> bool:
    """True where the library that watches files is installed."""
    return find_spec("watchfiles") is not None


def refuse_without_watchfiles() -> None:
    """Raise InvalidOption where files cannot be watched."""
    if not can_reload():
        raise InvalidOption('--reload needs the package watchfiles: pip install "taurine[dev]"')


def child_command(*words: str) -> int:
    """What the child does: the command line of these words. Called by `taurine.jobs.worker.supervised`."""
    from taurine.cli.program import program

    program(list(words), prog_name="taurine")
    return DONE


async def run_reloading(words: Sequence[str], output: Output, *, folder: Path, grace: float) -> int:
    """Run `taurine WORDS…` in a child, anew at each change of a Python file below `folder`, until SIGINT or SIGTERM;
    returns the exit code.

    grace: seconds that the child may take to end what it runs. A second signal is passed on to the child, which ends at
    once then.
    A child that ends by itself and without an error ends this too.
    """
    signals = _Signals()
    lifeline = os.pipe()
    try:
        with signals:
            async with aclosing(_changes(folder, signals.stopped)) as changes:
                return await _run(words, output, changes, signals=signals, lifeline=lifeline[0], grace=grace)
    finally:
        for end in lifeline:
            os.close(end)


class _Signals:
    """SIGINT and SIGTERM during a block. stopped: after the first. again: after the second."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.again = asyncio.Event()

    def _hear(self) -> None:
        (self.again if self.stopped.is_set() else self.stopped).set()

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._hear)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)


async def _changes(folder: Path, stopped: asyncio.Event) -> AsyncGenerator[list[str]]:
    """The files that have changed, again and again."""
    from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType] - it names a type of trio's, which is not here

    async for changed in awatch(folder, watch_filter=PythonFilter(), stop_event=stopped, debounce=400, step=50):
        yield sorted({str(Path(path).relative_to(folder)) for _, path in changed})


async def _run(
    words: Sequence[str],
    output: Output,
    changes: AsyncGenerator[list[str]],
    *,
    signals: _Signals,
    lifeline: int,
    grace: float,
) -> int:
    change: asyncio.Task[Any] = asyncio.ensure_future(anext(changes, []))
    stop = asyncio.ensure_future(signals.stopped.wait())
    try:
        while True:
            child = await _start(words, lifeline, grace)
            ended = asyncio.ensure_future(child.wait())
            try:
                await asyncio.wait({ended, change, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                was_running = not ended.done()
                await _end(child, signals, grace)
                code = await ended
            if stop.done() or (code == DONE and not was_running):
                return code
            if not was_running:
                output.warning(f"it ended with {how_ended(code)}, and is started again when a file changes")
                await asyncio.wait({change, stop}, return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    return code
            output.note(f"{_listed(change.result())} changed: starting again", "dim")
            change = asyncio.ensure_future(anext(changes, []))
    finally:
        stop.cancel()
        signals.stopped.set()  # the watcher's thread ends by it
        with suppress(asyncio.CancelledError):
            await change


async def _start(words: Sequence[str], lifeline: int, grace: float) -> Process:
    program = (sys.executable, "-m", "taurine.jobs.worker.supervised", f"{__name__}:child_command")
    variables = {LIFELINE: str(lifeline), LIFELINE_GRACE: str(grace)}
    # A session of its own: Ctrl-C in the terminal reaches it once, through us.
    return await asyncio.create_subprocess_exec(
        *program, *words, env={**os.environ, **variables}, pass_fds=(lifeline,), start_new_session=True
    )


async def _end(child: Process, signals: _Signals, grace: float) -> None:
    """Let it end in good order; at once after a second signal, and for certain some time after its grace."""
    _send(child, signal.SIGTERM)
    waiting = asyncio.ensure_future(child.wait())
    again = asyncio.ensure_future(signals.again.wait())
    try:
        await asyncio.wait({waiting, again}, timeout=grace + _TIME_TO_END, return_when=asyncio.FIRST_COMPLETED)
        if again.done():
            _send(child, signal.SIGINT)  # of another kind: two of one kind that come at once are delivered as one
            await asyncio.wait({waiting}, timeout=_TIME_TO_END)
    finally:
        again.cancel()
        if not waiting.done():
            _send(child, signal.SIGKILL)
        await waiting


def _send(child: Process, number: int) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.send_signal(number)


def _listed(files: Sequence[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
