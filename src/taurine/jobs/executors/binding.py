"""How a handler is called in a process of its own: its payload checked, its context built.

A runtime with a context of its own names its own binder, `ProcessExecutor(binder="module:function")`; this is the plain one.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, get_type_hints

from pydantic import TypeAdapter

from taurine.jobs.executors.call import takes_context
from taurine.jobs.executors.link import Link
from taurine.jobs.executors.process_context import ProcessContext
from taurine.retry import Verdict, classify

__all__ = ["Binder", "Bound", "bind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A handler ready to be called. invoke: returns the result or a coroutine of it. classify: judges its errors, the job type's rules included."""

    invoke: Callable[[], Any]
    classify: Callable[[BaseException], Verdict] = classify


class Binder(Protocol):
    """Makes a handler ready to be called, in its process, before each attempt."""

    def __call__(
        self, found: Any, handler: Callable[..., Any], payload: str, snapshot: Mapping[str, Any], link: Link
    ) -> Bound:
        """found: what stands under the handler's name, a job type perhaps; handler: the function in it. payload: as JSON text.
        snapshot: what the context of the worker's side gave. What this raises fails the attempt.
        """
        ...


def bind(found: Any, handler: Callable[..., Any], payload: str, snapshot: Mapping[str, Any], link: Link) -> Bound:
    """The plain binder: the payload as the handler's first parameter is annotated, and a ProcessContext."""
    value = _payload_type(handler).validate_json(payload)
    if not takes_context(handler):
        return Bound(invoke=lambda: handler(value))
    context = ProcessContext(snapshot, link)
    return Bound(invoke=lambda: _with_state_saved(lambda: handler(value, context), context))


def _with_state_saved(invoke: Callable[[], Any], context: ProcessContext) -> Any:
    """Call the handler, and tell the worker of the state that it leaves, also when it fails."""
    later = False
    try:
        value = invoke()
        later = inspect.isawaitable(value)
        return _awaited(value, context) if later else value
    finally:
        if not later:
            context.save_state()


async def _awaited(value: Awaitable[Any], context: ProcessContext) -> Any:
    try:
        return await value
    finally:
        context.save_state()


@lru_cache(maxsize=256)
def _payload_type(handler: Callable[..., Any]) -> TypeAdapter[Any]:
    hints = get_type_hints(handler)
    first = next(iter(inspect.signature(handler).parameters))
    return TypeAdapter(hints.get(first, Any))
