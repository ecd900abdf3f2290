"""A binder as a runtime would write it: what it was given is the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from taurine.jobs.executors import Bound, Link
from taurine.retry import Verdict


def bind(found: Any, handler: Callable[..., Any], payload: str, snapshot: Mapping[str, Any], link: Link) -> Bound:
    def invoke() -> Any:
        if handler.__name__ == "fail":
            return handler(payload.strip('"'))
        given = {"found": type(found).__name__, "handler": handler.__name__, "payload": payload}
        return {**given, "job_id": snapshot["job_id"]}

    return Bound(invoke=invoke, classify=lambda _: Verdict("permanent", why="the binder's own rule"))
