"""The worker's side of one process that runs handlers."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import os
import signal
import socket
import sys
from asyncio import Event, ReadTransport, StreamReader, StreamWriter, Task
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from taurine.errors import WorkerProcessDied, WorkerProcessNotStarted
from taurine.jobs.executors.call import Call, RemoteContext
from taurine.jobs.executors.failures import describe_failure, restore_failure
from taurine.jobs.executors.frames import Message, encode_frame, read_frame
from taurine.jobs.executors.located import Target, main_module
from taurine.retry import classify

__all__ = ["ChildProcess", "Work"]

log = logging.getLogger("taurine.jobs")

_EXIT_TIME = 5.0
"""Seconds that an idle process has to end in good order."""

_LAST_WORDS = 0.5
"""Seconds in which what a dead process has left in its pipes is read. A process that it has made may hold them open for
ever.
"""

_LONGEST_LINE = 16 * 1024
_TAIL_LINES = 20


@dataclass(slots=True, eq=False)
class Work:
    """One attempt in a process, and how it ended."""

    number: int
    call: Call
    context: RemoteContext
    variables: contextvars.Context = field(default_factory=contextvars.copy_context)
    """What log lines of the attempt carry."""
    ended: Event = field(default_factory=Event)
    """Set when the attempt has ended, or the executor stops without waiting for it any longer."""
    began: bool = False
    reply: Message | None = None
    error: BaseException | None = None

    @property
    def finished(self) -> bool:
        return self.reply is not None or self.error is not None

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        assert self.reply is not None
        if "error" in self.reply:
            raise restore_failure(self.reply["error"])
        return self.reply["value"]


class _Output(asyncio.Protocol):
    """What a process prints, line by line, as log lines of the attempt that it runs."""

    def __init__(self, child: ChildProcess, stream: str, level: int) -> None:
        self._child = child
        self._stream = stream
        self._level = level
        self._rest = b""
        self.closed = Event()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._put(line)
        if len(self._rest) > _LONGEST_LINE:
            self._put(self._rest)
            self._rest = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._put(self._rest)
        self.closed.set()

    def _put(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        self._child.printed(self._stream, self._level, text)


class ChildProcess:
    """One process: made, given one attempt at a time, retired or killed. Its `dead` is set when nothing of it is left."""

    def __init__(self) -> None:
        self.jobs_done = 0
        self.memory = 0
        """Bytes in use after the last attempt."""
        self.dead = Event()
        self.killed = False
        self._work: Work | None = None
        self._last: Work | None = None
        self._ready = Event()
        self._not_started: Message | None = None
        self._numbers = itertools.count(1)
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._answers: set[Task[None]] = set()
        self._outputs: list[tuple[ReadTransport, _Output]] = []
        self._process: Process | None = None
        self._watching: Task[None] | None = None
        self._reader: StreamReader
        self._writer: StreamWriter

    @property
    def made(self) -> bool:
        """True when there is a process, or was one."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, hello: Message, timeout: float) -> None:
        """Make the process and wait until it has imported what it is to run.

        Raises WorkerProcessNotStarted when it cannot, or takes longer than `timeout` seconds.
        """
        await self._make()
        try:
            self._send({"type": "hello", **hello})
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        except TimeoutError:
            self.kill()
            raise WorkerProcessNotStarted(
                f"the process for handlers (pid {self.pid}) was not ready after {timeout:g} s{self._printed_last()}"
            ) from None
        except BaseException:
            self.kill()
            raise
        if self._not_started is not None:
            raise self._start_failure(self._not_started)
        if self.dead.is_set():
            raise WorkerProcessNotStarted(
                f"the process for handlers {self._how_it_died()[0]} before it was ready{self._printed_last()}"
            )

    async def _make(self) -> None:
        """Connect first and make the process last, so that no interruption leaves one that nobody watches."""
        ours, theirs = socket.socketpair()
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        ends: list[int] = []
        try:
            for stream, level in (("stdout", logging.INFO), ("stderr", logging.WARNING)):
                ends.append(await self._connect_output(stream, level))
            # A session of its own: Ctrl-C in the terminal is the worker's, and a kill takes along what the handler has started.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "taurine.jobs.executors.child", str(theirs.fileno()),
                stdin=DEVNULL, stdout=ends[0], stderr=ends[1], pass_fds=(theirs.fileno(),), start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()
            for end in ends:
                os.close(end)
        if self.killed:
            self.kill()
        self._watching = asyncio.create_task(self._watch(self._process), name=f"taurine process {self.pid}")

    async def _connect_output(self, stream: str, level: int) -> int:
        """Read a stream of the process; returns the end to write to."""
        end, others = os.pipe()
        output = _Output(self, stream, level)
        pipe = os.fdopen(end, "rb", buffering=0)
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: output, pipe)
        except BaseException:
            pipe.close()
            os.close(others)
            raise
        self._outputs.append((transport, output))
        return others

    def _close(self) -> None:
        for transport, _ in self._outputs:
            transport.close()
        self._writer.close()

    def begin(self, call: Call, context: RemoteContext, target: Target) -> Work:
        """Hand the process an attempt; the returned work tells its end, the process's death included."""
        work = Work(next(self._numbers), call, context)
        order = encode_frame(
            {
                "type": "run",
                "call": work.number,
                "target": [target.module, target.name, target.unwrap],
                "main": main_module() if target.module == "__main__" else None,
                "payload": to_json(call.payload).decode(),
                "context": to_jsonable_python(dict(context.snapshot())),
            }
        )
        self._work = self._last = work
        if self.dead.is_set():
            self._fail(work)
        else:
            self._writer.write(order)
        return work

    def cancel(self, work: Work, reason: str) -> None:
        """Tell the handler that it is to stop; an async one gets CancelledError, a plain one may look."""
        self._send({"type": "cancel", "call": work.number, "reason": reason})

    def kill(self) -> None:
        """End the process, and those it has made, whatever they do."""
        self.killed = True
        if not self.made:
            return  # it is killed as soon as it is
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(self.pid, signal.SIGKILL)

    async def retire(self) -> None:
        """End the process in good order, or kill it."""
        self._send({"type": "exit"})
        try:
            async with asyncio.timeout(_EXIT_TIME):
                await self.dead.wait()
        except TimeoutError:
            log.warning("the process %d for handlers did not end within %g s and is killed", self.pid, _EXIT_TIME)
            self.kill()
            await self.dead.wait()

    def printed(self, stream: str, level: int, text: str) -> None:
        self._tail.append(text)
        self._log(log, level, f"{stream} of process {self.pid}: {text}")

    def _send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode_frame(message))

    async def _watch(self, process: Process) -> None:
        """Read what the process says until it has died; then see to what it leaves behind."""
        reading = asyncio.create_task(self._read(), name=f"taurine process {self.pid} reading")
        await process.wait()
        with suppress(TimeoutError):  # `reading` is cancelled with its wait
            async with asyncio.timeout(_LAST_WORDS):
                await reading
                for _, output in self._outputs:
                    await output.closed.wait()
        if self._work is not None:
            self.kill()  # what the attempt has started must not run on beside the next one
        await self._clear_up()
        self.dead.set()
        self._ready.set()
        if self._work is not None:
            self._fail(self._work)

    async def _clear_up(self) -> None:
        self._close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        for task in self._answers:
            task.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)

    async def _read(self) -> None:
        while (message := await read_frame(self._reader)) is not None:
            try:
                self._take_in(message)
            except Exception:
                log.exception("what process %d said could not be taken in", self.pid)

    def _take_in(self, message: Message) -> None:
        work = self._work if self._work is not None and message.get("call") == self._work.number else None
        match message["type"]:
            case "ready":
                self._ready.set()
            case "not_started":
                self._not_started = message["error"]
                self._ready.set()
            case "log":
                self._log(logging.getLogger(message["logger"]), message["level"], message["text"])
            case "began" if work is not None:
                work.began = True
            case "notify" if work is not None:
                work.variables.copy().run(work.context.notify, message["name"], message["body"])
            case "request" if work is not None:
                answering = asyncio.create_task(self._answer(work, message), context=work.variables.copy())
                self._answers.add(answering)
                answering.add_done_callback(self._answers.discard)
            case "ended" if work is not None:
                self._end(work, message)
            case _:
                pass  # of an attempt that nobody waits for any more

    async def _answer(self, work: Work, message: Message) -> None:
        reply: Message = {"type": "reply", "request": message["request"]}
        try:
            reply["value"] = to_jsonable_python(await work.context.answer(message["name"], message["body"]))
        except Exception as error:  # noqa: BLE001 - it is raised in the handler, which asked
            reply["error"] = describe_failure(error, classify)
        self._send(reply)

    def _end(self, work: Work, reply: Message) -> None:
        self._work = None
        self.jobs_done += 1
        self.memory = reply["memory"]
        work.reply = reply
        work.ended.set()

    def _fail(self, work: Work) -> None:
        self._work = None
        how, by_signal, exit_code = self._how_it_died()
        work.error = WorkerProcessDied(
            f"the process that ran {work.call.name} {how}", signal=by_signal, exit_code=exit_code
        )
        work.ended.set()

    def _how_it_died(self) -> tuple[str, int | None, int | None]:
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return "could not be made", None, None
        if code >= 0:
            return f"exited with code {code}", None, code
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        return f"was killed by signal {-code} ({name})", -code, None

    def _start_failure(self, error: Message) -> WorkerProcessNotStarted:
        failure = WorkerProcessNotStarted(
            f"a process for handlers cannot import what it is to run: {error['type_name']}: {error['message']}"
        )
        failure.add_note(f"In that process:\n\n{error['traceback']}")
        return failure

    def _printed_last(self) -> str:
        return "; it printed last:\n" + "\n".join(self._tail) if self._tail else ""

    def _log(self, logger: logging.Logger, level: int, text: str) -> None:
        work = self._work or self._last
        if work is None:
            logger.log(level, "%s", text)
        else:
            work.variables.copy().run(logger.log, level, "%s", text)
