"""Writing an end into the record that happened in the queue alone: a worker of somebody else's ended the job, or an
operator did.

Our own workers write the record before they tell the queue, so for their jobs there is nothing to settle.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol, cast

from sqlalchemy import Connection

from taurine.jobs.reporting.failures import fingerprint, frames_in
from taurine.ledger.completions import Completion, apply_completions
from taurine.ledger.endings import Ending, apply_endings
from taurine.ledger.fences import Granted, fence_of
from taurine.ledger.tallies import add_outcomes, open_kinds
from taurine.queue.standings import Ended
from taurine.queue.wire import decode_json

__all__ = ["OpenRecord", "Settlement", "settle", "settlement"]


class OpenRecord(Protocol):
    """What must be known of a record that is to be settled."""

    @property
    def id(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def fence(self) -> int: ...
    @property
    def max_attempts(self) -> int: ...


Settlement = Completion | Ending


def settlement(record: OpenRecord, ended: Ended, now: int) -> Settlement:
    """What is to be written of an end that the queue shows. now: ms since the epoch, for an end without a time."""
    fence = max(record.fence, fence_of(record.generation, max(1, ended.attempts_started)))
    attempts = max(1, ended.attempts_made)
    at = ended.finished_at or now
    if ended.completed:
        return Completion(
            id=record.id,
            fence=fence,
            attempts=attempts,
            output=ended.value or "null",
            worker=ended.worker or None,
            started_at=ended.processed_at or at,
            at=at,
        )
    trace = _last_trace(ended.stacktrace)
    return Ending(
        id=record.id,
        fence=fence,
        status="failed",
        attempts=attempts,
        at=at,
        worker=ended.worker or None,
        started_at=ended.processed_at,
        error=json.dumps({"type": "JobFailed", "message": ended.value, "traceback": trace}, ensure_ascii=False),
        error_fingerprint=fingerprint("JobFailed", frames_in(trace)),
        dead_letter="exhausted" if attempts >= record.max_attempts else "permanent",
    )


def _last_trace(stacktrace: str) -> str:
    try:
        traces: Any = decode_json(stacktrace) if stacktrace else []
    except ValueError:
        return ""
    return str(cast("list[Any]", traces)[-1]) if isinstance(traces, list) and traces else ""


def settle(connection: Connection, settlements: Sequence[Settlement], at: int) -> list[Granted]:
    """Write ends into records, failures with their dead letters, and count them; None for each that was granted, as
    with a worker's own. at: now, ms since the epoch.
    """
    kinds = open_kinds(connection, [item.id for item in settlements])
    completions = [item for item in settlements if isinstance(item, Completion)]
    endings = [item for item in settlements if isinstance(item, Ending)]
    granted: dict[int, Granted] = {}
    if completions:
        granted |= zip(map(id, completions), apply_completions(connection, completions), strict=True)
    if endings:
        granted |= zip(map(id, endings), apply_endings(connection, endings), strict=True)
    written = [item for item in settlements if granted[id(item)] is None and item.id in kinds]
    add_outcomes(
        connection,
        ((kinds[item.id], "completed" if isinstance(item, Completion) else "failed") for item in written),
        at,
    )
    return [granted[id(item)] for item in settlements]
