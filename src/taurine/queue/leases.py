"""Leases: a running job belongs to its worker as long as the worker renews it.

A claim takes a lease of `duration`; the keeper renews, in one call, those that have not been renewed for a third of it,
so that a job that ends sooner costs nothing and two renewals may fail before a lease runs out. A lease that the server
says is lost ends the handler: another worker has the job, and whatever this one would still write is refused there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from taurine.errors import StoreError
from taurine.queue.scripts import Argument
from taurine.queue.store import QueueStore
from taurine.service import Service

__all__ = ["Lease", "LeaseKeeper", "Renewal"]


@dataclass(slots=True, eq=False)
class Lease:
    """One running job's lease. `renewed_at` is monotonic seconds; `attempts_started` tells this claim from a later one."""

    stored_id: str
    token: str
    attempts_started: int
    renewed_at: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """What one pass did: stored job ids, and the leases that are another's by now.

    A worker may hold a newer one of the same job.
    """

    renewed: tuple[str, ...] = ()
    lost: tuple[Lease, ...] = ()


class LeaseKeeper(Service[Renewal]):
    """Renews the leases of one worker.

    held: gives the leases of the jobs that run now. on_renewal: told of each pass that renewed or lost any.
    on_failure: told of each pass that the server did not answer or refused.
    """

    def __init__(
        self,
        store: QueueStore,
        *,
        duration: float,
        held: Callable[[], list[Lease]],
        on_renewal: Callable[[Renewal], None],
        on_failure: Callable[[StoreError], None],
        random: Random,
    ) -> None:
        super().__init__(name=f"leases of {store.keys.name}", interval=duration / 6, clock=store.clock, random=random)
        self._store = store
        self._duration = duration
        self._held = held
        self._on_renewal = on_renewal
        self._on_failure = on_failure

    async def run_once(self) -> Renewal:
        """Renew what is old enough.

        Raises StoreUnavailable when the server cannot be asked; no lease is given up for that.
        """
        oldest_fresh = self._clock.monotonic() - self._duration / 3
        return await self.renew([lease for lease in self._held() if lease.renewed_at <= oldest_fresh])

    async def renew(self, leases: list[Lease]) -> Renewal:
        """Renew these leases now, in one call."""
        if not leases:
            return Renewal()
        sent_at = self._clock.monotonic()
        arguments: list[Argument] = [int(self._duration * 1000)]
        for lease in leases:
            arguments += (lease.stored_id, lease.token, lease.attempts_started)
        try:
            kept: list[int] = await self._store.run("renew", *arguments)
        except StoreError as error:
            self._on_failure(error)
            raise
        renewed: list[str] = []
        lost: list[Lease] = []
        for lease, is_kept in zip(leases, kept, strict=True):
            if is_kept:
                lease.renewed_at = sent_at
                renewed.append(lease.stored_id)
            else:
                lost.append(lease)
        renewal = Renewal(tuple(renewed), tuple(lost))
        self._on_renewal(renewal)
        return renewal
