"""What the workers of a queue told of themselves, put together: how many of its jobs they run at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from taurine.jobs.operations.workers import WorkerView
from taurine.queue.reading import WorkerInfo

__all__ = ["at_work", "late_loops_of", "of_users", "slots_of"]


def of_users(views: Sequence[WorkerView], system_queues: Collection[str]) -> list[WorkerView]:
    """The same workers with the users' queues alone: it is their slots that a worker tells of."""
    return [replace(view, queues=[name for name in view.queues if name not in system_queues]) for view in views]


def at_work(views: Sequence[WorkerView], queue: str, connected: Sequence[WorkerInfo] | None) -> list[WorkerView] | None:
    """Those that run and serve a queue; None where a worker is connected that does not tell of itself, as BullMQ's own.

    connected: None where the server does not let us ask.
    """
    serving = [view for view in views if view.state == "running" and queue in view.queues]
    if connected is None:
        return serving
    names = {one.name for one in connected}
    if not names <= {view.name for view in serving}:
        return None
    return [view for view in serving if view.name in names]


def slots_of(views: Sequence[WorkerView]) -> int:
    """Jobs of one queue that its workers, `views`, run at once.

    A worker tells how many it runs of all its queues together: each queue is taken to have its share.
    """
    return sum(-(-view.slots // len(view.queues)) for view in views)


def late_loops_of(view: WorkerView) -> list[str]:
    """The names of its loops that had not turned in time when it reported last."""
    return sorted(name for name, loop in view.loops.items() if loop.late)
