"""The demo's table: each of its lines must be able to fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from embedded.processes import SOURCE
from taurine.demo.mailbox import Letter
from taurine.demo.verdict import Evidence, Killed, Poison, Told, judge

NUMBERS = range(1, 7)
POISON = 2
TEAM = "files@desk.example"
REPORT = "report.20260301T120000"
ROWS = [
    *("accepted", "completed", "retried", "duplicates refused", "dead", "redriven", "cancelled", "recovered"),
    *("lost", "e-mails sent", "e-mails sent twice", "jobs per second", "ended badly"),
]


def triaged(number: int, *, looked_up: bool = False) -> Told:
    output = {"number": number, "team": TEAM, "letter": {"looked_up": looked_up}}
    return Told("ticket.triage", "completed", output, f"triage.{number}")


def letter(number: int, name: str, recipient: str = TEAM) -> Letter:
    return Letter(number, f"{name}@desk.example", recipient)


def good() -> Evidence:
    """Six tickets.

    2 was the poison, 3's letter came again later; worker-2 held 4, 5 and the export, and 4's letter was in doubt.
    """
    return Evidence(
        records={
            **{f"triage:{number}": triaged(number, looked_up=number == 4) for number in NUMBERS},
            "export:all": Told("ticket.export", "completed", {"tickets": 6, "resumed_at": 2}),
            "watch:night": Told("desk.watch", "cancelled", 7),
            "tick": Told("desk.report", "completed", "6 files", REPORT),
        },
        retried={"triage:2": 2, "triage:3": 1},
        dead_letters={"triage:2": ["redriven"]},
        tickets=list(NUMBERS),
        teams=dict.fromkeys(NUMBERS, TEAM),
        reports=[REPORT],
        looks=7,
        exported=[1, 3, 4, 5, 6, 2],
        letters=[*(letter(number, f"triage.{number}") for number in NUMBERS), letter(7, REPORT, "head@desk.example")],
        refused=["triage.3@desk.example"],
        enqueued_again=[1, 2, 3],
        duplicates=3,
        poison=Poison(number=POISON, job_id="triage:2", status_at_death="failed"),
        killed=Killed(name="worker-2", held=["export:all", "triage:4", "triage:5"], in_doubt=["triage:4"]),
        seconds=2.0,
        stopped=["worker-1", "Valkey"],
    )


def test_all_lines_hold_when_all_is_well() -> None:
    rows = judge(good())

    assert [row.name for row in rows] == ROWS
    assert not [row for row in rows if not row.holds]
    assert [row.value for row in rows] == [9, 8, 3, 3, 1, 1, 1, 3, 0, 7, 0, 2.5, 0]
    assert rows[7].text == "from worker-2; 1 letter in doubt found in the mailbox, the export gone on at line 2"


def test_the_readme_shows_this_table() -> None:
    readme = (SOURCE.parent / "README.md").read_text("utf-8")
    (table,) = re.findall(r"^```text\n(accepted .*?)^```$", readme, re.MULTILINE | re.DOTALL)

    assert [re.split(r"  +", line)[0] for line in table.splitlines()] == ROWS
    assert {re.split(r"  +", line)[2] for line in table.splitlines()} == {"ok"}


def record(seen: Evidence, job_id: str, **changes: Any) -> None:
    seen.records = {**seen.records, job_id: seen.records[job_id]._replace(**changes)}


def without(seen: Evidence, name: str) -> None:
    seen.letters = [one for one in seen.letters if not one.message_id.startswith(f"{name}@")]


def a_job_is_missing(seen: Evidence) -> None:
    seen.records = {job_id: told for job_id, told in seen.records.items() if job_id != "triage:6"}


def a_job_too_many(seen: Evidence) -> None:
    seen.records = {**seen.records, "triage:9": triaged(9)}


def no_ticket_at_all(seen: Evidence) -> None:
    seen.tickets = []


def no_report(seen: Evidence) -> None:
    seen.reports = []
    seen.records = {job_id: told for job_id, told in seen.records.items() if job_id != "tick"}


def a_job_failed(seen: Evidence) -> None:
    record(seen, "triage:6", status="failed")


def completed_and_not_routed(seen: Evidence) -> None:
    seen.teams = {number: TEAM for number in NUMBERS if number != 6}


def a_line_twice(seen: Evidence) -> None:
    seen.exported = [*seen.exported, 6]


def a_line_missing(seen: Evidence) -> None:
    seen.exported = [1, 3, 4, 5, 6]


def retried_unasked(seen: Evidence) -> None:
    seen.retried = {**seen.retried, "triage:1": 1}


def not_retried(seen: Evidence) -> None:
    seen.retried = {"triage:2": 2}


def a_duplicate_accepted(seen: Evidence) -> None:
    seen.duplicates = 2


def a_duplicate_sent(seen: Evidence) -> None:
    seen.letters = [*seen.letters, letter(8, "triage.1")]


def no_dead_letter(seen: Evidence) -> None:
    seen.dead_letters = {}


def two_dead_letters(seen: Evidence) -> None:
    seen.dead_letters = {"triage:2": ["redriven", "open"]}


def another_dead_letter(seen: Evidence) -> None:
    seen.dead_letters = {**seen.dead_letters, "triage:5": ["open"]}


def dead_and_sent(seen: Evidence) -> None:
    seen.poison = replace(seen.poison, letters_at_death=1)


def dead_and_routed(seen: Evidence) -> None:
    seen.poison = replace(seen.poison, team_at_death=TEAM)


def not_dead(seen: Evidence) -> None:
    seen.poison = replace(seen.poison, status_at_death="completed")


def not_redriven(seen: Evidence) -> None:
    seen.dead_letters = {"triage:2": ["open"]}


def redriven_in_vain(seen: Evidence) -> None:
    without(seen, "triage.2")


def not_cancelled(seen: Evidence) -> None:
    record(seen, "watch:night", status="completed")


def it_went_on(seen: Evidence) -> None:
    seen.looks = 8


def held_and_not_completed(seen: Evidence) -> None:
    record(seen, "triage:5", status="running")


def nothing_held(seen: Evidence) -> None:
    seen.killed = Killed(name="worker-2")


def nobody_asked_the_mailbox(seen: Evidence) -> None:
    record(seen, "triage:4", output=triaged(4).output)


def begun_anew(seen: Evidence) -> None:
    record(seen, "export:all", output={"tickets": 6, "resumed_at": 0})


def a_letter_is_lost(seen: Evidence) -> None:
    without(seen, "triage.6")


def a_letter_to_the_wrong_team(seen: Evidence) -> None:
    without(seen, "triage.6")
    seen.letters = [*seen.letters, letter(8, "triage.6", "text@desk.example")]


def a_report_is_lost(seen: Evidence) -> None:
    without(seen, REPORT)


def a_letter_of_nobody(seen: Evidence) -> None:
    without(seen, "triage.6")
    seen.letters = [*seen.letters, letter(8, "triage.99")]


def sent_twice(seen: Evidence) -> None:
    seen.letters = [*seen.letters, letter(8, "triage.5")]


def in_no_time(seen: Evidence) -> None:
    seen.seconds = 0.0


def a_process_stays(seen: Evidence) -> None:
    seen.ended_badly = ["the server (process 7)"]


@pytest.mark.parametrize(
    ("spoil", "line", "message"),
    [
        (a_job_is_missing, "accepted", "6 tickets"),
        (a_job_too_many, "accepted", "6 tickets"),
        (no_ticket_at_all, "accepted", "0 tickets"),
        (no_ticket_at_all, "lost", ""),
        (no_report, "accepted", "0 reports"),
        (a_job_failed, "completed", "1 (triage:6)"),
        (completed_and_not_routed, "completed", "5 of 6 tickets have a team"),
        (a_line_twice, "completed", "7 lines for 6 of 6 tickets"),
        (a_line_missing, "completed", "5 lines for 5 of 6 tickets"),
        (retried_unasked, "retried", "1 (triage:1)"),
        (not_retried, "retried", "1 (triage:3)"),
        (a_duplicate_accepted, "duplicates refused", "3 tickets"),
        (a_duplicate_sent, "duplicates refused", "other than one letter of 1 ticket"),
        (no_dead_letter, "dead", "so did none"),
        (two_dead_letters, "dead", "once"),
        (another_dead_letter, "dead", "2 (triage:2, triage:5)"),
        (dead_and_sent, "dead", "no team and 1 letter"),
        (dead_and_routed, "dead", "had team"),
        (not_dead, "dead", "it completed"),
        (not_redriven, "redriven", ""),
        (redriven_in_vain, "redriven", "0 letters after the fix"),
        (not_cancelled, "cancelled", "says []"),
        (it_went_on, "cancelled", "8 looks of the watch, the job's partial result says [7]"),
        (held_and_not_completed, "recovered", "1 (triage:5)"),
        (nothing_held, "recovered", "letters in doubt: 0"),
        (nobody_asked_the_mailbox, "recovered", "in doubt: 1; found in the mailbox by the next attempt: 0"),
        (begun_anew, "recovered", "begun anew"),
        (a_letter_is_lost, "lost", "1 (ticket 6)"),
        (a_letter_to_the_wrong_team, "lost", "1 (ticket 6)"),
        (a_report_is_lost, "lost", REPORT),
        (a_letter_is_lost, "e-mails sent", "7 were to be sent"),
        (a_letter_of_nobody, "e-mails sent", "7 were to be sent"),
        (sent_twice, "e-mails sent twice", "1 (triage.5)"),
        (in_no_time, "jobs per second", "0.0 s"),
        (a_process_stays, "ended badly", "the server (process 7)"),
    ],
)
def test_what_is_wrong_is_found(spoil: Callable[[Evidence], None], line: str, message: str) -> None:
    seen = good()
    spoil(seen)
    wrong = {row.name: row.text for row in judge(seen) if not row.holds}

    assert line in wrong
    assert message in wrong[line]


def test_a_held_job_may_or_may_not_have_been_retried() -> None:
    """Its worker died; whether it had come to say so is chance."""
    seen = good()
    seen.retried = {**seen.retried, "triage:5": 1}
    assert all(row.holds for row in judge(seen))
    seen = good()
    seen.refused = [*seen.refused, "triage.5@desk.example"]
    assert all(row.holds for row in judge(seen))
