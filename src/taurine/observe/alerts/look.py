"""One look at the application, for all rules: what several ask for is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from taurine.jobs.backend import Backend
from taurine.jobs.operations.readings import Readings
from taurine.jobs.operations.throughput import Throughput, throughput_of
from taurine.ledger.dead_letters import opened_since
from taurine.observe.alerts.pauses import Pauses
from taurine.queue.states import JobState

__all__ = ["Look"]

_IN_LINE: tuple[JobState, ...] = ("waiting", "prioritized")


class Look:
    """What the rules go by.

    application: whose look it is.

    queues: those that are declared here, and those of Taurine's own that are in use; of others this process knows too
    little.
    """

    def __init__(self, backend: Backend, readings: Readings, pauses: Pauses | None = None, *, application: str) -> None:
        self.readings = readings
        self.application = application
        self._pauses = pauses or Pauses()
        self.queues: Sequence[str] = sorted({*backend.catalog.queues, *readings.own_queues})
        self.shared = {name for name in self.queues if backend.catalog.rules_of(name).shared}
        """Of those the ones that other programs work on, whose workers nobody here knows."""
        self._backend = backend
        self._throughputs: dict[float, Mapping[str, Throughput]] = {}
        self._opened: dict[float, Mapping[str, int]] = {}

    def is_paused(self, queue: str) -> bool:
        """False where its server does not say."""
        found = None if self.readings.store is None else self.readings.store.queues.get(queue)
        return found is not None and found.paused

    def since_resumed(self, queue: str) -> float | None:
        """Seconds since the look that saw the queue go on after a pause; None where none was seen."""
        since = self._pauses.resumed.get(queue)
        return None if since is None else max(0.0, self.readings.at - since)

    def in_line(self, queue: str) -> int | None:
        """Jobs that could run now, as the server of queues counts them; None while neither server answers.

        While that one does not answer, the records that are queued, if any of them is due: how many of those are due
        later is not known then.
        """
        if (store := self.readings.store) is not None and (found := store.queues.get(queue)) is not None:
            return sum(found.counts.get(state, 0) for state in _IN_LINE)
        if (ledger := self.readings.ledger) is None:
            return None
        records = ledger.records.get(queue)
        return 0 if records is None or records.due_since is None else records.counts["queued"].number

    async def throughput(self, window: float) -> Mapping[str, Throughput]:
        """What jobs came to in so many seconds, by queue. Raises LedgerUnavailable."""
        if window not in self._throughputs:
            self._throughputs[window] = {one.queue: one for one in await throughput_of(self._backend, window=window)}
        return self._throughputs[window]

    async def dead_letters_since(self, window: float) -> Mapping[str, int]:
        """Dead letters of the last so many seconds that are still open, by queue. Raises LedgerUnavailable."""
        if window not in self._opened:
            since = round((self.readings.at - window) * 1000)
            self._opened[window] = await self._backend.database.read(partial(opened_since, since=since))
        return self._opened[window]
