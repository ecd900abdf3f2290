"""The loops that keep what is promised true while nobody asks: which there are, how often they run, and making them for
one application.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from taurine.jobs.backend import Backend
from taurine.jobs.reconciler.expiry import Expiry
from taurine.jobs.reconciler.follower import Follower
from taurine.jobs.reconciler.full_look import FullLook
from taurine.jobs.reconciler.mending import Mender
from taurine.jobs.reconciler.reconciler import Reconciler
from taurine.jobs.reconciler.retention import Retention
from taurine.jobs.reconciler.undeclared import UndeclaredJobs
from taurine.jobs.reporting.alerts import Alerts
from taurine.ledger.retention import RetentionPolicy
from taurine.options import Seconds, to_seconds
from taurine.service import Service

__all__ = ["Upkeep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """How a worker looks after the application, beside running jobs.

    Every worker may, since each loop may run many times at once.

    A queue that is shared is followed in any case. Raises InvalidOption for a time that is out of range.
    """

    reconcile_every: Seconds | None = 10.0
    """Seconds between two comparisons of the ledger with the queues; None for none here, nor after a loss of data.
    Default: 10.
    """
    reconcile_age: Seconds = 10.0
    """Seconds since a job was handed over, or its record ended, before it is compared. Default: 10."""
    expire_every: Seconds | None = 5.0
    """Seconds between two looks for jobs that were to start by now; None for none here. Default: 5."""
    install_every: Seconds | None = 10.0
    """Seconds between two looks whether the schedules stand in their queues, the first of which installs them; None for
    none here. Default: 10.
    """
    purge_every: Seconds | None = 3600.0
    """Seconds between two removals of what the ledger need keep no longer; None for none here. Default: an hour."""
    report_every: Seconds | None = 5.0
    """Seconds between two reports of a worker to the ledger: how it is, and what its jobs came to since the last one.
    None for none: then it is in no list, and its jobs are
    in no total. A worker that is killed takes with it what it has counted since its last report. Default: 5."""
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    """What the ledger keeps. A job type's own `keep_records` comes before `records`, and `by_type` before both. Records
    of types that are neither declared here nor
    in `by_type` stay: another program says how long. Default: see RetentionPolicy."""

    def __post_init__(self) -> None:
        for name in ("reconcile_every", "expire_every", "install_every", "purge_every", "report_every"):
            if getattr(self, name) is not None:
                to_seconds(getattr(self, name), name, minimum=0.01)
        to_seconds(self.reconcile_age, "reconcile_age")

    def services(self, backend: Backend, alerts: Alerts) -> list[Service[Any]]:
        """The loops for an application, not started. alerts: where they say what operators must hear of."""
        services: list[Service[Any]] = [
            Follower(queue, backend=backend)
            for queue in backend.catalog.queues
            if backend.catalog.rules_of(queue).shared
        ]
        shared: dict[str, Any] = {"database": backend.database, "clock": backend.clock, "random": backend.random}
        if self.reconcile_every is not None:
            services += self._comparing(backend, alerts, to_seconds(self.reconcile_every, "reconcile_every"))
        if self.expire_every is not None:
            interval = to_seconds(self.expire_every, "expire_every")
            services.append(
                Expiry(
                    take_out=backend.take_out,
                    told=backend.watch.tell,
                    interval=interval,
                    redact=backend.redact,
                    **shared,
                )
            )
        if self.purge_every is not None:
            interval = to_seconds(self.purge_every, "purge_every")
            policy = self._policy(backend)
            services.append(Retention(policy=policy, types=policy.by_type, interval=interval, **shared))
        return services

    def _comparing(self, backend: Backend, alerts: Alerts, interval: float) -> list[Service[Any]]:
        age = to_seconds(self.reconcile_age, "reconcile_age")
        menders = [
            Mender(
                database=backend.database,
                dispatcher=backend.dispatcher,
                catalog=backend.catalog,
                queue=backend.queue,
                told=backend.watch.tell,
                clock=backend.clock,
                age_ms=round(age * 1000),
            )
            for _ in range(2)  # each remembers what it has read in its own pass
        ]
        undeclared = UndeclaredJobs(
            database=backend.database,
            dispatcher=backend.dispatcher,
            catalog=backend.catalog,
            alerts=alerts,
            clock=backend.clock,
        )
        shared: dict[str, Any] = {
            "database": backend.database,
            "catalog": backend.catalog,
            "queue": backend.queue,
            "age": age,
            "clock": backend.clock,
            "random": backend.random,
        }
        return [
            Reconciler(
                mender=menders[0], undeclared=undeclared, take_out=backend.take_out, interval=interval, **shared
            ),
            FullLook(mender=menders[1], **shared),
        ]

    def _policy(self, backend: Backend) -> RetentionPolicy:
        """The policy with the age of each type that is declared here, and of no other."""
        own = {job_type.name: self._age(job_type.options.keep_records) for job_type in backend.catalog.all_types}
        return replace(self.retention, by_type={**own, **self.retention.by_type})

    def _age(self, keep: Seconds | None) -> timedelta | None:
        if keep is None:
            return self.retention.records
        return None if keep is True else timedelta(seconds=to_seconds(keep, "keep_records"))
