"""What a worker tells its own process: callbacks by event name. What other processes see is the queue's event stream."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from taurine.errors import InvalidOption, did_you_mean

__all__ = ["Callback", "WorkerEvent", "WorkerEvents"]

log = logging.getLogger("taurine.queue")

WorkerEvent: TypeAlias = Literal[
    "ready", "active", "progress", "completed", "failed", "stalled", "drained", "leases_renewed", "lease_lost", "renewal_failed",
    "error", "paused", "resumed", "closing", "closed",
]  # fmt: skip
"""Arguments of each: ready, drained, paused, resumed, closing, closed: none. active(job). progress(job, value).
completed(job, result).
failed(job, error): each failed attempt; a job that cannot be decoded has `corrupt` set. stalled(job_id).
leases_renewed(job_ids).
lease_lost(job). renewal_failed(error): the server could not be asked. error(error): the worker's own trouble, an outage for example."""

Callback: TypeAlias = Callable[..., object]

_NAMES: tuple[str, ...] = get_args(WorkerEvent)


class WorkerEvents:
    """The callbacks of one worker. One that raises is logged and breaks nothing."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = {}

    def on(self, event: WorkerEvent, callback: Callback) -> None:
        if event not in _NAMES:
            near = did_you_mean(event, _NAMES) if isinstance(event, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected a worker event of {', '.join(_NAMES)}, got {event!r:.40}{near}")
        self._callbacks.setdefault(event, []).append(callback)

    def emit(self, event: WorkerEvent, *arguments: Any) -> None:
        for callback in self._callbacks.get(event, ()):
            try:
                callback(*arguments)
            except Exception:
                log.exception("a callback for the worker event %r raised; the worker goes on", event)

    def heard(self, event: WorkerEvent) -> bool:
        """True when anyone listens: spares the hot path the making of arguments."""
        return event in self._callbacks
