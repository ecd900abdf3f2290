"""Programs of supervised processes. Each notes what happens to it in a file: `<number> <word> <pid>` a line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

from taurine.jobs.worker.supervised import report_ready


def note(path: str, word: str) -> None:
    # One write of a short line to a file opened for appending: lines of several processes do not mix.
    with Path(path).open("a") as file:
        file.write(f"{os.environ['TAURINE_PROCESS']} {word} {os.getpid()}\n")


async def serve(path: str) -> None:
    """Run until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    report_ready()
    note(path, "started")
    await told.wait()
    note(path, "told")


def ignore(path: str) -> None:
    """Run whatever one says."""
    signal.signal(signal.SIGTERM, lambda *_: note(path, "told"))
    signal.signal(signal.SIGINT, lambda *_: note(path, "hurried"))
    note(path, "started")
    while True:
        threading.Event().wait(1)


def crash_once_each(path: str) -> int:
    """Crash at the first start of each number, after it was ready; then serve."""
    if f"{os.environ['TAURINE_PROCESS']} started" not in (Path(path).read_text() if Path(path).exists() else ""):
        report_ready()
        note(path, "started")
        os.abort()
    asyncio.run(serve(path))
    return 0


def crash_when_ready(path: str) -> None:
    report_ready()
    note(path, "started")
    os._exit(9)


def fail_to_start(path: str) -> int:
    note(path, "started")
    return 3


def say(*words: str) -> int:
    sys.stdout.write(" ".join(words))
    return 5
