"""Cancelling several jobs in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from taurine.clock import now_ms
from taurine.errors import EmbeddedServerError, RecordError, StoreError
from taurine.jobs.backend import Backend
from taurine.ledger.cancellations import request_cancels
from taurine.ledger.records import JobRecord

__all__ = ["Cancelled", "cancel_together", "take_out_in_time"]

_REMOVAL_SECONDS = 2.0
"""Seconds that the server of queues has to let go of the jobs; what is not gone in time, the reconciler takes out."""


@dataclass
class Cancelled:
    """What became of the requests.

    at_once: jobs that are cancelled. told: those that run, and hear of it. refused: those that had ended, or are gone.
    """

    at_once: list[JobRecord] = field(default_factory=list[JobRecord])
    told: list[JobRecord] = field(default_factory=list[JobRecord])
    refused: list[RecordError] = field(default_factory=list[RecordError])


async def cancel_together(backend: Backend, ids: Sequence[str], *, reason: str, user: str | None) -> Cancelled:
    """Cancel these jobs, all in one transaction, each as by `Taurine.cancel`, and take them out of their queues; nobody
    is asked whether `user` may.
    """
    now = now_ms(backend.clock)

    answers = await backend.database.write(
        lambda connection: request_cancels(connection, list(dict.fromkeys(ids)), now, reason, user)
    )
    outcome = Cancelled()
    for answer in answers:
        if isinstance(answer, RecordError):
            outcome.refused.append(answer)
        else:
            (outcome.at_once if answer.at_once else outcome.told).append(answer.record)
    for record in outcome.at_once:
        backend.watch.tell(record.id)
    await take_out_in_time(backend, outcome.at_once)
    return outcome


async def take_out_in_time(backend: Backend, records: Sequence[JobRecord]) -> None:
    """Take jobs out of their queues whose records have ended, as far as the server answers."""
    with suppress(StoreError, EmbeddedServerError, TimeoutError):
        async with asyncio.timeout(_REMOVAL_SECONDS):
            await backend.take_out(records)
