"""One attempt as an executor sees it, and what an executor is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from taurine.errors import HandlerExited

__all__ = ["Call", "CallContext", "Executor", "RemoteContext", "exited", "run_here", "takes_context"]


class CallContext(Protocol):
    """What every executor asks of the context that a handler is given."""

    def request_cancel(self, reason: str) -> None:
        """Set the context's `cancelled` flag; called on the event loop, read in any thread.

        A second call changes nothing.
        """
        ...


class RemoteContext(CallContext, Protocol):
    """What the process executor asks besides, since the handler's own context is in another process."""

    def snapshot(self) -> Mapping[str, Any]:
        """All that the handler may read of its job, its deadline included, as JSON: it is sent along with the payload."""
        ...

    def notify(self, name: str, body: Any) -> None:
        """The handler said something that needs no answer: `progress`, `state`, `log` and what else the two sides agree
        on.
        """
        ...

    async def answer(self, name: str, body: Any) -> Any:
        """The handler asked something; returns JSON. What this raises is raised in the handler."""
        ...


@dataclass(slots=True, kw_only=True)
class Call:
    """One attempt of one job.

    handler: the function to run, as it was declared. payload: its first argument. context: its second argument, left
    out where it takes only one.
    name: what log lines and errors call it. Default: the function's name.
    bound: how to call it in this process, with no arguments, for a runtime that injects further ones. Default:
    `handler(payload, context)`.
    The process executor does not use `bound`: it finds the handler by its name and binds it over there.
    """

    handler: Callable[..., Any]
    payload: Any
    context: CallContext
    name: str = ""
    bound: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            self.name = getattr(self.handler, "__qualname__", repr(self.handler))

    def invoke(self) -> Any:
        """Call the handler; returns its result, or a coroutine of it."""
        if self.bound is not None:
            return self.bound()
        if takes_context(self.handler):
            return self.handler(self.payload, self.context)
        return self.handler(self.payload)


class Executor(Protocol):
    """Runs handlers, each under its time limit."""

    async def start(self) -> None:
        """Get ready. Raises what would make every run fail."""
        ...

    async def run(self, call: Call, *, timeout: float | None) -> Any:
        """The handler's result, or its error raised.

        timeout: seconds from the handler's start; None: no limit. Raises TimeLimitExceeded when it has passed: by then
        the handler has ended or was given up, so its slot is free. Cancelling this call stops the handler in the same
        way. Raises Release when the executor is stopped.
        """
        ...

    async def stop(self) -> None:
        """End everything that was started; runs that are under way end with Release. Harmless when repeated."""
        ...


@lru_cache(maxsize=1024)
def takes_context(handler: Callable[..., Any]) -> bool:
    """True unless the handler takes one positional argument only."""
    positional = 0
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            return True
        positional += parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    return positional > 1


def exited(request: SystemExit) -> HandlerExited:
    """What a handler's `sys.exit` becomes: let through, it would end the process that runs the handler."""
    return HandlerExited(f"the handler called sys.exit({request.code!r})")


async def run_here(invoke: Callable[[], Any]) -> Any:
    """Call a handler on this loop; one that is async is awaited. Raises HandlerExited for its `sys.exit`."""
    try:
        value = invoke()
        return await value if inspect.isawaitable(value) else value
    except SystemExit as request:
        raise exited(request) from request
