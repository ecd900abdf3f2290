"""What must hold when the demo has ended. Pure: it judges what was seen, and touches nothing.

The ledger's account is held against the mail server's and the business database's, which know nothing of jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from taurine.demo.mailbox import Letter
from taurine.demo.mailing import DOMAIN
from taurine.demo.triage import letter_name

__all__ = ["Evidence", "Killed", "Poison", "Row", "Told", "judge"]

_NAMED = 3
"""Jobs that a line names at most."""


class Row(NamedTuple):
    """One line of the final table. holds: whether the value is what the witnesses say. text: what they say."""

    name: str
    value: float
    holds: bool
    text: str


class Told(NamedTuple):
    """What the ledger says of one job. letter: the name of the letter that the job is to send, if it is to send one."""

    type: str
    status: str
    output: Any = None
    letter: str | None = None


@dataclass(slots=True, kw_only=True)
class Poison:
    """The ticket that could not be read.

    at_death: what the business database and the mail server knew of it when its job had failed for good.
    """

    number: int = 0
    job_id: str = ""
    status_at_death: str = ""
    team_at_death: str | None = None
    letters_at_death: int = 0


@dataclass(slots=True, kw_only=True)
class Killed:
    """The worker that was killed.

    held: its jobs at that moment. in_doubt: those whose letter the mail server had taken and not said so.
    """

    name: str = ""
    held: Collection[str] = ()
    in_doubt: Collection[str] = ()


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What was seen of the demo."""

    records: Mapping[str, Told] = field(default_factory=dict[str, Told])
    """The ledger, by job."""
    retried: Mapping[str, int] = field(default_factory=dict[str, int])
    """Attempts after which the ledger says that another one was to come, by job."""
    dead_letters: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """What became of the dead letters of each job that has any."""

    tickets: Collection[int] = ()
    teams: Mapping[int, str] = field(default_factory=dict[int, str])
    reports: Collection[str] = ()
    looks: int = 0
    """The business database: tickets, the teams that they went to, reports by name, looks of the watch."""
    exported: Sequence[int] = ()
    """The numbers in the CSV file, in its order."""
    letters: Sequence[Letter] = ()
    refused: Sequence[str] = ()
    """The mail server: the letters that it took, and the ids of those that it sent away."""

    enqueued_again: Collection[int] = ()
    """Tickets that were enqueued a second time."""
    duplicates: int = 0
    """How many of those were refused."""
    poison: Poison = field(default_factory=Poison)
    killed: Killed = field(default_factory=Killed)
    seconds: float = 0.0
    """From the first ticket's enqueueing to the last one's triage, the poison left out."""
    stopped: Sequence[str] = ()
    """Processes that ended when they were told to."""
    ended_badly: Sequence[str] = ()
    """Processes that did not end, or ended with another exit code than 0; the killed worker is not among them."""


def judge(evidence: Evidence) -> list[Row]:
    """The table, with what holds and what does not."""
    return [
        _accepted(evidence),
        _completed(evidence),
        _retried(evidence),
        _duplicates(evidence),
        _dead(evidence),
        _redriven(evidence),
        _cancelled(evidence),
        _recovered(evidence),
        _lost(evidence),
        _sent(evidence),
        _sent_twice(evidence),
        _rate(evidence),
        _stopped(evidence),
    ]


# Counting what there is -----------------------------------------------------------------------------------------------------------


def _accepted(seen: Evidence) -> Row:
    asked = {f"triage:{number}" for number in seen.tickets}
    triages, reports = _of_type(seen, "ticket.triage"), _of_type(seen, "desk.report")
    exports, watches = _of_type(seen, "ticket.export"), _of_type(seen, "desk.watch")
    others = len(seen.records) - len(triages) - len(reports) - len(exports) - len(watches)
    right = bool(asked) and set(triages) == asked and len(exports) == len(watches) == 1 and not others
    right = right and len(reports) == len(set(seen.reports)) > 0
    text = f"{len(asked):,} tickets in the business database, an export, a watch, {_times(len(seen.reports), 'report')}"
    return Row("accepted", len(seen.records), right, text)


def _completed(seen: Evidence) -> Row:
    done = {job_id for job_id, told in seen.records.items() if told.status == "completed"}
    expected = {job_id for job_id, told in seen.records.items() if told.type != "desk.watch"}
    if left := expected ^ done:
        return Row("completed", len(done), False, f"other than the ledger should say: {_named(left)}")
    if set(seen.teams) != set(seen.tickets):
        routed = len(seen.teams.keys() & set(seen.tickets))
        return Row("completed", len(done), False, f"{routed:,} of {len(seen.tickets):,} tickets have a team")
    if sorted(seen.exported) != sorted(seen.tickets):
        once = len(set(seen.exported) & set(seen.tickets))
        text = f"the CSV file has {len(seen.exported):,} lines for {once:,} of {len(seen.tickets):,} tickets"
        return Row("completed", len(done), False, text)
    return Row(
        "completed", len(done), True, "each ticket has a team in the business database and a line in the CSV file"
    )


def _retried(seen: Evidence) -> Row:
    by_letter = {told.letter: job_id for job_id, told in seen.records.items() if told.letter}
    sent_away = {by_letter.get(_name_of(message_id), message_id) for message_id in seen.refused}
    expected = sent_away | {seen.poison.job_id}
    # Of an attempt whose worker was killed, nobody can say that it was to be retried.
    wrong = (expected ^ seen.retried.keys()) - set(seen.killed.held)
    total = sum(seen.retried.values())
    if wrong:
        return Row("retried", total, False, f"retried without a reason, or not although there was one: {_named(wrong)}")
    text = f"the mail server sent {_times(len(seen.refused), 'letter')} away; the poison ticket was tried again"
    return Row("retried", total, total > 0, text)


def _duplicates(seen: Evidence) -> Row:
    asked, letters = len(seen.enqueued_again), _letters_by_name(seen)
    wrong = [number for number in seen.enqueued_again if letters[letter_name(number)] != 1]
    right = 0 < asked == seen.duplicates and not wrong
    text = f"{asked:,} tickets were enqueued again; the mail server has one letter of each"
    if wrong:
        text = f"the mail server has other than one letter of {_times(len(wrong), 'ticket')} that came twice"
    return Row("duplicates refused", seen.duplicates, right, text)


# What went wrong on purpose ---------------------------------------------------------------------------------------------------------


def _dead(seen: Evidence) -> Row:
    poison = seen.poison
    right = set(seen.dead_letters) == {poison.job_id} and len(seen.dead_letters[poison.job_id]) == 1
    untouched = poison.team_at_death is None and not poison.letters_at_death
    if not right or poison.status_at_death != "failed":
        text = f"expected {poison.job_id} alone to fail for good, once; it {poison.status_at_death}, and so did {_named(seen.dead_letters)}"
        return Row("dead", len(seen.dead_letters), False, text)
    text = f"{poison.job_id} had {'' if poison.team_at_death else 'no '}team and {_times(poison.letters_at_death, 'letter')}"
    return Row("dead", len(seen.dead_letters), untouched, text)


def _redriven(seen: Evidence) -> Row:
    redriven = [job_id for job_id, states in seen.dead_letters.items() if "redriven" in states]
    letters = _letters_by_name(seen)[letter_name(seen.poison.number)]
    team = seen.teams.get(seen.poison.number)
    right = redriven == [seen.poison.job_id] and team is not None and letters == 1
    text = f"{seen.poison.job_id} has {'a' if team else 'no'} team and {_times(letters, 'letter')} after the fix"
    return Row("redriven", len(redriven), right, text)


def _cancelled(seen: Evidence) -> Row:
    cancelled = {job_id: told for job_id, told in seen.records.items() if told.status == "cancelled"}
    kept = [told.output for told in cancelled.values()]
    right = [told.type for told in cancelled.values()] == ["desk.watch"] and kept == [seen.looks] and seen.looks > 0
    text = f"the business database has {seen.looks:,} looks of the watch, the job's partial result says {kept}"
    if right:
        text = f"while it ran: its partial result, {seen.looks:,} looks, is what the business database has"
    return Row("cancelled", len(cancelled), right, text)


def _recovered(seen: Evidence) -> Row:
    killed, letters = seen.killed, _letters_by_name(seen)
    held, in_doubt = set(killed.held), set(killed.in_doubt)
    done = {job_id for job_id in held if job_id in seen.records and seen.records[job_id].status == "completed"}
    if left := held - done:
        return Row("recovered", len(done), False, f"held by {killed.name} and not completed by another: {_named(left)}")
    (export,) = _of_type(seen, "ticket.export").values() or (Told("", ""),)
    resumed_at = _output_of(export).get("resumed_at", 0)
    if not resumed_at:
        return Row("recovered", len(done), False, f"the export of {killed.name} was not gone on with, but begun anew")
    found = {job_id for job_id in in_doubt if _was_looked_up(seen.records[job_id])}
    once = {job_id for job_id in in_doubt if letters[seen.records[job_id].letter or ""] == 1}
    if not in_doubt or in_doubt != found or in_doubt != once:
        text = f"letters in doubt: {len(in_doubt)}; found in the mailbox by the next attempt: {len(found)}; there once: {len(once)}"
        return Row("recovered", len(done), False, text)
    text = f"from {killed.name}; {_times(len(found), 'letter')} in doubt found in the mailbox, the export gone on at line {resumed_at:,}"
    return Row("recovered", len(done), True, text)


# What must not be -----------------------------------------------------------------------------------------------------------------


def _lost(seen: Evidence) -> Row:
    reached = {(_name_of(letter.message_id), letter.recipient) for letter in seen.letters}
    names = {name for name, _ in reached}
    without = {
        f"ticket {number}" for number in seen.tickets if (letter_name(number), seen.teams.get(number)) not in reached
    }
    without |= set(seen.reports) - names
    if without:
        return Row("lost", len(without), False, f"no letter to the right team: {_named(without)}")
    return Row("lost", 0, bool(seen.tickets), "each ticket's letter has reached its team, and each report the head")


def _sent(seen: Evidence) -> Row:
    expected = {letter_name(number) for number in seen.tickets} | set(seen.reports)
    unknown = _letters_by_name(seen).keys() - expected
    right = len(seen.letters) == len(expected) and not unknown
    text = f"{len(expected):,} were to be sent: one for each ticket and report in the business database"
    return Row("e-mails sent", len(seen.letters), right, text)


def _sent_twice(seen: Evidence) -> Row:
    twice = {name for name, number in _letters_by_name(seen).items() if number > 1}
    if twice:
        return Row("e-mails sent twice", len(twice), False, f"the mail server has them more than once: {_named(twice)}")
    return Row("e-mails sent twice", 0, bool(seen.letters), "the mail server has no message id twice")


def _rate(seen: Evidence) -> Row:
    done = len(seen.teams.keys() - {seen.poison.number})
    rate = done / seen.seconds if seen.seconds > 0 else 0.0
    text = f"{done:,} tickets in {seen.seconds:.1f} s, in which a worker died and its jobs had to be noticed"
    return Row("jobs per second", round(rate, 1), rate > 0, text)


def _stopped(seen: Evidence) -> Row:
    text = (
        f"did not: {', '.join(seen.ended_badly)}" if seen.ended_badly else f"{', '.join(seen.stopped)} stopped cleanly"
    )
    return Row("ended badly", len(seen.ended_badly), not seen.ended_badly and bool(seen.stopped), text)


# Words ----------------------------------------------------------------------------------------------------------------------------


def _of_type(seen: Evidence, job_type: str) -> dict[str, Told]:
    return {job_id: told for job_id, told in seen.records.items() if told.type == job_type}


def _name_of(message_id: str) -> str:
    return message_id.removesuffix(f"@{DOMAIN}")


def _letters_by_name(seen: Evidence) -> Counter[str]:
    return Counter(_name_of(letter.message_id) for letter in seen.letters)


def _output_of(told: Told) -> dict[str, Any]:
    output: object = told.output
    return cast("dict[str, Any]", output) if isinstance(output, dict) else {}


def _was_looked_up(told: Told) -> bool:
    return bool(_output_of(told).get("letter", {}).get("looked_up"))


def _times(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _named(names: Collection[str]) -> str:
    """How many, and which, if they are few enough to name."""
    if not names:
        return "none"
    return f"{len(names):,} ({', '.join(sorted(names)[:_NAMED])}{', …' if len(names) > _NAMED else ''})"
