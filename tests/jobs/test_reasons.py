"""`explain`: from what is known of a job to why it is not running."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.situations import NOW, at, facts, named, place, record, report, run, stored
from taurine.jobs.operations import reasons
from taurine.jobs.operations.reasons import Reason, explain
from taurine.jobs.runtime import admission


def in_queue(**values: Any) -> list[Reason]:
    """Of a job that is next in line behind 10 that run, by two workers of 5 slots."""
    of_place = {"active": 10, "ahead": 0, "rate": 2 / 60, "window_left": 0.0} | values.pop("place", {})
    usual: dict[str, Any] = {
        "reports": [report("a"), report("b")],
        "workers": named("a", "b"),
        "runs": [run(f"hung-{number}", number - 20, "ab"[number % 2]) for number in range(10)],
        "last_end": NOW - 30,
    }
    return explain(facts(place=place(**of_place), **(usual | values)))


def codes(found: list[Reason]) -> list[str]:
    return [reason.code for reason in found]


def test_runs_that_hold_all_slots_are_named_and_no_start_is_foretold() -> None:
    taken, line = in_queue()

    assert (taken.code, line.code) == ("slots_taken", "in_line")
    assert taken.text == (
        "cannot start: all 10 slots of queue 'orders' at its 2 workers are taken; "
        "longest by hung-0 since 2023-11-14 22:13:00 UTC (20 s ago), hung-1 since 2023-11-14 22:13:01 UTC (19 s ago), "
        "hung-2 since 2023-11-14 22:13:02 UTC (18 s ago); "
        "cancel those that hang, give their types a `timeout=`, or raise the concurrency"
    )
    assert taken.next_event == "one of the running jobs ends, or is cancelled"
    assert (line.text, line.at) == ("is next in line", None)


def test_slots_that_become_free_again_and_again() -> None:
    """Where something has ended since the first of the runs began, the place in line comes first, with its time."""
    line, taken = in_queue(last_end=NOW - 19.5)

    assert (line.code, taken.code) == ("in_line", "slots_taken")
    assert line.at is not None
    assert "cancel" not in taken.text


def test_runs_of_workers_that_are_gone_hold_no_slot() -> None:
    taken = in_queue(runs=[run("old", -9000, "gone"), run("hung", -20, "a")])[0]

    assert [one["id"] for one in taken.details["longest"]] == ["hung"]


@pytest.mark.parametrize(
    "known",
    [
        {"place": {"active": 9}},
        {"reports": []},
        {"reports": [report("a"), report("b", slots=6)]},
        {"reports": [report("a")]},
        {"reports": [report("a"), report("b", state="lost")]},
        {"workers": named("a", "b", "of Node")},
    ],
    ids=["one is free", "none reports", "more slots", "one does not report", "one is lost", "one is not ours"],
)
def test_slots_that_are_free_or_not_known(known: dict[str, Any]) -> None:
    """Nothing is said of them; that nothing ends is."""
    (line,) = in_queue(**known)

    assert line.code == "in_line"
    assert line.text == (
        "is next in line; nothing that is kept has ended here since hung-0 began, 2023-11-14 22:13:00 UTC (20 s ago)"
    )
    assert line.at is None


def test_slots_of_workers_of_several_queues_and_of_those_that_are_gone() -> None:
    """A worker tells of the slots of all its queues together; one that is not connected has none."""
    shared = [report("a", queues=["orders", "mail"], slots=10), report("b"), report("killed", slots=50)]

    assert codes(in_queue(reports=shared)) == ["slots_taken", "in_line"]


def test_a_server_that_does_not_tell_who_is_connected() -> None:
    assert codes(in_queue(workers=None)) == ["slots_taken", "in_line"]


def test_one_that_runs_alone_has_always_begun_after_the_last_end() -> None:
    """It is a sign of nothing, until it runs for longer than its like."""
    alone: dict[str, Any] = {"reports": [report("a", slots=1)], "workers": named("a")}
    fresh = in_queue(**alone, runs=[run("x", -20, "a")], place={"active": 1})
    stuck = in_queue(**alone, runs=[run("x", -31, "a")], place={"active": 1}, last_end=NOW - 40)

    assert (codes(fresh), codes(stuck)) == (["in_line", "slots_taken"], ["slots_taken", "in_line"])
    assert "the only slot of queue 'orders' at its only worker is taken; longest by x since " in stuck[0].text


@pytest.mark.parametrize("state", ["running", "lost"])
def test_workers_that_are_connected_and_silent(state: str) -> None:
    """They take no job while their event loops are blocked."""
    silent, other = report("a", seen_at=at(-29), state=state), report("b", seen_at=at(-40), state=state)
    free: dict[str, Any] = {"runs": [], "place": {"active": 1}}
    (line,) = in_queue(**free, reports=[silent, other])
    (heard,) = in_queue(**free, reports=[silent, report("b")])
    (unknown,) = in_queue(**free, reports=[silent])

    assert line.text.endswith(
        "; none of its workers has told of itself for 29 s: a blocked event loop, or a database out of reach"
    )
    assert "told of itself" not in heard.text + unknown.text


@pytest.mark.parametrize(
    ("view", "connected", "ends"),
    [
        (report("a", seen_at=at(-34)), named("a"), ", and last told of itself 34 s ago; it is gone, or its event loop is blocked"),
        (report("a", seen_at=at(-34)), None, ", and last told of itself 34 s ago; it is gone, or its event loop is blocked"),
        (report("a", seen_at=at(-34)), named("b"), ", and last told of itself 34 s ago; it is gone"),
        (report("a", seen_at=at(-34), stopped_at=at(-34), state="stopped"), None, ", and last told of itself 34 s ago; it is gone"),
        (report("b"), None, "; it is gone, or its event loop is blocked"),
    ],
    ids=["connected", "unknown", "not connected", "stopped", "does not report"],
)  # fmt: skip
def test_a_worker_that_does_not_renew_a_lease(view: Any, connected: Any, ends: str) -> None:
    active = place(state="active", job=stored(processed_by="a"))
    (stalled,) = explain(facts(place=active, reports=[view], workers=connected))

    assert stalled.code == "stalled"
    assert stalled.text == f"has a lease that has run out: its worker a has not renewed it for 30 s or more{ends}"


def handed_back(**values: Any) -> Reason:
    """Of a job that a worker without a handler for it has put off by 3 s more."""
    waiting = place(state="delayed", due_at=NOW + 3, job=stored(**values.pop("job", {})))
    return explain(facts(place=waiting, record=record(**values)))[0]


@pytest.mark.parametrize(
    ("known", "seconds"),
    [
        ({"job": {"created_at": NOW - 100}}, 500),
        ({"job": {"created_at": NOW - 100}, "scheduled_for": at(-40)}, 560),
        ({"job": {"created_at": NOW - 3600, "attempts_started": 1}}, 3 + 11 * 5),
        ({"job": {"created_at": NOW - 3600, "attempts_started": 12}}, 3),
    ],
    ids=["by its age", "by its time", "by the times", "at the next look"],
)
def test_when_a_type_that_nobody_knows_is_given_up(known: dict[str, Any], seconds: float) -> None:
    reason = handed_back(**known)

    assert (reason.code, reason.at) == ("unknown_type", at(seconds))
    assert f"; where none declares it, it becomes a dead letter about {at(seconds):%Y-%m-%d %H:%M:%S}" in reason.text


def test_it_is_what_workers_go_by() -> None:
    """The rule is theirs; those who only look do without what runs jobs."""
    assert reasons.GIVEN_UP_AFTER * 1000 == admission._UNKNOWN_FOR_MS
    assert reasons.GIVEN_UP_TIMES == admission._UNKNOWN_TIMES
    assert reasons.HANDED_BACK_PAUSE == admission._PAUSE
