"""Binders as a runtime would write them: what a handler is given in its process."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from taurine.jobs.executors import Bound, Link
from taurine.jobs.executors.call import takes_context
from taurine.retry import Verdict

__all__ = ["PlainContext", "bind", "bind_and_tell"]


class PlainContext:
    """The line to the worker, with as much around it as the handlers of the tests need."""

    def __init__(self, snapshot: Mapping[str, Any], link: Link) -> None:
        self.job_id: str = snapshot["job_id"]
        self._link = link

    @property
    def cancelled(self) -> bool:
        return self._link.cancelled

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        self._link.notify("progress", {"done": done, "total": total, "message": message})

    def request(self, name: str, body: Any) -> Any:
        return self._link.request(name, body)


def bind(found: Any, handler: Callable[..., Any], payload: str, snapshot: Mapping[str, Any], link: Link) -> Bound:
    """The payload as the handler's first parameter is annotated, and a PlainContext."""
    first = next(iter(inspect.signature(handler).parameters))
    value = TypeAdapter[Any](get_type_hints(handler).get(first, Any)).validate_json(payload)
    if not takes_context(handler):
        return Bound(invoke=lambda: handler(value))
    return Bound(invoke=lambda: handler(value, PlainContext(snapshot, link)))


def bind_and_tell(
    found: Any, handler: Callable[..., Any], payload: str, snapshot: Mapping[str, Any], link: Link
) -> Bound:
    """The result is what the binder was given."""

    def invoke() -> Any:
        if handler.__name__ == "fail":
            return handler(payload.strip('"'))
        given = {"found": type(found).__name__, "handler": handler.__name__, "payload": payload}
        return {**given, "job_id": snapshot["job_id"]}

    return Bound(invoke=invoke, classify=lambda _: Verdict("permanent", why="the binder's own rule"))
