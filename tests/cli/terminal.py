"""A command on a pseudo-terminal: what its user sees there, and the keys that are pressed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Terminal", "without_codes"]

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")


def without_codes(text: str) -> str:
    """What is left of a terminal's output without the codes that colour it and move in it."""
    return _CODES.sub("", text).replace("\r\n", "\n")


_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""The leader of a session takes its terminal, and becomes the command: so Ctrl-C reaches that."""


class Terminal:
    """One command, with the terminal as its stdin, stdout and stderr, and as what its Ctrl-C comes from."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], folder: Path, *, columns: int) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *words],
            cwd=folder,
            env=dict(environment),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.seen = ""
        """Everything that was written so far, codes included."""

    @property
    def text(self) -> str:
        """The same without codes."""
        return without_codes(self.seen)

    async def until(self, pattern: str, within: float = 60.0) -> None:
        """Return when what was seen matches. within: a busy machine may take half a minute to start the command."""
        deadline = time.monotonic() + within
        while not re.search(pattern, self._read()):
            assert time.monotonic() < deadline, f"no {pattern!r} within {within:g} s in:\n{self.text}"
            assert self._process.poll() is None or re.search(pattern, self._read()), (
                f"it ended with {self._process.returncode} before {pattern!r}:\n{self.text}"
            )
            await asyncio.sleep(0.01)

    def press(self, keys: str) -> None:
        """Type these characters; the control character 3 is Ctrl-C."""
        os.write(self._ours, keys.encode())

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self, within: float = 60.0) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + within
        while self._process.poll() is None:
            self._read()
            assert time.monotonic() < deadline, f"still running after {within:g} s:\n{self.text}"
            await asyncio.sleep(0.01)
        self._read()
        assert self._process.returncode is not None
        return self._process.returncode

    def _read(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):  # nothing there; nobody there any more
            while chunk := os.read(self._ours, 65536):
                self.seen += chunk.decode("utf-8", "replace")
        return self.text

    def close(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
        os.close(self._ours)
