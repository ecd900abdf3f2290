"""Which jobs somebody has lately acted on: cancelled, expired, run again.

Their copy in the queue may be one that must not run as it is.

Whoever ends a job or edits it also takes its old copy out of the queue, but that server may be away just then. So a
delivery of such a job asks the ledger first, though it looks like a first one.
"""

from __future__ import annotations

from taurine.ledger.audit import jobs_acted_on
from taurine.ledger.database import Database

__all__ = ["ActedOn"]

_MOST = 20_000
"""Actions that are looked back upon at the start, and jobs that are kept in mind: some MB. Older ones are the
reconciler's, which takes their copies out.
"""

_OVERLAP = 200
"""Actions that are read again each time: transactions may commit in another order than that of their numbers."""


class ActedOn:
    """A set of ids of jobs, as of the last `look`. Until the first one it has them all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: dict[str, None] = {}
        self._latest: int | None = None

    def __contains__(self, job_id: str) -> bool:
        return self._latest is None or job_id in self._ids

    async def look(self) -> None:
        """Read what was done since the last time. Raises LedgerUnavailable and LedgerRefused; then it stays as it was."""
        after = None if self._latest is None else max(0, self._latest - _OVERLAP)
        self._latest, ids = await self._database.read(lambda connection: jobs_acted_on(connection, after, _MOST))
        for job_id in ids:
            self._ids.pop(job_id, None)  # to the end: the oldest go first
            self._ids[job_id] = None
        for job_id in list(self._ids)[: max(0, len(self._ids) - _MOST)]:
            del self._ids[job_id]
