"""How a handler is called in a process of its own: its payload checked, its context built.

A runtime with a context of its own names its own binder, `ProcessExecutor(binder="module:function")`; this is the plain one.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, get_type_hints

from pydantic import TypeAdapter

from taurine.jobs.executors.call import takes_context
from taurine.jobs.executors.link import Link
from taurine.retry import Verdict, classify

__all__ = ["Binder", "Bound", "ProcessContext", "bind"]


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


class ProcessContext:
    """The context of a handler in a process of its own: the members of the snapshot, and what can be said to the worker."""

    def __init__(self, snapshot: Mapping[str, Any], link: Link) -> None:
        self._snapshot = snapshot
        self._link = link
        self._state: Any = snapshot.get("state")
        self.log = logging.getLogger("taurine.jobs")

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_snapshot"][name]
        except KeyError:
            raise AttributeError(
                f"the context has no {name!r}; it has {', '.join(self.__dict__.get('_snapshot', ()))}"
            ) from None

    @property
    def cancelled(self) -> bool:
        """True once the attempt is to stop."""
        return self._link.cancelled

    def raise_if_cancelled(self) -> None:
        """Raise Cancel if the attempt is to stop."""
        self._link.raise_if_cancelled()

    @property
    def state(self) -> Any:
        """What an earlier attempt, or this one, has saved. Set it to save."""
        return self._state

    @state.setter
    def state(self, value: Any) -> None:
        self._state = value
        self._link.notify("state", value)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the job is."""
        self._link.notify("progress", {"done": done, "total": total, "message": message})

    def request(self, name: str, body: Any) -> Any:
        """Ask the worker's side of the context."""
        return self._link.request(name, body)


def bind(found: Any, handler: Callable[..., Any], payload: str, snapshot: Mapping[str, Any], link: Link) -> Bound:
    """The plain binder: the payload as the handler's first parameter is annotated, and a ProcessContext."""
    value = _payload_type(handler).validate_json(payload)
    if takes_context(handler):
        context = ProcessContext(snapshot, link)
        return Bound(invoke=lambda: handler(value, context))
    return Bound(invoke=lambda: handler(value))


@lru_cache(maxsize=256)
def _payload_type(handler: Callable[..., Any]) -> TypeAdapter[Any]:
    hints = get_type_hints(handler)
    first = next(iter(inspect.signature(handler).parameters))
    return TypeAdapter(hints.get(first, Any))
