"""Handlers that the tests run in processes of their own, where they are found by this module's name."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from taurine.errors import Permanent, RetryAfter, Snooze, TaurineError
from taurine.jobs.handler.context import Context

held: list[bytearray] = []


class Ticket(BaseModel):
    id: int
    text: str = ""


class Reply(BaseModel):
    doubled: int
    kind: str


class Declared:
    """What a decorator may leave under a function's name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__wrapped__ = function


def pid(_: Any) -> int:
    return os.getpid()


def give_back(payload: Any) -> Any:
    return payload


def double(ticket: Ticket) -> Reply:
    return Reply(doubled=ticket.id * 2, kind=type(ticket).__name__)


async def double_async(ticket: Ticket, context: Any) -> int:
    await asyncio.sleep(0)
    context.progress(1, 2, "half")
    return ticket.id * 2


@Declared
def declared(_: Any) -> str:
    return "declared"


def talk(_: Any, context: Any) -> Any:
    print("printed")
    print("complained", file=sys.stderr)
    logging.getLogger("support.talk").warning("logged %s", context.job_id)
    context.progress(3, 4, "three")
    return context.request("once", {"key": context.job_id})


def log_badly(_: Any) -> str:
    log = logging.getLogger("support.log_badly")
    log.warning("%d items", "three")
    log.warning("long" * 70 * 1024 * 1024)
    log.warning("fine")
    return "done"


def refused(_: Any, context: Any) -> Any:
    context.request("refuse", 5)


def fail(kind: str) -> None:
    errors = {
        "value": ValueError("no good"),
        "permanent": Permanent("never"),
        "retry-after": RetryAfter(30, "later"),
        "snooze": Snooze(5),
        "connection": ConnectionResetError("gone"),
        "exit": SystemExit(4),
    }
    raise errors[kind]


def not_json(_: Any) -> Any:
    return object()


def exit_hard(code: int) -> None:
    os._exit(code)


def abort(_: Any) -> None:
    os.abort()


def segfault(_: Any) -> None:
    ctypes.string_at(0)


def spin(_: Any) -> None:
    while True:
        pass


def block(_: Any) -> None:
    """Block in C with the interpreter's lock held, where nothing but a kill helps."""
    ctypes.PyDLL(None).sleep(600)


def start_program_and_block(path: str) -> None:
    program = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(str(program.pid))
    block(None)


def wait_for_cancel(_: Any, context: Any) -> str:
    context.progress(0)
    while not context.cancelled:
        time.sleep(0.01)
    context.progress(1)
    return "stopped"


def ignore_cancel(_: Any, context: Any) -> None:
    context.progress(0)
    while True:
        time.sleep(0.01)


async def wait_async(_: Any, context: Any) -> None:
    context.progress(0)
    try:
        await asyncio.Event().wait()
    finally:
        context.progress(1)


def fork(_: Any, context: Any) -> str:
    """A process that a library has forked speaks up, and stays."""
    forked = os.fork()
    if forked:
        os.waitpid(forked, 0)
        return "done"
    try:
        logging.getLogger("support.fork").warning("logged by the forked process")
        context.progress(1)
    except TaurineError as error:
        sys.stderr.write(f"{error}\n")
    finally:
        sys.stderr.flush()
        os._exit(0)


def leave_a_fork_and_die(path: str) -> None:
    """The forked process holds every pipe of this one open."""
    done, told = os.pipe()
    if os.fork():
        os.read(done, 1)
        os._exit(3)
    os.setsid()
    Path(path).write_text(str(os.getpid()))
    os.write(told, b"1")
    time.sleep(600)


def hold_memory(size: int) -> int:
    held.append(bytearray(b"x") * size)
    return os.getpid()


def taking_nothing() -> str:
    return "nothing taken"


def scheduled_for(ctx: Context) -> str:
    return "" if ctx.scheduled_for is None else ctx.scheduled_for.isoformat()
