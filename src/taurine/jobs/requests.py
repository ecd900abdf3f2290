"""What a caller may say of one enqueue, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from taurine.options import Seconds
from taurine.retry import Retry

__all__ = ["EnqueueOptions", "OnDuplicate"]

OnDuplicate: TypeAlias = Literal["return", "error", "rerun"]
"""What an enqueue does whose job id is taken: give back that job, raise DuplicateJob, or run a finished job again."""


class EnqueueOptions(TypedDict, total=False):
    """Options of `enqueue`. Each has its default when left out."""

    job_id: str
    """The job's id. Default: what the job type declares."""
    delay: Seconds
    """Start this much later, in seconds. Default: 0."""
    run_at: datetime
    """Start at this time, an aware datetime. Default: now."""
    expires_in: Seconds
    """Do not start later than this many seconds from now; the job expires then. Default: never."""
    priority: int
    """0 to 2097151; 0 is none and runs before all others, then lower numbers first. Default: the job type's."""
    retry: Retry
    """Attempts and back-off of this job. Default: the job type's."""
    tenant: str
    """Whose job it is. Default: what the job type declares. Raises TenantMismatch where the payload says otherwise."""
    idempotency_key: str
    """A client's own key for this request: a repeat within its life gives the same job. Default: none."""
    tags: Sequence[str]
    """Words to find the job by. Default: none."""
    metadata: Mapping[str, Any]
    """JSON to keep with the record; handlers do not see it. Default: none."""
    session: Session | AsyncSession
    """The SQLAlchemy session whose transaction the record joins; it is committed, or not, with the rest. Default: one of its own."""
    on_duplicate: OnDuplicate
    """What to do when the id is taken. Default: "return"."""
    user: str
    """Who asks for it. Default: unknown."""
    source: str
    """Where the request came from, for example a route. Default: unknown."""
