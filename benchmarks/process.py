"""One process of a peer, seen from outside: told to go, heard when it is done."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from benchmarks.peers import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

DEADLINE_SECONDS = 240.0


class PeerFailed(Exception):
    """A peer's process ended, or stood still, before it had measured anything."""


@dataclass(frozen=True)
class Measured:
    """What a process reports when its action is done.

    delays: seconds, one for each job. sizes: bytes of its memory, at the times that the action says.
    """

    seconds: float
    cpu_seconds: float
    delays: Sequence[float] = ()
    sizes: Sequence[int] = ()


class PeerProcess:
    """A started process. It has connected and waits for `go`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders: IO[str] = process.stdin
        self._lines: IO[str] = process.stdout
        self._next_report("ready")

    def go(self) -> None:
        self._orders.write("go\n")
        self._orders.flush()

    def done(self) -> Measured:
        """Wait until the action is done."""
        report = self._next_report("done")
        del report["event"]
        return Measured(**report)

    def run(self) -> Measured:
        self.go()
        return self.done()

    def _next_report(self, event: str) -> dict[str, Any]:
        for line in self._lines:
            # A library may print lines of its own.
            if line.startswith('{"event"'):
                report = json.loads(line)
                if report["event"] == event:
                    return report
        raise PeerFailed(f"the process {self._process.args!r} ended before it was {event}")


@contextmanager
def started(command: Sequence[str], action: str, url: str, **options: object) -> Generator[PeerProcess]:
    """The peer's process for an action, ready to go; it is ended when the block is left.

    A process that takes longer than DEADLINE_SECONDS in all is killed, and raises PeerFailed.
    """
    words = [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        [*command, action, f"--url={url}", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    timer = threading.Timer(DEADLINE_SECONDS, process.kill)
    timer.start()
    try:
        yield PeerProcess(process)
    finally:
        _end(process)
        timer.cancel()


def run(command: Sequence[str], action: str, url: str, **options: object) -> Measured:
    """Start a process, let it do its action at once, and wait for its end."""
    with started(command, action, url, **options) as process:
        return process.run()


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=2.0)
    except subprocess.TimeoutExpired:
        # Nothing that is measured depends on how a worker goes away.
        process.kill()
        process.wait()
