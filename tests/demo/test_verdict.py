"""The demo's checks: each must be able to fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taurine.demo.counts import Counts
from taurine.demo.journal import Run
from taurine.demo.verdict import Evidence, Indexed, Lost, Operated, judge

FILE = Counts(files=1, lines=10)
CHECKS = 8


def good() -> Evidence:
    """Three files; worker-2 held b, which ran again elsewhere, and c, whose result was recorded."""
    counted = dict.fromkeys("abc", FILE)
    return Evidence(
        indexed=Indexed(
            by_loop=counted,
            by_records=dict(counted),
            unfinished={"failed": 0, "running": 0},
            victim="worker-2",
            held=["b", "c"],
            recorded=["c"],
            journal=[
                *(Run("worker-1", "a"), Run("worker-2", "b"), Run("worker-2", "c")),
                Run("worker-1", "b"),
            ],
        ),
        operated=Operated(
            failed="failed", dead_letters=1, redriven="completed", duplicate=True, cancelled="cancelled", looks=3
        ),
        lost=Lost(open=2, digests={"a": "1", "b": "2"}, plain={"a": "1", "b": "2"}),
    )


def test_all_checks_hold_when_all_is_well() -> None:
    checks = judge(good())

    assert [check.holds for check in checks] == [True] * CHECKS
    assert checks[2].text == "2 files (b, c) held by worker-2 went to the other worker; 1 file (c) had a result already"
    assert checks[3].text == "run more than once: 1 file (b), all held by worker-2"


def another_count(e: Evidence) -> None:
    e.indexed.by_records = {**e.indexed.by_records, "a": Counts(files=1)}


def no_file_at_all(e: Evidence) -> None:
    e.indexed = Indexed()


def a_result_is_missing(e: Evidence) -> None:
    e.indexed.by_records = {"a": FILE, "b": FILE}


def a_result_too_many(e: Evidence) -> None:
    e.indexed.by_records = {**e.indexed.by_records, "d": FILE}


def a_job_failed(e: Evidence) -> None:
    e.indexed.unfinished = {"failed": 1}


def held_and_not_run_again(e: Evidence) -> None:
    e.indexed.held = ["a", "b", "d"]


def never_run(e: Evidence) -> None:
    e.indexed.journal = [run for run in e.indexed.journal if run.file != "a"]


def run_twice(e: Evidence) -> None:
    e.indexed.journal = [*e.indexed.journal, Run("worker-1", "a")]


def run_after_success(e: Evidence) -> None:
    e.indexed.journal = [*e.indexed.journal, Run("worker-1", "c")]


def two_dead_letters(e: Evidence) -> None:
    e.operated.dead_letters = 2


def not_redriven(e: Evidence) -> None:
    e.operated.redriven = "failed"


def enqueued_twice(e: Evidence) -> None:
    e.operated.duplicate = False


def not_cancelled(e: Evidence) -> None:
    e.operated.cancelled = "completed"


def partial_result_lost(e: Evidence) -> None:
    e.operated.looks = 0


def not_put_back(e: Evidence) -> None:
    e.lost.digests = {"a": "1"}


def a_wrong_digest(e: Evidence) -> None:
    e.lost.digests = {"a": "1", "b": "1"}


def nothing_was_open(e: Evidence) -> None:
    e.lost.open = 0


def a_process_stays(e: Evidence) -> None:
    e.ended_badly = ["the server"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (another_count, "1 file (a) counted otherwise"),
        (no_file_at_all, "file by file"),
        (a_result_is_missing, "without a result: 1 file (c)"),
        (a_result_too_many, "nobody asked for: 1 file (d)"),
        (a_job_failed, "not completed in the end: {'failed': 1}"),
        (held_and_not_run_again, "held by worker-2 and run by nobody else: 1 file (d)"),
        (never_run, "never run by any worker: 1 file (a)"),
        (run_twice, "without a reason: 1 file (a)"),
        (run_after_success, "although the record said completed: 1 file (c)"),
        (two_dead_letters, "('failed', 2, 'completed', True)"),
        (not_redriven, "('failed', 1, 'failed', True)"),
        (enqueued_twice, "('failed', 1, 'completed', False)"),
        (not_cancelled, "not cancelled with its result: completed, 3"),
        (partial_result_lost, "not cancelled with its result: cancelled, 0"),
        (not_put_back, "without the right result: 1 file (b)"),
        (a_wrong_digest, "without the right result: 1 file (b)"),
        (nothing_was_open, "of 0 jobs that the server lost"),
        (a_process_stays, "did not stop cleanly: the server"),
    ],
)
def test_what_is_wrong_is_found(spoil: Callable[[Evidence], None], message: str) -> None:
    evidence = good()
    spoil(evidence)
    wrong = [check.text for check in judge(evidence) if not check.holds]

    assert any(message in text for text in wrong), wrong


def test_a_worker_that_held_nothing_is_said_to_have_held_nothing() -> None:
    evidence = good()
    evidence.indexed.held = evidence.indexed.recorded = []
    evidence.indexed.journal = [Run("worker-1", name) for name in "abc"]
    checks = judge(evidence)

    assert all(check.holds for check in checks)
    assert checks[2].text == "worker-2 held no job when it was killed"
