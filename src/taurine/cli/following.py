"""Watching one job until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from taurine.cli.failures import CANCELLED, DONE, FAILED
from taurine.cli.forms import cause, progress_of
from taurine.cli.progress import progress
from taurine.errors import RecordNotFound, WaitTimeout
from taurine.jobs.reporting.durations import short_text

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.cli.progress import Show
    from taurine.jobs.reporting.redaction import Redact
    from taurine.ledger.records import JobRecord

__all__ = ["conclude", "follow", "goes_on"]

_LOOK_SECONDS = 0.25
"""Seconds between two looks at how far it is; its end is heard of sooner."""

_PATIENCE_SECONDS = 2.0
"""Seconds that a job may be queued before it is asked why, and between two such questions."""


async def follow(
    app: Taurine,
    job_id: str,
    output: Output,
    *,
    timeout: float | None = None,
    tenant: str | None = None,
    changed: Callable[[JobRecord], None] | None = None,
) -> JobRecord:
    """The record of a job once it has ended; meanwhile how far it is, and why it does not start, is shown on stderr.

    timeout: seconds. Default: no limit. changed: told of the record at each change, the first and the last included.
    Raises RecordNotFound, WaitTimeout, LedgerUnavailable.
    """
    clock = asyncio.get_running_loop().time
    deadline = None if timeout is None else clock() + timeout
    seen, asked_at, reason = None, clock(), ""
    with progress(output) as show:
        while True:
            left = _LOOK_SECONDS if deadline is None else max(0.0, min(_LOOK_SECONDS, deadline - clock()))
            record = await app.wait(job_id, left, tenant=tenant)
            if record is None:
                raise RecordNotFound(f"there is no job {job_id!r}", job_id=job_id)
            if changed is not None and (record.status, record.updated_at, record.progress_json) != seen:
                seen = (record.status, record.updated_at, record.progress_json)
                changed(record)
            if record.finished_at is not None:
                return record
            if deadline is not None and clock() >= deadline:
                raise WaitTimeout(
                    f"job {job_id!r} did not end within {timeout:g} s; it is {record.status} and goes on",
                    job_id=job_id,
                    queue=record.queue,
                )
            if record.status in ("queued", "retrying") and clock() - asked_at >= _PATIENCE_SECONDS:
                reason, asked_at = await _reason(app, job_id), clock()
            _show(show, record, output.redact.text(reason), output.redact)


async def _reason(app: Taurine, job_id: str) -> str:
    why = await app.why(job_id)
    return next((f"it {held.text}" for held in why.reasons if held.code not in ("queued", "running")), "")


def _show(show: Show, record: JobRecord, reason: str, redact: Redact) -> None:
    attempt = f"attempt {record.attempts + 1} of {record.max_attempts}" if record.attempts else ""
    if record.status != "running":
        show(record.status, text=reason or attempt)
        return
    done, total, message = progress_of(redact.data(record.progress))
    show(record.status, done, total, ", ".join(filter(None, (attempt, message))))


def conclude(record: JobRecord, output: Output) -> int:
    """Say on stderr how a job has ended; returns the exit code for it."""
    if record.status == "completed":
        output.note(f"completed{_took(record)}", "green")
        return DONE
    if record.status == "failed":
        output.error(
            f"job {record.id!r} failed in attempt {record.attempts} of {record.max_attempts}: {cause(record.error, output.redact)}",
            hint=f"`taurine job {record.id}` shows its attempts, `taurine retry {record.id}` runs it again",
        )
        return FAILED
    because = f": {output.redact.text(record.cancel_reason)}" if record.cancel_reason else ""
    output.error(
        f"job {record.id!r} was cancelled{because}"
        if record.status == "cancelled"
        else f"job {record.id!r} expired before it ran"
    )
    return CANCELLED


def _took(record: JobRecord) -> str:
    if record.started_at is None or record.finished_at is None:
        return ""
    return f" in {short_text((record.finished_at - record.started_at).total_seconds())}"


def goes_on(job_id: str, output: Output) -> None:
    """Say that only the watching has ended."""
    output.note(f"The job goes on. `taurine job {job_id} --watch` watches it, `taurine cancel {job_id}` stops it.")
