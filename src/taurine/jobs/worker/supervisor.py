"""`processes=N`: a parent that keeps N equal worker processes running and does no work itself.

A process that ends although nobody told it to is started again, after a pause that doubles each time and is forgotten
once a process has run for a while.
Processes that end before they were ready, several in a row, mean that the program itself is broken: then the supervisor
stops them all and says so. A process that was ready and then crashes, by a poisonous job perhaps, does not count there.

SIGTERM or SIGINT is passed on as SIGTERM; who has not ended after the grace time is killed. A second one is passed on
too, and shortens that time. Should the supervisor itself be killed, the pipe to its processes closes: see `supervised`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from asyncio import Event
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress

from taurine.clock import Clock, SystemClock
from taurine.errors import SupervisorGaveUp
from taurine.options import require_count, to_seconds
from taurine.queue.signals import listening

__all__ = ["LIFELINE", "LIFELINE_GRACE", "READINESS", "Supervisor"]

log = logging.getLogger("taurine.jobs")

LIFELINE = "TAURINE_LIFELINE"
"""The variable that tells a process which descriptor closes when its supervisor is gone."""

LIFELINE_GRACE = "TAURINE_LIFELINE_GRACE"
"""The variable with the seconds that it then has to end by itself."""


READINESS = "TAURINE_READINESS"
"""The variable that tells a process which descriptor to write to when it is ready: see `supervised.report_ready`."""

_NOT_FOUND = 127
"""The exit code that shells use for a program that cannot be run."""


class Supervisor:
    """Starts `command` as `processes` processes and keeps them running.

    command: the program and its arguments. environment: what is added to this process's own. Default: nothing. Each
    process is told its number, from 1, in TAURINE_PROCESS.
    processes: how many. grace: seconds that they have to end after a signal; then they are killed. Default: 30.
    hurried_grace: seconds that they have to end after a second one. Default: 10.
    healthy_after: seconds after which a process counts as started, if it has not said so before; an end before is a
    start failure. Default: 5.
    max_start_failures: so many start failures in a row, over all processes, end everything. Default: 5.
    backoff: seconds before the first restart, doubled each time up to `longest_backoff`. Default: 0.5, up to 30.
    on_started: called once each of the processes counts as started. Default: nothing. hint: what to do about processes
    that do not start; it ends the error that says so. Default: the command.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        processes: int,
        environment: Mapping[str, str] | None = None,
        grace: float = 30.0,
        hurried_grace: float = 10.0,
        healthy_after: float = 5.0,
        max_start_failures: int = 5,
        backoff: float = 0.5,
        longest_backoff: float = 30.0,
        on_started: Callable[[], None] | None = None,
        hint: str = "",
        clock: Clock | None = None,
    ) -> None:
        self._command = tuple(command)
        self._count = require_count(processes, "processes", minimum=1)
        self._environment = dict(environment or {})
        self._grace = to_seconds(grace, "grace")
        self._hurried_grace = to_seconds(hurried_grace, "hurried_grace")
        self._healthy_after = to_seconds(healthy_after, "healthy_after")
        self._max_start_failures = require_count(max_start_failures, "max_start_failures", minimum=1)
        self._backoff = to_seconds(backoff, "backoff")
        self._longest_backoff = to_seconds(longest_backoff, "longest_backoff", minimum=self._backoff)
        self._on_started = on_started
        self._hint = hint or f"The command was: {' '.join(self._command)}"
        self._clock = clock or SystemClock()
        self._running: dict[int, Process] = {}
        self._not_started = set(range(1, self._count + 1))
        self._stopping = Event()
        self._hurried = False
        self._kept = 0
        self._all_ended = Event()
        self._hurried_or_ended = Event()
        self._start_failures = 0
        self._gave_up: SupervisorGaveUp | None = None
        self.restarts = 0
        """Processes that were started again so far."""

    @property
    def pids(self) -> dict[int, int]:
        """The running processes: their ids by their number."""
        return {number: process.pid for number, process in self._running.items()}

    async def run(self, *, handle_signals: bool = True) -> None:
        """Keep the processes running until `stop`; returns when all have ended.

        handle_signals: SIGTERM and SIGINT call `stop`, a second one `hurry`. Default: True.
        Raises SupervisorGaveUp when the processes do not start, and InvalidOption outside the main thread with
        `handle_signals`.
        """
        lifeline = os.pipe()
        self._kept = self._count
        signals = listening(self._hear) if handle_signals else nullcontext()
        try:
            with signals:
                await self._run_all(lifeline[0])
        finally:
            for end in lifeline:
                os.close(end)
        if self._gave_up is not None:
            raise self._gave_up

    async def _run_all(self, lifeline: int) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(1, self._count + 1):
                    group.create_task(self._keep(number, lifeline), name=f"taurine supervised {number}")
                group.create_task(self._end_all(), name="taurine supervisor end")
        finally:
            for process in self._running.values():
                _signal(process, signal.SIGKILL)
            await asyncio.gather(*(process.wait() for process in self._running.values()))

    def stop(self) -> None:
        """Tell the processes to end, as a SIGTERM does; `run` returns when they have. Harmless when repeated."""
        self._stopping.set()

    def hurry(self) -> None:
        """Tell the processes to end at once, as a second signal does. Harmless when repeated."""
        self._hurried = True
        self.stop()
        self._hurried_or_ended.set()

    def _hear(self) -> None:
        if self._stopping.is_set():
            log.info("a second signal: the worker processes are told to end at once")
            self.hurry()
            return
        log.info("a signal: the worker processes are told to end")
        self.stop()

    async def _keep(self, number: int, lifeline: int) -> None:
        """Run process `number`, again and again, until all are told to end."""
        pause = self._backoff
        try:
            while not self._stopping.is_set():
                started = self._clock.monotonic()
                code, ready = await self._run_one(number, lifeline)
                lasted = self._clock.monotonic() - started
                if self._stopping.is_set():
                    return
                if lasted >= self._healthy_after:
                    pause = self._backoff
                if ready or lasted >= self._healthy_after:
                    self._start_failures = 0
                    self._note_start(number)
                elif self._count_start_failure(code):
                    return
                log.error(
                    "worker process %d ended by itself with %s after %.1f s; it is started again in %g s",
                    number, how_ended(code), lasted, pause,
                )  # fmt: skip
                if await self._clock.wait(self._stopping, pause):
                    return
                pause = min(pause * 2, self._longest_backoff)
                self.restarts += 1
        finally:
            self._kept -= 1
            if self._kept == 0:
                self._all_ended.set()
                self._hurried_or_ended.set()

    async def _run_one(self, number: int, lifeline: int) -> tuple[int, bool]:
        """Run process `number` to its end; returns its return code, and whether it had said that it was ready."""
        readiness = _Readiness()
        environment = {
            **os.environ,
            **self._environment,
            "TAURINE_PROCESS": str(number),
            LIFELINE: str(lifeline),
            LIFELINE_GRACE: str(self._grace),
            READINESS: str(readiness.theirs),
        }
        try:
            # A session of its own: Ctrl-C in the terminal reaches it once, through us.
            process = await asyncio.create_subprocess_exec(
                *self._command, env=environment, pass_fds=(lifeline, readiness.theirs), start_new_session=True
            )
        except OSError as error:
            readiness.close()
            self._give_up(f"the worker process cannot be made: {error}", _NOT_FOUND)
            return _NOT_FOUND, False
        self._running[number] = process
        if self._stopping.is_set():  # told while it was made
            _signal(process, signal.SIGTERM)
        log.info("worker process %d runs as pid %d", number, process.pid)
        start = asyncio.create_task(self._watch_start(number, readiness), name=f"taurine supervised {number} start")
        try:
            code = await process.wait()
            del self._running[number]
            return code, readiness.look()
        finally:
            start.cancel()
            readiness.close()

    async def _watch_start(self, number: int, readiness: _Readiness) -> None:
        await self._clock.wait(readiness.reported, self._healthy_after)
        self._note_start(number)

    def _note_start(self, number: int) -> None:
        if number not in self._not_started:
            return
        self._not_started.remove(number)
        if not self._not_started and self._on_started is not None:
            self._on_started()

    def _count_start_failure(self, code: int) -> bool:
        """True when this was one too many: everything ends."""
        self._start_failures += 1
        if self._start_failures < self._max_start_failures:
            return False
        self._give_up(
            f"{self._start_failures} worker processes in a row ended within {self._healthy_after:g} s of their start, the last one with "
            f"{how_ended(code)}; what they printed says why. {self._hint}",
            code,
        )
        return True

    def _give_up(self, message: str, code: int) -> None:
        if self._gave_up is None:
            log.error("%s", message)
            self._gave_up = SupervisorGaveUp(message, exit_code=code)
        self.stop()

    async def _end_all(self) -> None:
        """Once told to stop: pass it on, wait, kill."""
        await self._stopping.wait()
        self._signal_all(signal.SIGTERM)
        grace = self._grace
        await self._clock.wait(self._hurried_or_ended, grace)
        if self._hurried:
            # Of another kind: two signals of one kind that come at once are delivered as one.
            self._signal_all(signal.SIGINT)
            grace = self._hurried_grace
            await self._clock.wait(self._all_ended, grace)
        for number in self._running:
            log.error("worker process %d did not end within %g s and is killed", number, grace)
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: int) -> None:
        for process in list(self._running.values()):
            _signal(process, number)


class _Readiness:
    """A pipe with room for one word: a process writes to it when it is ready."""

    def __init__(self) -> None:
        self.reported = Event()
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._ours, self.look)

    def look(self) -> bool:
        """Whether the process has said that it is ready; asked by the loop, and once more when it has ended, in case
        the loop was slower.
        """
        with suppress(BlockingIOError):  # nothing written, or read before
            if os.read(self._ours, 1):
                self.reported.set()
        return self.reported.is_set()

    def close(self) -> None:
        self._loop.remove_reader(self._ours)
        os.close(self._ours)
        os.close(self.theirs)


def how_ended(code: int) -> str:
    """A process's return code in words: `exit code 3`, `signal 9 (SIGKILL)`."""
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"signal {-code} ({signal.Signals(-code).name})"
    return f"signal {-code}"


def _signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
