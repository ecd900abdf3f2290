"""Handlers for the tests of execution: those that run in processes of their own are found here by name, and so is their
application.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from taurine.app import Taurine
from taurine.jobs.handler.context import Context
from taurine.retry import Fixed, Retry

__all__ = ["Task", "block", "charge_once", "declared_app", "poll", "remote_job", "say", "segfault"]


class Task(BaseModel):
    """path: of a file in which a handler notes what it does, one line for each thing."""

    number: int = 0
    path: str = ""
    tenant_id: str = "acme"


def note(task: Task, line: str) -> None:
    with Path(task.path).open("a") as file:
        file.write(line + "\n")


declared_app = Taurine("executed", deps={"greeting": "hello"})
"""Made by the import in the process too; there only its deps count."""


@declared_app.job("report.render", queue="remote", runs_in="process", retry=Retry(attempts=2, backoff=Fixed(0)))
def remote_job(task: Task, ctx: Context) -> dict[str, Any]:
    """Uses all that a context has."""
    if ctx.attempt == 1:
        ctx.state["cursor"] = 7
        ctx.save_sync()
        raise ConnectionError("the first attempt fails")
    ctx.progress(1, 4, "one of four")
    ctx.log.info("from a process of password=hunter2", card=1)
    result = ctx.once_sync(f"effect:{ctx.job_id}", lambda: {"pid": os.getpid()})
    again = ctx.once_sync(f"effect:{ctx.job_id}", lambda: {"pid": 0})
    tracked = list(ctx.track([1, 2, 3, 4]))
    return {
        "state": ctx.state,
        "same": result == again,
        "pid": os.getpid(),
        "tracked": tracked,
        "deps": ctx.deps["greeting"],
        "names": [ctx.job_id, ctx.type, ctx.queue, ctx.tenant, ctx.attempt, ctx.max_attempts],
        "created": ctx.created_at.isoformat(),
    }


def needs_deps(_: Task, ctx: Context) -> Any:
    return ctx.deps


def block(_: Task) -> None:
    """Block in C, with the interpreter's lock held, where nothing but a kill helps."""
    ctypes.PyDLL(None).sleep(600)


def segfault(_: Task) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def poll(task: Task, ctx: Context) -> dict[str, int]:
    """Work in small pieces until told to stop; return how many were done."""
    done = 0
    while not ctx.cancelled:
        ctx.progress(done, 1_000_000)
        done += 1
        time.sleep(0.005)
    return {"processed": done}


def say(task: Task, ctx: Context) -> str:
    ctx.log("said")
    return "ok"


def charge_once(task: Task, ctx: Context) -> str:
    return ctx.once_sync("charge:1", charge, task)


def charge(task: Task) -> str:
    note(task, "charged")
    return "receipt"
