"""Facts about a job as they might be found, to look at the words for them without a server."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from taurine.jobs.operations.reasons import Facts
from taurine.jobs.operations.workers import WorkerLoop, WorkerView
from taurine.ledger.records import JobRecord
from taurine.ledger.running import Run
from taurine.queue.whereabouts import Whereabouts

__all__ = ["NOW", "at", "facts", "named", "place", "record", "report", "run", "stored"]

NOW = 1_700_000_000.0


def at(seconds: float) -> datetime:
    """So many seconds from NOW."""
    return datetime.fromtimestamp(NOW + seconds, UTC)


def record(**values: Any) -> JobRecord:
    of_all: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(JobRecord))
    usual: dict[str, Any] = {
        "id": "mine",
        "type": "order",
        "queue": "orders",
        "tenant": "acme",
        "status": "queued",
        "attempts": 0,
    }
    times: dict[str, Any] = {"created_at": at(-10), "updated_at": at(-10), "dispatched_at": at(-10)}
    rest: dict[str, Any] = {"max_attempts": 3, "fence": 0, "generation": 0, "_json": {"progress": None}}
    return JobRecord(**(of_all | usual | times | rest | values))


def stored(**values: Any) -> Any:
    """A job as the queue has it: what is looked at of it."""
    usual = {"processed_by": "host-7:4711", "attempts_started": 1, "created_at": NOW - 10}
    made = dataclasses.make_dataclass("Stored", list(usual))
    return made(**(usual | values))


def place(**values: Any) -> Whereabouts:
    usual: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Whereabouts))
    figures: dict[str, Any] = {
        "waiting": 4711,
        "active": 4711,
        "rate": 47.11,
        "window_left": 47.11,
        "limited_for": 0.0,
        "ahead": 4711,
    }
    rest: dict[str, Any] = {"paused": False, "job": stored(), "state": "waiting"}
    return Whereabouts(**(usual | figures | rest | values))


def named(*names: str) -> Any:
    """Workers that are connected, of which only the name is looked at."""
    made = dataclasses.make_dataclass("Named", ["name"])
    return [made(name) for name in names]


def report(name: str, **values: Any) -> WorkerView:
    """What a worker told of itself a second ago. late: names of its loops that do not turn."""
    late: list[str] = values.pop("late", [])
    usual: dict[str, Any] = {"host": "host-7", "pid": 4712, "version": "1", "queues": ["orders"], "slots": 5, "busy": 5}
    times: dict[str, Any] = {"started_at": at(-900), "seen_at": at(-1), "stopped_at": None, "state": "running"}
    rest: dict[str, Any] = {"id": name, "leases_lost": 0, "diverged": None}
    loops = {loop: WorkerLoop(age=99.0, late=True) for loop in late}
    return WorkerView(name=name, loops=loops, **(usual | times | rest | values))


def run(job_id: str, began: float, worker: str = "host-7:4711") -> Run:
    """A job of the queue that runs since so many seconds from NOW."""
    return Run(job_id, "orders", worker, round((NOW + began) * 1000))


def facts(tenant: str | None = None, **values: Any) -> Facts:
    usual: dict[str, Any] = {"record": record(), "workers": named("host-7:4711"), "queue": "orders"}
    return Facts(job_id="mine", now=NOW, tenant=tenant, whole=tenant is None, lease=30.0, **(usual | values))
