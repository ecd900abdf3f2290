"""The demo's checks: each must be able to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from taurine.demo.counts import Counts
from taurine.demo.journal import Entry
from taurine.demo.verdict import Evidence, judge

FILE = Counts(files=1, lines=10)


def good() -> Evidence:
    """Three files; worker-2 held b, which was put back and run again."""
    counted = dict.fromkeys("abc", FILE)
    return Evidence(
        by_loop=counted,
        by_queue=dict(counted),
        unfinished={"failed": 0, "active": 0},
        victim="worker-2",
        held=["b"],
        journal=[
            Entry("worker-1", "ran", "a"),
            Entry("worker-2", "ran", "b"),
            Entry("worker-1", "recovered", "b"),
            Entry("worker-1", "ran", "b"),
            Entry("worker-1", "ran", "c"),
        ],
    )


def test_all_checks_hold_when_all_is_well() -> None:
    checks = judge(good())

    assert [check.holds for check in checks] == [True] * 5
    assert checks[3].text == "run more than once: 1 file (b), all held by worker-2"


@pytest.mark.parametrize(
    ("what", "spoil", "message"),
    [
        ("another count", lambda e: replace(e, by_queue={**e.by_queue, "a": Counts(files=1)}), "1 file (a) counted otherwise"),
        ("no file at all", lambda e: Evidence(), "file by file"),
        ("a result is missing", lambda e: replace(e, by_queue={"a": FILE, "b": FILE}), "without a result: 1 file (c)"),
        ("a result too many", lambda e: replace(e, by_queue={**e.by_queue, "d": FILE}), "nobody asked for: 1 file (d)"),
        ("a job failed", lambda e: replace(e, unfinished={"failed": 1}), "not completed in the end: {'failed': 1}"),
        ("held, not put back", lambda e: replace(e, held=["b", "c"]), "held 2 files (b, c), put back were 1 file (b)"),
        ("put back, not held", lambda e: replace(e, held=[]), "held no file, put back were 1 file (b)"),
        ("put back twice", lambda e: replace(e, journal=[*e.journal, Entry("worker-1", "recovered", "b")]), "held 1 file (b)"),
        ("never run", lambda e: replace(e, journal=e.journal[:-1]), "never run by any worker: 1 file (c)"),
        ("run twice", lambda e: replace(e, journal=[*e.journal, Entry("worker-1", "ran", "c")]), "without a reason: 1 file (c)"),
        ("a process stays", lambda e: replace(e, ended_badly=["the server"]), "did not stop cleanly: the server"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(what: str, spoil: Callable[[Evidence], Evidence], message: str) -> None:
    wrong = [check.text for check in judge(spoil(good())) if not check.holds]

    assert any(message in text for text in wrong), f"{what}: {wrong}"


def test_a_worker_that_held_nothing_is_said_to_have_held_nothing() -> None:
    journal = [Entry("worker-1", "ran", name) for name in "abc"]
    checks = judge(replace(good(), held=[], journal=journal))

    assert all(check.holds for check in checks)
    assert checks[2].text == "worker-2 held no job when it was killed, and none was put back"
