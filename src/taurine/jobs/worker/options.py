"""The options of a worker: what may be given, what it comes to, and the form in which worker processes are told of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias, TypedDict

from pydantic import TypeAdapter

from taurine.errors import InvalidOption, did_you_mean
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.options import RateLimit, Seconds, require_count, to_seconds

__all__ = ["Concurrency", "Slots", "WorkerOptions", "WorkerRules"]

Slots: TypeAlias = int | Literal["io", "cpu"]
"""Jobs at once: a number; "io", 100, for jobs that wait for others; "cpu", the number of processors, for jobs that
compute.
"""

Concurrency: TypeAlias = Slots | Mapping[str, Slots]
"""Jobs at once: of each queue, or for each queue by name."""

_IO_SLOTS = 100

_LAST_PORT = 65_535

_SHORTEST_TOKEN = 16


class WorkerOptions(TypedDict, total=False):
    """Options of `Taurine.worker`. Each has its default when left out."""

    queues: Sequence[str] | None
    """Those that it works on. Default: all that have a handler in this process."""
    concurrency: Concurrency | None
    """Jobs at once of each queue, "io" or "cpu", or a mapping by queue. Default: the setting; the number of processors
    for a queue whose handlers all
    run in processes."""
    rate_limits: Mapping[str, RateLimit]
    """Job starts per window, by queue, over all workers. Default: none."""
    lease: Seconds | None
    """Seconds that a claimed job stays its own without renewal. Default: the setting."""
    max_crashes: int
    """A job that was running so often when its worker died is dead. Default: 3."""
    stalled_interval: Seconds
    """Seconds between looks for jobs whose worker is gone. Default: 30."""
    grace: Seconds
    """Seconds that running jobs may take when it stops. Default: 30."""
    max_processes: int | None
    """Child processes at once, for handlers that run in processes; further such jobs wait for one. Default: the number
    of processors.
    """
    max_jobs_per_process: int | None
    """A child process is replaced after so many jobs. Default: never."""
    max_memory: int | None
    """Bytes; a child process that holds more after a job is replaced. Default: no limit."""
    redis_url: str | None
    """How the worker reaches the queues where producers take another way: other time-outs, another user. Default: the
    application's.
    """
    upkeep: Upkeep | None
    """How it looks after the application beside running jobs. Default: see `Upkeep`."""
    deps: Any
    """What its handlers find as `ctx.deps`. Not together with `processes`. Default: the application's."""
    name: str | None
    """Shown with jobs that it ran. Default: made of host and process."""
    health_port: int | None
    """Where it answers `/health/live`, `/health/ready` and `/metrics` over HTTP, by a thread that answers though the
    event loop is stuck; 0 for any that is free. With
    `processes` the parent has it, and answers for all. Default: none."""
    health_host: str
    """The address of the health port. Default: "127.0.0.1"; "0.0.0.0" for probes from other machines."""
    metrics_token: str | None
    """What callers of the health port's `/metrics` show, as `Authorization: Bearer …`. Default: none; then it answers
    on loopback alone.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRules:
    """The options of one worker, checked, without `deps`; WorkerOptions explains each. Raises InvalidOption."""

    queues: tuple[str, ...] | None = None
    concurrency: Concurrency | None = None
    rate_limits: Mapping[str, RateLimit] = field(default_factory=dict[str, RateLimit])
    lease: Seconds | None = None
    max_crashes: int = 3
    stalled_interval: Seconds = 30.0
    grace: Seconds = 30.0
    max_processes: int | None = None
    max_jobs_per_process: int | None = None
    max_memory: int | None = None
    redis_url: str | None = field(default=None, repr=False)
    upkeep: Upkeep = field(default_factory=Upkeep)
    name: str | None = None
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    metrics_token: str | None = field(default=None, repr=False)
    health_socket: str | None = None
    """In a worker process: where its parent asks how it is. No option of a caller's."""

    @classmethod
    def made(cls, given: WorkerOptions) -> Self:
        """The rules from what a caller gave. Raises InvalidOption for an option that is not known, with the near miss."""
        known = list(WorkerOptions.__annotations__)
        for name in given:
            if name not in known:
                raise InvalidOption(f"unknown option {name!r} of a worker{did_you_mean(name, known)}")
        chosen: dict[str, Any] = {name: value for name, value in given.items() if name != "deps"}
        if chosen.get("upkeep", ...) is None:
            del chosen["upkeep"]
        if isinstance(queues := chosen.get("queues"), str):
            raise InvalidOption(f"expected queues to be a list of names, got the text {queues!r}")
        if queues is not None:
            chosen["queues"] = tuple(dict.fromkeys(queues))
        return cls(**chosen)

    def __post_init__(self) -> None:
        if self.lease is not None:
            to_seconds(self.lease, "lease", minimum=0.1)
        require_count(self.max_crashes, "max_crashes", minimum=1)
        to_seconds(self.stalled_interval, "stalled_interval")
        to_seconds(self.grace, "grace")
        for name in ("max_processes", "max_jobs_per_process", "max_memory"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name, minimum=1)
        if self.health_port is not None and require_count(self.health_port, "health_port", minimum=0) > _LAST_PORT:
            raise InvalidOption(f"expected health_port to be 0 to {_LAST_PORT}, got {self.health_port}")
        if self.metrics_token is not None and len(self.metrics_token) < _SHORTEST_TOKEN:
            raise InvalidOption(f"expected metrics_token to have {_SHORTEST_TOKEN} characters or more")
        for slots in self.concurrency.values() if isinstance(self.concurrency, Mapping) else (self.concurrency,):
            _check_slots(slots)

    @property
    def grace_seconds(self) -> float:
        return to_seconds(self.grace, "grace")

    def queues_of(self, catalog: Catalog) -> list[str]:
        """The queues of the application to work on.

        Raises InvalidOption for a name that no job type goes to, and when no handler is here.
        """
        known = catalog.all_queues
        chosen = self.queues
        if chosen is None:
            chosen = [
                queue for queue in catalog.queues if any(job_type.has_handler for job_type in catalog.on_queue(queue))
            ]
        elsewhere = self.concurrency if isinstance(self.concurrency, Mapping) else ()
        for queue in (*chosen, *elsewhere, *self.rate_limits):
            if queue not in known:
                raise InvalidOption(f"no job type goes to queue {queue!r}{did_you_mean(queue, catalog.queues)}")
        if not chosen:
            raise InvalidOption("there is nothing to work on: no job type of the catalog has a handler in this process")
        return list(chosen)

    def slots_of(self, queue: str, catalog: Catalog, default: int) -> int:
        """Jobs of `queue` at once. default: the setting."""
        chosen = self.concurrency
        if isinstance(chosen, Mapping):
            chosen = chosen.get(queue)
        if chosen is None:
            kinds = {job_type.runs_in for job_type in catalog.on_queue(queue) if job_type.has_handler}
            return self.child_processes if kinds == {"process"} else default
        return {"io": _IO_SLOTS, "cpu": _processors()}[chosen] if isinstance(chosen, str) else chosen

    @property
    def child_processes(self) -> int:
        """The most processes for handlers that run in processes."""
        return self.max_processes or _processors()

    def to_json(self) -> str:
        """The rules as text, for another process; it may hold a password, so it must not be shown."""
        return _as_json.dump_json(self, warnings=False).decode()  # it would warn of whole numbers where a float may be

    @classmethod
    def from_json(cls, text: str) -> WorkerRules:
        """The rules that `to_json` made text of."""
        return _as_json.validate_json(text)


_as_json = TypeAdapter(WorkerRules)


def _check_slots(value: Slots | None) -> None:
    if isinstance(value, str):
        if value not in ("io", "cpu"):  # pyright: ignore[reportUnnecessaryContains] - untyped callers
            raise InvalidOption(f"expected concurrency to be a number, 'io' or 'cpu', got {value!r:.40}")
    elif value is not None:
        require_count(value, "concurrency", minimum=1)


def _processors() -> int:
    return os.cpu_count() or 1
