"""Asking the witnesses: the ledger, the business database, the CSV file and the mail server's own account."""

from __future__ import annotations

import csv
from pathlib import Path

from taurine.demo.desk import Desk, report_name
from taurine.demo.mailbox import Mailbox
from taurine.demo.triage import letter_name
from taurine.demo.verdict import Evidence, Told
from taurine.ledger.records import JobRecord

__all__ = ["gather"]

_PAGE = 500


async def gather(desk: Desk, mailbox: Mailbox, evidence: Evidence, *, watch_id: str) -> None:
    """Write down what each of them says. Raises LedgerUnavailable."""
    await _ask_the_ledger(desk, evidence)
    tickets = desk.office.tickets
    evidence.tickets, evidence.teams = tickets.numbers(), tickets.teams()
    evidence.reports, evidence.looks = tickets.reports(), tickets.looks(watch_id)
    evidence.exported = [number for path in desk.office.places.exports.glob("*.csv") for number in _numbers_in(path)]
    evidence.letters, evidence.refused = mailbox.letters(), mailbox.refused()


async def _ask_the_ledger(desk: Desk, evidence: Evidence) -> None:
    app = desk.app
    records = [record async for record in app.list(limit=_PAGE)]
    evidence.records = {
        record.id: Told(record.type, record.status, record.output, _letter_of(record)) for record in records
    }
    retried: dict[str, int] = {}
    for record in records:
        if record.attempts > 1 or record.generation:
            outcomes = [attempt.outcome for attempt in await app.attempts(record.id)]
            if "retried" in outcomes:
                retried[record.id] = outcomes.count("retried")
    evidence.retried = retried
    entries = await app.dead_letters.list(status=None, limit=_PAGE)
    evidence.dead_letters = {
        job_id: [entry.status for entry in entries if entry.job_id == job_id]
        for job_id in {entry.job_id for entry in entries}
    }
    triages = [record for record in records if record.type == desk.triage.name]
    ends = [record.finished_at for record in triages if record.finished_at and record.id != evidence.poison.job_id]
    if ends:
        evidence.seconds = (max(ends) - min(record.created_at for record in triages)).total_seconds()


def _letter_of(record: JobRecord) -> str | None:
    if record.type == "ticket.triage":
        return letter_name(record.payload["number"])
    if record.type == "desk.report":
        return report_name(record.scheduled_for or record.created_at)
    return None


def _numbers_in(path: Path) -> list[int]:
    with path.open(encoding="utf-8", newline="") as file:
        return [int(row["number"]) for row in csv.DictReader(file)]
