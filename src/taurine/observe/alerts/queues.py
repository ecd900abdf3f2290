"""Rules about what waits: how much, how long, for whom, and in which paused queues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import ClassVar

from taurine.observe.alerts.look import Look
from taurine.observe.alerts.rule import Finding, QueueRule
from taurine.options import Seconds

__all__ = ["NoWorker", "OldestWaiting", "OutboxLag", "QueueDepth", "QueuePaused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth(QueueRule):
    """More jobs of a queue could run now than `limit`, as the server of queues counts them. Default: 100, for a minute.

    While that server does not answer, the records count, those that are due later included.
    """

    KIND: ClassVar[str] = "queue_depth"

    limit: float = 100
    for_seconds: Seconds = 60.0

    async def findings(self, look: Look) -> Sequence[Finding]:
        return [
            Finding(name, depth, f"queue {name!r} {_paused_and(look, name)}has {depth:,} jobs in line", name)
            for name in self.looked_at(look)
            if (depth := look.in_line(name)) is not None
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePaused(QueueRule):
    """A queue is paused, and has more jobs in line than `limit`: somebody may have forgotten it.

    Defaults: 0, for an hour. What was paused before the jobs came counts from the first of them.
    """

    KIND: ClassVar[str] = "queue_paused"

    limit: float = 0
    for_seconds: Seconds = 3600.0

    async def findings(self, look: Look) -> Sequence[Finding]:
        if (store := look.readings.store) is None:
            return []
        return [_of_pause(name, look) for name in self.looked_at(look) if name in store.queues]


@dataclass(frozen=True, slots=True, kw_only=True)
class OldestWaiting(QueueRule):
    """The first job of a queue has been due for more seconds than `limit`. Default: 300.

    A paused queue is spared. Of one that goes on after a pause it counts from the look that first saw that.
    """

    KIND: ClassVar[str] = "oldest_waiting"

    limit: float = 300.0

    async def findings(self, look: Look) -> Sequence[Finding]:
        if look.readings.ledger is None:
            return []
        found: list[Finding] = []
        for name in self.looked_at(look):
            age = 0.0 if look.is_paused(name) else look.readings.oldest_waiting(name) or 0.0
            since = look.since_resumed(name)
            if not age:
                text = f"nothing waits in queue {name!r}"
            elif since is None or since >= age:
                text = f"the first job of queue {name!r} has waited {age:,.0f} s"
            else:
                age = since
                text = f"the first job of queue {name!r} has waited {age:,.0f} s since the queue was resumed"
            found.append(Finding(name, age, text, name))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWorker(QueueRule):
    """A queue has more jobs in line than `limit`, and no worker that runs. A paused queue is spared.

    Default: 0, for a minute.

    Workers that do not report (`Upkeep(report_every=None)`) are not known. Nor are BullMQ's own, so a shared queue is
    spared as well.
    """

    KIND: ClassVar[str] = "no_worker"

    limit: float = 0
    for_seconds: Seconds = 60.0

    async def findings(self, look: Look) -> Sequence[Finding]:
        if (ledger := look.readings.ledger) is None:
            return []
        served = {queue for worker in ledger.workers if worker.state == "running" for queue in worker.queues}
        found: list[Finding] = []
        for name in self.looked_at(look):
            waiting = look.in_line(name) or 0
            if name in served or name in look.shared or look.is_paused(name):
                found.append(Finding(name, 0, f"queue {name!r} has a worker, or need have none", name))
            else:
                found.append(
                    Finding(name, waiting, f"queue {name!r} has {waiting:,} jobs in line, and no worker", name)
                )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLag(QueueRule):
    """The first record that the server of queues has not been told of is older than `limit` seconds. Default: 60."""

    KIND: ClassVar[str] = "outbox_lag"

    limit: float = 60.0

    async def findings(self, look: Look) -> Sequence[Finding]:
        if (ledger := look.readings.ledger) is None:
            return []
        found: list[Finding] = []
        for name in self.looked_at(look):
            lag = ledger.undelivered.get(name)
            seconds = 0.0 if lag is None else lag.lag_ms / 1000
            waiting = 0 if lag is None else lag.waiting
            text = f"{waiting:,} jobs of queue {name!r} are not handed over, the first for {seconds:,.0f} s"
            found.append(Finding(name, seconds, text, name))
        return found


def _paused_and(look: Look, queue: str) -> str:
    return "is paused and " if look.is_paused(queue) else ""


def _of_pause(queue: str, look: Look) -> Finding:
    if not look.is_paused(queue):
        return Finding(queue, 0, f"queue {queue!r} is not paused", queue)
    waiting = look.in_line(queue) or 0
    text = f"queue {queue!r} is paused, and {_jobs_wait(waiting)}"
    return Finding(queue, waiting, text, queue, f"`taurine queues resume {quote(queue)}` lets workers start them")


def _jobs_wait(number: int) -> str:
    if number == 1:
        return "1 job waits"
    return f"{number:,} jobs wait" if number else "no job waits"
