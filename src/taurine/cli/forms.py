"""What records, queues and their like are as plain JSON, and in a line for people.

The members of the JSON are those of the public classes; times are ISO 8601.

What must not be shown is replaced in all that users and handlers wrote, as the API does; ids, and the names of types,
queues and people, are what one asks by, and stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from taurine.jobs.reporting.durations import seconds_text

if TYPE_CHECKING:
    from taurine.jobs.operations.alerts import AlertView
    from taurine.jobs.operations.queues import QueueView
    from taurine.jobs.operations.workers import WorkerView
    from taurine.jobs.reporting.redaction import Redact
    from taurine.ledger.attempts import Attempt
    from taurine.ledger.audit import AuditEntry
    from taurine.ledger.dead_letters import DeadLetter
    from taurine.ledger.job_logs import NumberedLine
    from taurine.ledger.records import JobRecord

__all__ = [
    "action_json",
    "age",
    "alert_json",
    "attempt_json",
    "cause",
    "dead_letter_json",
    "json_text",
    "log_line_json",
    "progress_of",
    "progress_text",
    "queue_json",
    "record_json",
    "seconds_text",
    "time_text",
    "worker_json",
]


def record_json(record: JobRecord, redact: Redact) -> dict[str, Any]:
    """A record: the members of `JobRecord`."""
    names = ("id", "type", "queue", "tenant", "status", "phase", "payload", "output", "error", "progress", "attempts")
    more = ("max_attempts", "generation", "priority", "tags", "metadata", "worker", "created_by", "cancel_reason")
    times = ("created_at", "started_at", "finished_at", "updated_at", "scheduled_for", "expires_at", "dispatched_at")
    members = {name: getattr(record, name) for name in (*names, *more)}
    written = ("payload", "output", "error", "progress", "tags", "metadata", "cancel_reason")
    hidden = {name: redact.data(members[name]) for name in written}
    return members | hidden | {name: _iso(getattr(record, name)) for name in times}


def attempt_json(attempt: Attempt, redact: Redact) -> dict[str, Any]:
    """An attempt."""
    names = ("generation", "number", "outcome", "worker")
    times = ("started_at", "finished_at", "next_at")
    members = {name: getattr(attempt, name) for name in names} | {"error": redact.data(attempt.error)}
    return members | {name: _iso(getattr(attempt, name)) for name in times}


def log_line_json(line: NumberedLine, redact: Redact) -> dict[str, Any]:
    """A line of a job's log."""
    at = datetime.fromtimestamp(line.at / 1000, UTC)
    return {
        "number": line.number,
        "at": at.isoformat(),
        "level": line.level,
        "message": redact.text(line.message),
        "fields": redact.data(line.fields),
    }


def action_json(action: AuditEntry) -> dict[str, Any]:
    """An action on a job."""
    return {
        "at": datetime.fromtimestamp(action.at / 1000, UTC).isoformat(),
        "actor": action.actor,
        "action": action.action,
    }


def dead_letter_json(entry: DeadLetter, redact: Redact) -> dict[str, Any]:
    """A dead letter: the members of `DeadLetter`."""
    names = (
        "id",
        "job_id",
        "generation",
        "type",
        "queue",
        "tenant",
        "reason",
        "attempts",
        "error_fingerprint",
        "status",
    )
    members = {name: getattr(entry, name) for name in (*names, "resolved_by", "redriven_as")}
    members |= {name: redact.data(getattr(entry, name)) for name in ("payload", "error")}
    return members | {name: _iso(getattr(entry, name)) for name in ("failed_at", "resolved_at")}


def queue_json(view: QueueView) -> dict[str, Any]:
    """A queue. `standing` is null when its server did not answer."""
    standing = view.standing
    return {
        "name": view.name,
        "declared": view.declared,
        "records": {status: {"number": count.number, "exact": count.exact} for status, count in view.records.items()},
        "oldest_waiting": view.oldest_waiting,
        "undelivered": view.undelivered,
        "dead_letters": view.dead_letters,
        "error": view.error,
        "standing": standing
        and {
            "counts": dict(standing.counts),
            "paused": standing.paused,
            "concurrency": standing.concurrency,
            "rate_limit": standing.rate_limit
            and {"max": standing.rate_limit.max, "duration": standing.rate_limit.duration},
            "workers": None
            if standing.workers is None
            else [
                {"name": worker.name, "address": worker.address, "age": worker.age, "idle": worker.idle}
                for worker in standing.workers
            ],
        },
    }


def worker_json(view: WorkerView) -> dict[str, Any]:
    """A worker: the members of `WorkerView`."""
    names = ("id", "name", "host", "pid", "version", "slots", "busy", "leases_lost", "state")
    return {name: getattr(view, name) for name in names} | {
        "queues": list(view.queues),
        "loops": {name: {"age": loop.age, "late": loop.late} for name, loop in view.loops.items()},
        **{name: _iso(getattr(view, name)) for name in ("started_at", "seen_at", "stopped_at")},
    }


def alert_json(view: AlertView, redact: Redact) -> dict[str, Any]:
    """An alert: the members of `AlertView`."""
    names = ("rule", "kind", "subject", "state", "severity", "value", "limit")
    times = ("since", "seen_at", "raised_at", "told_at")
    members = {name: getattr(view, name) for name in names} | {"message": redact.text(view.message)}
    return members | {name: _iso(getattr(view, name)) for name in times}


def json_text(text: str | None, redact: Redact) -> str | None:
    """JSON that users or handlers wrote, in a line: as it is stored, unless something is hidden in it."""
    if text is None:
        return None
    value = json.loads(text)
    shown = redact.data(value)
    return text if shown == value else json.dumps(shown, ensure_ascii=False)


def cause(error: Mapping[str, Any] | None, redact: Redact) -> str | None:
    """An error in a line: its type and message."""
    return None if error is None else redact.text(f"{error.get('type')}: {error.get('message')}")


def progress_of(value: Any) -> tuple[float | None, float | None, str]:
    """How much is done of how much, and a message: as `ctx.progress` writes it, and as others on the queue may."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value, 100.0, ""
    if not isinstance(value, dict):
        return None, None, "" if value is None else str(value)
    members = cast("dict[str, Any]", value)
    done, total, percentage = members.get("done"), members.get("total"), members.get("percentage")
    message = members.get("message") or ""
    if isinstance(done, int | float) and isinstance(total, int | float):
        return done, total, str(message)
    if isinstance(percentage, int | float):
        return percentage, 100.0, str(message)
    return None, None, str(message)


def progress_text(value: Any) -> str | None:
    """Progress in a line: 3 of 10, walking. None for none."""
    done, total, message = progress_of(value)
    if done is None:
        return message or None
    share = f"{_number(done)} %" if total == 100.0 else f"{_number(done)} of {_number(total or 0.0)}"
    return f"{share}, {message}" if message else share


def _number(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def time_text(time: datetime | None) -> str | None:
    """A time for people, in UTC."""
    return None if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def age(since: datetime, now: datetime | None = None) -> str:
    """How long ago a time was."""
    return seconds_text(max(0.0, ((now or datetime.now(UTC)) - since).total_seconds()))


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
