"""What commands print: JSON for programs, text for people; and nothing of a user's text that a terminal would obey."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taurine.jobs.operations.why import Why
from taurine.ledger.attempts import Attempt
from taurine.ledger.records import JobRecord

__all__ = ["Output", "attempt_json", "plain", "record_json"]


def plain(text: object) -> str:
    """A text whose control characters, direction marks and lone surrogates are shown as escapes; line breaks stay."""
    return "".join(
        character if character == "\n" or character.isprintable() else _escaped(character) for character in str(text)
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def record_json(record: JobRecord) -> dict[str, Any]:
    """A record as plain JSON: the members of `JobRecord`, times in ISO 8601."""
    names = ("id", "type", "queue", "tenant", "status", "phase", "payload", "output", "error", "progress", "attempts")
    more = ("max_attempts", "generation", "priority", "tags", "metadata", "worker", "created_by", "cancel_reason")
    times = ("created_at", "started_at", "finished_at", "updated_at", "scheduled_for", "expires_at", "dispatched_at")
    return {name: getattr(record, name) for name in (*names, *more)} | {
        name: _iso(getattr(record, name)) for name in times
    }


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt as plain JSON."""
    names = ("generation", "number", "outcome", "worker", "error")
    times = ("started_at", "finished_at", "next_at")
    return {name: getattr(attempt, name) for name in names} | {name: _iso(getattr(attempt, name)) for name in times}


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


class Output:
    """Where a command's answer goes. as_json: one JSON value on stdout and nothing else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._errors = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def json(self, value: Any) -> None:
        """One JSON value; what is not ASCII is escaped, control characters with it."""
        self._console.file.write(json.dumps(value, indent=2) + "\n")

    def line(self, text: str, style: str = "") -> None:
        self._console.print(Text(plain(text), style))

    def error(self, text: str) -> None:
        """On stderr."""
        self._errors.print(Text.assemble(("taurine: ", "bold red"), plain(text)))

    def job(self, record: JobRecord, attempts: Sequence[Attempt], why: Why) -> None:
        """Everything about one job."""
        facts = Table.grid(padding=(0, 2))
        for name, value in _facts_of(record):
            facts.add_row(Text(name, "bold"), Text(plain(value), overflow="fold"))
        self._console.print(facts)
        self.why(why)
        if attempts:
            self._console.print()
            self._console.print(_table_of(attempts))

    def why(self, why: Why) -> None:
        """The reasons, each in a line, and what is expected next."""
        self.line(why.sentence, "bold")
        for reason in why.reasons[1:]:
            self.line(f"Also, it {reason.text}.")
        if why.next_event is not None:
            at = "" if why.next_at is None else f", about {why.next_at:%Y-%m-%d %H:%M:%S} UTC"
            self.line(f"Next: {why.next_event}{at}.")


def _facts_of(record: JobRecord) -> list[tuple[str, object]]:
    times = {"created": record.created_at, "started": record.started_at, "finished": record.finished_at}
    facts: list[tuple[str, object]] = [
        ("id", record.id),
        ("type", record.type),
        ("queue", record.queue),
        ("tenant", record.tenant),
        ("status", record.status),
        ("attempts", f"{record.attempts} of {record.max_attempts}"),
        ("worker", record.worker),
        ("tags", ", ".join(record.tags) or None),
        *((name, None if time is None else f"{time:%Y-%m-%d %H:%M:%S.%f} UTC") for name, time in times.items()),
        ("payload", record.payload_json),
        ("progress", record.progress_json),
        ("output", record.output_json),
        ("error", None if record.error is None else f"{record.error.get('type')}: {record.error.get('message')}"),
    ]
    return [(name, value) for name, value in facts if value is not None]


def _table_of(attempts: Sequence[Attempt]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("attempt", "outcome", "started", "seconds", "worker", "error"):
        table.add_column(name, overflow="fold")
    for attempt in attempts:
        error = attempt.error or {}
        cells = (
            f"{attempt.generation}.{attempt.number}" if attempt.generation else str(attempt.number),
            attempt.outcome,
            "" if attempt.started_at is None else f"{attempt.started_at:%Y-%m-%d %H:%M:%S}",
            _seconds_of(attempt),
            attempt.worker or "",
            f"{error['type']}: {error['message']}" if error else "",
        )
        table.add_row(*(Text(plain(cell)) for cell in cells))
    return table


def _seconds_of(attempt: Attempt) -> str:
    if attempt.started_at is None or attempt.finished_at is None:
        return ""
    return f"{(attempt.finished_at - attempt.started_at).total_seconds():.3f}"
