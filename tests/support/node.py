"""Run a Node script of tests/interop/node beside a test, and talk to it in lines of JSON.

    async with NodeProcess("producer.mjs", redis_url, prefix) as node:
        node.send({"add": "job-1"})
        reply = await node.receive()

The script finds BullMQ by Node's own rule, in the node_modules of the repository's root. What it writes to stderr is
kept, and shown with every failure here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["NodeProcess"]

_ROOT = Path(__file__).parents[2]
_SCRIPTS = _ROOT / "tests" / "interop" / "node"
_LINE_BYTES = 16 * 1024 * 1024
_EXIT_SECONDS = 10.0


@functools.cache
def _node_program() -> str:
    """The Node that `make` uses. It is looked for once: that takes a third as long as Node with BullMQ takes to start."""
    asked = [sys.executable, _ROOT / "tools" / "node.py", "node", "-p", "process.execPath"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


class NodeProcess:
    """One Node process; it starts with `async with`, and has ended after it.

    script: file name in tests/interop/node. arguments are its process.argv from the third on.
    """

    def __init__(self, script: str, *arguments: str) -> None:
        self._script = script
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        # A file, since a pipe that nobody reads would stop the script when it is full; it ends with the `async with`.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def stderr(self) -> str:
        """What the script has complained of so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    async def __aenter__(self) -> Self:
        assert (_ROOT / "node_modules" / "bullmq").is_dir(), "node_modules is missing: run the tests with `make test`"
        self._process = await asyncio.create_subprocess_exec(
            _node_program(),
            _SCRIPTS / self._script,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._stderr,
            limit=_LINE_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self.kill()
            await self.close()
        finally:
            if error is not None:
                error.add_note(f"{self._script} said on stderr:\n{self.stderr}")
            self._stderr.close()

    def send(self, message: Any) -> None:
        """Write one line; the script reads it when it comes to it."""
        stdin = self._running().stdin
        assert stdin is not None
        stdin.write(json.dumps(message).encode() + b"\n")

    async def receive(self, timeout: float = 20.0) -> Any:
        """The next line the script wrote.

        Raises AssertionError when none comes within timeout seconds, or it has ended.
        """
        stdout = self._running().stdout
        assert stdout is not None
        try:
            line = await asyncio.wait_for(stdout.readline(), timeout)
        except TimeoutError:
            raise AssertionError(f"{self._script} sent nothing for {timeout:g} s") from None
        if not line:
            raise AssertionError(f"{self._script} ended, with exit code {await self._running().wait()}")
        return json.loads(line)

    def freeze(self) -> None:
        """SIGSTOP: it runs no further, and its connections stay open."""
        self._running().send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._running().kill()

    async def close(self) -> int:
        """End the script's input, wait for its exit, and return the exit code. Safe to repeat.

        Raises AssertionError, and kills it, when it does not end by itself within ten seconds.
        """
        process = self._running()
        assert process.stdin is not None
        process.stdin.close()
        try:
            # Reading to the end lets a script finish that has more to say.
            await asyncio.wait_for(process.communicate(), _EXIT_SECONDS)
        except TimeoutError:
            self.kill()
            await process.wait()
            raise AssertionError(f"{self._script} did not end when its input did; stderr:\n{self.stderr}") from None
        assert process.returncode is not None
        return process.returncode

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "use it in `async with`"
        return self._process
