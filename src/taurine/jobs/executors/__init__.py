"""How a handler's code is run: on the event loop, in a thread, or in a process that can be killed."""

from taurine.jobs.executors.binding import Binder, Bound
from taurine.jobs.executors.call import Call, CallContext, Executor, RemoteContext
from taurine.jobs.executors.choosing import ExecutorKind, executor_for
from taurine.jobs.executors.link import Link
from taurine.jobs.executors.located import check_importable, check_named
from taurine.jobs.executors.loop import LoopExecutor
from taurine.jobs.executors.process import ProcessExecutor
from taurine.jobs.executors.thread import HandlerInterrupted, ThreadExecutor

__all__ = [
    "Binder",
    "Bound",
    "Call",
    "CallContext",
    "Executor",
    "ExecutorKind",
    "HandlerInterrupted",
    "Link",
    "LoopExecutor",
    "ProcessExecutor",
    "RemoteContext",
    "ThreadExecutor",
    "check_importable",
    "check_named",
    "executor_for",
]
