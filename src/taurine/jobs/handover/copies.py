"""Whether what a queue has under an id belongs to the run that a record speaks of, or to an earlier one."""

from __future__ import annotations

from typing import Any, cast

from taurine.jobs.envelope import Envelope
from taurine.queue.standings import Ended, Standing
from taurine.queue.wire import decode_json

__all__ = ["generation_of", "has_copy", "is_end_of"]

_SKEW_MS = 10_000
"""The clocks of the process that ended a job and of the one that accepted it may differ by so much."""


def has_copy(standing: Standing, *, generation: int, created_at: int) -> bool:
    """True for a queue that has the job of this generation, ended or not.

    created_at: of the record, ms since the epoch.
    """
    if isinstance(standing, Ended):
        return is_end_of(standing, generation=generation, created_at=created_at)
    return standing != "gone"


def is_end_of(ended: Ended, *, generation: int, created_at: int) -> bool:
    """Whether it is the run of a record that has ended so, and not an earlier one, or that of a record which had its id
    before and is purged. created_at: ms.
    """
    if generation_of(ended) < generation:
        return False
    return ended.finished_at is None or ended.finished_at >= created_at - _SKEW_MS


def generation_of(ended: Ended) -> int:
    """The generation whose job ended; 0 for one that says nothing of it."""
    try:
        options: Any = decode_json(ended.options)
    except ValueError:
        return 0
    envelope = Envelope.of(cast("dict[str, Any]", options)) if isinstance(options, dict) else None
    return 0 if envelope is None else envelope.generation
