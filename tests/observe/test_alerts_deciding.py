"""When an alert is raised, told again, and over: both sides of each limit, on a clock of whole milliseconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taurine.errors import InvalidOption
from taurine.jobs.reporting.alerts import Alert
from taurine.ledger.alerts import AlertRow
from taurine.observe.alerts import (
    DEFAULT_RULES,
    DeadLettersOpen,
    EventRule,
    FailureRate,
    Finding,
    LimitRule,
    QueueDepth,
    QueuePaused,
    StoreDown,
)
from taurine.observe.alerts.deciding import after_event, after_finding, after_quiet, alert_in
from taurine.observe.alerts.defaults import checked_rules

RULE = DeadLettersOpen(limit=10, lower=5, for_seconds=60, every=600)
DENIED = Alert("denied", "job-1", "ticket.triage", "tasks", "acme", "not yours")


def found(value: float) -> Finding:
    return Finding("mail", value, f"queue 'mail' has {value:g}", "mail")


def after(row: AlertRow | None, value: float, at: int, rule: LimitRule = RULE) -> AlertRow | None:
    return after_finding(rule, row, found(value), at, "shop")


def firing(at: int = 0) -> AlertRow:
    row = after(None, 11, at, replace(RULE, for_seconds=0))
    assert row is not None
    return row


def test_what_is_equal_to_the_limit_is_no_worry() -> None:
    assert after(None, 10, 0) is None
    pending = after(None, 10.5, 0)
    assert pending is not None
    assert (pending.state, pending.due_at) == ("pending", None)


def test_it_is_raised_when_it_has_been_above_for_long_enough() -> None:
    pending = after(None, 11, 1000)

    assert after(pending, 99, 60_999) is None
    raised = after(pending, 99, 61_000)
    assert raised is not None
    assert (raised.state, raised.due_at, raised.raised_at, raised.value) == ("firing", 61_000, 61_000, 99)
    alert = alert_in(raised)
    assert (alert.kind, alert.state, alert.queue, alert.subject) == ("dead_letters_depth", "raised", "mail", "mail")
    assert (alert.value, alert.limit, alert.message) == (99, 10, "queue 'mail' has 99, more than 10")


def test_what_was_above_for_too_short_a_time_is_told_to_nobody_and_begins_anew() -> None:
    pending = after(None, 11, 0)
    calm = after(pending, 10, 30_000)
    assert calm is not None
    assert (calm.state, calm.due_at) == ("over", None)

    again = after(calm, 11, 45_000)

    assert again is not None
    assert (again.state, again.since) == ("pending", 45_000)
    assert after(again, 11, 61_000) is None, "the first time above does not count"


def test_between_the_limits_nothing_changes() -> None:
    """Hysteresis: 10 is the limit, 5 the lower one."""
    raised = firing()

    assert [after(raised, value, 1000) for value in (12, 10, 9.99, 5.01)] == [None] * 4
    over = after(raised, 5, 1000)
    assert over is not None
    assert (over.state, over.due_at, alert_in(over).state) == ("over", 1000, "over")
    assert alert_in(over).id == alert_in(raised).id
    assert after(over, 10, 2000) is None


def test_it_is_told_again_when_its_time_has_come() -> None:
    raised = replace(firing(), notified_at=500, due_at=None)

    assert after(raised, 20, 600_499) is None
    repeated = after(raised, 20, 600_500)
    assert repeated is not None
    assert (repeated.state, repeated.due_at, alert_in(repeated).state) == ("firing", 600_500, "lasting")
    assert after(raised, 20, 9_000_000, replace(RULE, every=None)) is None
    assert after(replace(raised, notified_at=None), 20, 9_000_000) is None, "it is being told still"


def test_what_may_not_be_at_all_is_told_without_its_limit() -> None:
    """And with what can be done about it, which nobody needs to hear when it is over."""
    rule = QueuePaused(for_seconds=0, every=600)
    held = Finding("mail", 2, "queue 'mail' is paused, and 2 jobs wait", "mail", "`taurine queues resume mail`")

    raised = after_finding(rule, None, held, 0, "shop")
    assert raised is not None
    again = after_finding(rule, replace(raised, notified_at=0), held, 600_000, "shop")
    over = after_finding(rule, raised, Finding("mail", 0, "queue 'mail' is not paused", "mail"), 1000, "shop")
    limited = after_finding(replace(rule, limit=1), None, held, 0, "shop")

    assert [alert_in(row).message for row in (raised, again, over, limited) if row is not None] == [
        "queue 'mail' is paused, and 2 jobs wait; `taurine queues resume mail`",
        "still: queue 'mail' is paused, and 2 jobs wait; `taurine queues resume mail`",
        "over: queue 'mail' is not paused",
        "queue 'mail' is paused, and 2 jobs wait, more than 1; `taurine queues resume mail`",
    ]


def test_looks_that_are_far_apart_do_not_add_up_to_a_server_that_is_down() -> None:
    """Each may have been late itself; a queue that was paused at both was paused between them."""
    for rule, state in ((StoreDown(), "pending"), (QueuePaused(for_seconds=60), "firing")):
        pending = after(None, 1, 0, rule)
        assert pending is not None
        near, far = (after(replace(pending, seen_at=15_000), 1, at, rule) for at in (135_000, 135_001))
        assert near is not None
        assert far is not None
        assert (near.state, far.state) == ("firing", state)
        assert far.since == 135_001


def test_events_of_a_type_are_told_together() -> None:
    """SEED-032, SEED-237: one message, and no second one before it was quiet for long enough."""
    rule = EventRule(of="denied", quiet=60, every=600)
    row = after_event(rule, None, DENIED, 0)
    assert row is not None
    assert (row.subject, row.state, row.due_at) == ("tasks/ticket.triage", "firing", 0)
    assert alert_in(row)[:6] == DENIED[:6]

    assert after_event(rule, row, DENIED, 59_999) is None
    again = after_event(rule, row, DENIED, 60_000)
    assert again is not None
    assert again.due_at == 60_000
    assert after_quiet(rule, row, 59_999) is None
    quiet = after_quiet(rule, row, 60_000)
    assert quiet is not None
    assert (quiet.state, quiet.due_at) == ("over", 0), "nobody has heard of it yet"

    told = replace(row, notified_at=0, due_at=None)
    assert after_quiet(rule, replace(told, seen_at=599_999), 599_999) is None
    more = after_quiet(rule, replace(told, seen_at=599_999, value=7), 600_000)
    assert more is not None
    assert (alert_in(more).state, alert_in(more).value) == ("lasting", 7)


def test_what_forged_jobs_call_themselves_makes_no_alerts_of_their_own() -> None:
    rule = EventRule(of="forged_job")
    forged = [DENIED._replace(kind="forged_job", job_type=name) for name in ("a", "b\0", "\ud800")]

    rows = [after_event(rule, None, alert, 0) for alert in forged]

    assert {row.subject for row in rows if row is not None} == {"tasks"}
    odd = after_event(EventRule(of="denied"), None, DENIED._replace(job_type="b\0\ud800"), 0)
    assert odd is not None
    assert odd.subject == "tasks/b\\x00?"


def test_the_default_rules_have_the_limits_of_the_rows() -> None:
    """SEED-179, SEED-187, SEED-188, SEED-189, SEED-073."""
    rules = {rule.key: rule for rule in checked_rules(DEFAULT_RULES)}
    limits = {name: getattr(rule, "limit", None) for name, rule in rules.items()}

    assert (limits["queue_depth"], limits["failure_rate"], limits["dead_letters_depth"]) == (100, 0.05, 100)
    assert {"dead_letters_growing", "oldest_waiting", "no_worker", "schedule_late", "outbox_lag"} <= set(rules)
    assert {"denied", "forged_job", "poison", "undeclared_type"} <= set(rules)
    assert QueueDepth(limit=100).over_at == 80
    assert [getattr(rules[name], "for_ms", None) for name in ("queue_paused", "store_down")] == [3_600_000, 60_000]


@pytest.mark.parametrize(
    "make",
    [
        lambda: QueueDepth(limit=-1),
        lambda: QueueDepth(limit=float("nan")),
        lambda: QueueDepth(limit=5, lower=6),
        lambda: QueueDepth(name="Not a name"),
        lambda: QueueDepth(every=0),
        lambda: StoreDown(for_seconds=0),
        lambda: FailureRate(window=8 * 24 * 3600),
        lambda: FailureRate(least_ended=0),
        lambda: EventRule(of="denied", quiet=0),
        lambda: checked_rules([QueueDepth(), QueueDepth(limit=5)]),
        lambda: checked_rules(["queue_depth"]),  # pyright: ignore[reportArgumentType] - what is refused
    ],
)
def test_rules_that_cannot_be_meant_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidOption):
        make()
