"""What a bulk operation is asked for, and what became of it: the payload and the result of the job that carries it out."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict

from taurine.errors import InvalidOption, did_you_mean
from taurine.ledger.dead_letters import DeadLetterFilter
from taurine.ledger.listing import RecordFilter
from taurine.ledger.selecting import RecordSelection
from taurine.ledger.statuses import OPEN, TERMINAL, Status

__all__ = ["BULK", "BulkAction", "BulkFilter", "BulkOrder", "BulkRefusal", "BulkResult", "Matching", "check_action"]

BULK = "taurine.bulk"
"""The job type that carries bulk operations out. Its own jobs are never among those that a filter reaches."""

BulkAction: TypeAlias = Literal["redrive", "discard", "retry", "cancel"]
"""What is done to each: "redrive" and "discard" to open dead letters; "retry" to jobs that have ended, "cancel" to
those that have not.
"""

_ACTIONS: tuple[BulkAction, ...] = get_args(BulkAction)


class BulkFilter(BaseModel):
    """Which jobs, or which dead letters; each one that is given must hold, and none at all is all of them.

    status: for "retry" one of completed, failed, cancelled, expired, and failed where none is given; for "cancel" one
    of queued, running, retrying, waiting, and any of them where none is given; not for dead letters. tag, user, since,
    until (of the job's creation, wall seconds): not for dead letters. fingerprint: of the error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    tag: str | None = None
    user: str | None = None
    since: float | None = None
    until: float | None = None
    fingerprint: str | None = None

    def statuses(self, action: BulkAction) -> tuple[Status, ...]:
        """The statuses that an action on jobs is about. Raises InvalidOption for one that it cannot be about."""
        possible = OPEN if action == "cancel" else tuple(sorted(TERMINAL))
        if self.status is None:
            return OPEN if action == "cancel" else ("failed",)
        if self.status not in possible:
            raise InvalidOption(
                f"expected the status of jobs to {action} to be one of {', '.join(possible)}, got {self.status!r}"
            )
        return (self.status,)

    def selection(self, action: BulkAction, *, before: int, tenant: str | None) -> RecordSelection:
        """The records that it reaches. before: ms since the epoch, the moment of the snapshot."""
        wanted = RecordFilter(
            type=self.type,
            queue=self.queue,
            tenant=tenant,
            tag=self.tag,
            created_by=self.user,
            since=None if self.since is None else round(self.since * 1000),
            until=None if self.until is None else round(self.until * 1000),
            error_fingerprint=self.fingerprint,
        )
        return RecordSelection(
            wanted=wanted, statuses=self.statuses(action), before=before, ended=action == "retry", not_type=BULK
        )

    def entries(self, *, before: int, tenant: str | None) -> DeadLetterFilter:
        """The dead letters that it reaches. Raises InvalidOption for what is asked of jobs alone."""
        for name in ("status", "tag", "user", "since", "until"):
            if getattr(self, name) is not None:
                raise InvalidOption(f"{name} is asked of jobs and not of dead letters; leave it out, or retry the jobs")
        return DeadLetterFilter(
            queue=self.queue,
            type=self.type,
            tenant=tenant,
            error_fingerprint=self.fingerprint,
            failed_before=before,
            not_type=BULK,
        )


class BulkOrder(BaseModel):
    """One bulk operation.

    ids: of jobs or dead letters, in place of a filter. before: ms since the epoch, the moment of the snapshot. limit:
    how many it may reach.

    rate: how many a second at most; None for as fast as it goes.
    """

    action: BulkAction
    ids: tuple[str, ...] | None = None
    where: BulkFilter = BulkFilter()
    before: int
    limit: int
    tenant: str | None = None
    rate: float | None = None
    reason: str


class BulkRefusal(BaseModel):
    """One that was refused.

    id: of the job or the dead letter. error: the kind of error, as it is called in `taurine.errors`.
    """

    id: str
    error: str
    message: str


class BulkResult(BaseModel):
    """What became of it; of one that was cancelled half-way, up to there.

    done: how many were changed. skipped: how many were no longer as they were when they were counted: somebody else was
    first, or they ended meanwhile.
    refused: how many may not be changed so. errors: why, of the first 20 of those.
    """

    done: int = 0
    skipped: int = 0
    refused: int = 0
    errors: list[BulkRefusal] = []

    @property
    def seen(self) -> int:
        """How many were dealt with, in whatever way."""
        return self.done + self.skipped + self.refused


class Matching(BaseModel):
    """How many an operation would reach.

    number: exact where `exact` says so, and at least as many where not. at: the moment of that look; an operation that
    is given it does not reach what has come since.
    """

    number: int
    exact: bool
    at: datetime


def check_action(action: str) -> BulkAction:
    """`action`, if it is one. Raises InvalidOption, with the near miss."""
    for known in _ACTIONS:
        if action == known:
            return known
    raise InvalidOption(
        f"expected the action to be one of {', '.join(_ACTIONS)}, got {action!r:.40}{did_you_mean(action, _ACTIONS)}"
    )
