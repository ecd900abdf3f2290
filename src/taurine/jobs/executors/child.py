"""The process that runs handlers one after the other, as its worker tells it: `python -m taurine.jobs.executors.child
DESCRIPTOR`.

Handlers run in the main thread, where signals and native libraries expect them; a second thread listens to the worker.
The process ends when the worker says so, when the worker is gone, or when it is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import inspect
import io
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Awaitable
from pathlib import Path
from types import FrameType
from typing import Any, cast

from pydantic_core import to_jsonable_python

from taurine.errors import PayloadError
from taurine.jobs.executors.binding import Binder, Bound
from taurine.jobs.executors.call import exited
from taurine.jobs.executors.failures import describe_failure
from taurine.jobs.executors.frames import Message
from taurine.jobs.executors.link import Link, LinkLogHandler
from taurine.jobs.executors.located import Target, find, handler_of, run_main_module
from taurine.retry import classify

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> int:
    """Serve the worker at the other end of the socket `descriptor`; returns the exit code."""
    # A process that a handler makes must not hold the line open when this one has died.
    os.set_inheritable(descriptor, False)
    link = Link(socket.socket(fileno=descriptor))
    hello = link.receive()
    if hello is None:
        return 1
    try:
        _settle_in(hello, link)
        binder: Binder = find(Target(*hello["binder"]))
        for target in hello["targets"]:
            _find(Target(*target), hello["main"])
    except BaseException as error:  # noqa: BLE001 - importing a module may raise anything
        link.send({"type": "not_started", "error": describe_failure(error, classify)})
        return 1
    link.send({"type": "ready"})
    threading.Thread(target=link.listen, name="taurine-link", daemon=True).start()
    with asyncio.Runner() as runner:
        while (order := link.next_order()) is not None:
            _run(order, binder, link, runner)
    return 0


def _settle_in(hello: Message, link: Link) -> None:
    _die_with(hello["worker_pid"])
    _leave_signals_to_worker()
    faulthandler.enable(all_threads=False)
    cast("io.TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    logging.basicConfig(level=hello["log_level"], handlers=[LinkLogHandler(link)])
    sys.path[:] = hello["path"]
    sys.argv[:] = hello["argv"]


def _find(target: Target, main: Message | None) -> Any:
    if target.module == "__main__" and main is not None and "__mp_main__" not in sys.modules:
        run_main_module(main)
    return find(target)


def _die_with(worker_pid: int) -> None:
    """Have the kernel kill this process when the worker dies; elsewhere the closed line must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker_pid:  # it died before
        os._exit(1)


def _leave_signals_to_worker() -> None:
    # Service managers signal whole groups: the worker drains, and needs its processes for that. A function rather than SIG_IGN, which would be
    # inherited by the programs that handlers start.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _heard)


def _heard(number: int, frame: FrameType | None) -> None:
    pass


def _run(order: Message, binder: Binder, link: Link, runner: asyncio.Runner) -> None:
    call, bound = order["call"], None
    link.begin(call)
    reply: Message = {"type": "ended", "call": call}
    try:
        target = Target(*order["target"])
        found = _find(target, order["main"])
        bound = binder(found, handler_of(found, target), order["payload"], order["context"], link)
        reply["value"] = _as_json(_invoke(bound, link, runner))
    except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome of its attempt
        failure = exited(error) if isinstance(error, SystemExit) else error
        reply["error"] = describe_failure(failure, classify if bound is None else bound.classify)
    link.end()
    _send(link, reply)


def _send(link: Link, reply: Message) -> None:
    reply["memory"] = _memory()
    try:
        link.send(reply)
    except PayloadError as error:
        link.send(
            {"type": "ended", "call": reply["call"], "error": describe_failure(error, classify), "memory": _memory()}
        )


def _invoke(bound: Bound, link: Link, runner: asyncio.Runner) -> Any:
    value = bound.invoke()
    return runner.run(_awaited(value, link)) if inspect.isawaitable(value) else value


async def _awaited(value: Awaitable[Any], link: Link) -> Any:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    link.on_cancel(lambda: loop.call_soon_threadsafe(task.cancel))
    return await value


def _as_json(value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except ValueError as error:
        raise PayloadError(f"the result cannot be stored as JSON: {error}") from error


def _memory() -> int:
    """Bytes of memory in use."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        # The highest so far, in bytes on macOS and in KiB elsewhere.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
