"""The names of a queue's keys: BullMQ's, `<prefix>:<queue>:<suffix>`."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from taurine.ids import check_prefix, check_queue_name

__all__ = ["AD_HOC_LIMIT", "QueueKeys", "private_key"]

AD_HOC_LIMIT = 2**53 - 1
"""What the limiter key counts while a queue is limited by hand: more starts than any limit allows."""


def private_key(prefix: str, suffix: str) -> str:
    """A key of Taurine's own, outside every queue's range so that BullMQ's clean-up of orphans leaves it alone."""
    return f"{prefix}::taurine:{suffix}"


@dataclass(frozen=True)
class QueueKeys:
    """Every key of one queue.

    Raises InvalidName for a queue name or prefix that cannot be stored. On a cluster all of a queue's keys must share a
    slot: put a hash tag into the prefix (`{app}`) or the name.
    """

    name: str
    prefix: str = "bull"
    base: str = field(init=False)
    """What all keys of the queue start with, colon included."""

    def __post_init__(self) -> None:
        check_queue_name(self.name)
        check_prefix(self.prefix)
        object.__setattr__(self, "base", f"{self.prefix}:{self.name}:")

    def key(self, suffix: str) -> str:
        return self.base + suffix

    @property
    def qualified(self) -> str:
        """`<prefix>:<queue>`, by which other queues name this one."""
        return self.base[:-1]

    @property
    def wait(self) -> str:
        return self.base + "wait"

    @property
    def active(self) -> str:
        return self.base + "active"

    @property
    def prioritized(self) -> str:
        return self.base + "prioritized"

    @property
    def delayed(self) -> str:
        return self.base + "delayed"

    @property
    def waiting_children(self) -> str:
        return self.base + "waiting-children"

    @property
    def completed(self) -> str:
        return self.base + "completed"

    @property
    def failed(self) -> str:
        return self.base + "failed"

    @property
    def legacy_paused(self) -> str:
        """Where BullMQ 5 put jobs while a queue was paused; only read and emptied."""
        return self.base + "paused"

    @property
    def marker(self) -> str:
        return self.base + "marker"

    @property
    def meta(self) -> str:
        return self.base + "meta"

    @property
    def events(self) -> str:
        return self.base + "events"

    @property
    def limiter(self) -> str:
        return self.base + "limiter"

    @property
    def schedulers(self) -> str:
        return self.base + "repeat"

    def job(self, stored_id: str) -> str:
        return self.base + stored_id

    def lock(self, stored_id: str) -> str:
        return f"{self.base}{stored_id}:lock"

    def logs(self, stored_id: str) -> str:
        return f"{self.base}{stored_id}:logs"

    def scheduler(self, scheduler_id: str) -> str:
        return f"{self.base}repeat:{scheduler_id}"

    def deduplication(self, dedup_id: str) -> str:
        return f"{self.base}de:{dedup_id}"

    def client_name(self, label: str = "") -> str:
        """The connection name by which Node's `getWorkers` and dashboards find a worker of this queue."""
        name = f"{self.prefix}:{base64.b64encode(self.name.encode()).decode()}"
        return f"{name}:w:{label}" if label else name
