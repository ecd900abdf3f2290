"""What becomes of an attempt, without a server: outcomes are values."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.clock import MAX_DELAY
from taurine.errors import (
    Cancel,
    CorruptJob,
    FailedChildren,
    HandlerSignal,
    InvalidOption,
    PayloadError,
    Permanent,
    RateLimited,
    Release,
    RetryAfter,
    Snooze,
    WaitForChildren,
)
from taurine.options import Keep
from taurine.queue.attempt import AttemptPolicy, BackoffStrategies, Decided, bounded_delay, describe
from taurine.queue.connection import Connection
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.store import QueueStore
from taurine.queue.turn import Completed, Failed, Released, RetryLater, RetryNow, Snoozed, WaitingForChildren
from taurine.testing import TestClock

STORE = QueueStore(QueueKeys("q"), Connection("redis://127.0.0.1:1"), TestClock(1_800_000_000.0))


def a_job(opts: dict[str, Any] | None = None, *, made: int = 0, started: int = 1, **fields: str) -> Job:
    """A claimed job as the turn script gives it; nothing is asked of a server."""
    stored = {"name": "n", "data": "{}", "opts": json.dumps(opts or {}), "timestamp": "1", "atm": str(made), **fields}
    fields_of_it = [(field.encode(), value.encode()) for field, value in stored.items()]
    return Job.claimed(STORE, b"7", started, fields_of_it, "token")


def a_policy(
    *,
    remove_on_complete: bool | int | Keep | None = None,
    remove_on_fail: bool | int | Keep | None = None,
    max_started_attempts: int | None = None,
    backoff_strategy: BackoffStrategies | None = None,
) -> AttemptPolicy:
    return AttemptPolicy(
        remove_on_complete=remove_on_complete,
        remove_on_fail=remove_on_fail,
        max_started_attempts=max_started_attempts,
        backoff_strategy=backoff_strategy,
        random=Random(1),
    )


@pytest.mark.parametrize(
    ("own", "workers", "policy"),
    [({}, None, "::"), ({}, 5, "5::"), ({"removeOnComplete": True}, 5, "0::"), ({"removeOnComplete": False}, 5, "::")],
)
def test_a_result_is_kept_by_the_jobs_rule_or_the_workers_bmq_029(
    own: dict[str, Any], workers: Any, policy: str
) -> None:
    assert a_policy(remove_on_complete=workers).completed(a_job(own), {"a": 1}) == Completed('{"a":1}', policy)


def test_a_result_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(PayloadError, match="the result"):
        a_policy().completed(a_job(), object())


@pytest.mark.parametrize(
    ("signal", "outcome"),
    [
        (Snooze(2.5), Snoozed(2500)),
        (Release(), Released()),
        (RateLimited(5), Released()),
        (WaitForChildren(), WaitingForChildren()),
    ],
)
def test_signals_that_charge_no_attempt(signal: HandlerSignal, outcome: object) -> None:
    assert a_policy().failed(a_job(), signal) == outcome


@pytest.mark.parametrize(
    "error",
    [
        Permanent("x"),
        Cancel("x"),
        CorruptJob("x", job_id="7", queue="q"),
        FailedChildren("x", job_id="7", queue="q"),
    ],
)
def test_errors_that_end_the_job_bmq_076(error: Exception) -> None:
    outcome = a_policy().failed(a_job({"attempts": 9}), error)
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.attempts) == ("x", 9)


@given(made=st.integers(0, 20), attempts=st.integers(0, 20))
def test_an_error_ends_the_job_exactly_when_no_attempt_is_left_bmq_022(made: int, attempts: int) -> None:
    outcome = a_policy().failed(a_job({"attempts": attempts}, made=made), RuntimeError("x"))
    assert isinstance(outcome, Failed) == (made + 1 >= max(attempts, 1))
    assert isinstance(outcome, Failed | RetryNow)


@pytest.mark.parametrize(
    ("backoff", "made", "pause_ms"),
    [
        (1500, 0, 1500),
        ({"type": "fixed", "delay": 250}, 3, 250),
        ({"type": "exponential", "delay": 100}, 0, 100),
        ({"type": "exponential", "delay": 100}, 2, 400),
        ({"type": "exponential", "delay": 100, "factor": 3, "cap": 500}, 2, 500),
        ({"type": "nobody's"}, 0, 1000),
    ],
)
def test_the_pause_before_the_next_attempt(backoff: Any, made: int, pause_ms: int) -> None:
    outcome = a_policy().failed(a_job({"attempts": 9, "backoff": backoff}, made=made), RuntimeError("x"))
    assert isinstance(outcome, RetryLater)
    assert outcome.pause_ms == pause_ms


@pytest.mark.parametrize("lifo", [False, True])
def test_without_a_back_off_the_job_is_tried_at_once(lifo: bool) -> None:
    outcome = a_policy().failed(a_job({"attempts": 2, "lifo": lifo}), RuntimeError("x"))
    assert isinstance(outcome, RetryNow)
    assert outcome.lifo == lifo


answers = st.floats() | st.integers() | st.none() | st.text()


@given(answers, st.sampled_from([RetryAfter, Snooze]), st.floats())
def test_whatever_a_strategy_or_handler_computes_there_is_an_outcome(
    answer: Any, signal: type[RetryAfter], delay: float
) -> None:
    """An attempt without one would keep its slot and its lease for ever."""
    policy = a_policy(backoff_strategy=lambda *_: answer)
    job = a_job({"attempts": 9, "backoff": {"type": "mine"}})
    for outcome in (policy.failed(job, RuntimeError("x")), policy.failed(job, signal(delay))):
        if isinstance(outcome, RetryLater | Snoozed):
            assert 0 <= outcome.pause_ms <= MAX_DELAY * 1000
        else:
            assert isinstance(outcome, Failed | RetryNow)


@given(st.floats())
def test_a_delay_is_bounded(seconds: float) -> None:
    bounded = bounded_delay(seconds)
    assert 0 <= bounded <= MAX_DELAY
    if math.isfinite(seconds) and 0 <= seconds <= MAX_DELAY:
        assert bounded == seconds


@pytest.mark.parametrize(
    ("pause", "kind"), [(None, Failed), (-1, Failed), (0, RetryNow), (0.0, RetryNow), (2.5, RetryLater)]
)
@pytest.mark.parametrize("error", [RuntimeError("inner"), Permanent("inner"), RetryAfter(9, "inner"), Snooze(9)])
@pytest.mark.parametrize("opts", [{}, {"attempts": 9, "backoff": 7000}])
def test_what_the_handler_has_decided_counts(
    pause: float | None, kind: type, error: BaseException, opts: dict[str, Any]
) -> None:
    """Whatever the error means otherwise, and whatever the job's own options say."""
    outcome = a_policy(max_started_attempts=1).failed(a_job(opts), Decided(error, pause))
    assert type(outcome) is kind
    assert isinstance(outcome, Failed | RetryNow | RetryLater)
    assert outcome.reason == describe(error)
    assert type(error).__name__ in outcome.stacktrace
    assert "Decided" not in outcome.stacktrace
    if isinstance(outcome, RetryLater):
        assert outcome.pause_ms == 2500


def test_a_decided_pause_is_bounded() -> None:
    outcome = a_policy().failed(a_job(), Decided(RuntimeError("x"), math.inf))
    assert isinstance(outcome, RetryLater)
    assert outcome.pause_ms == MAX_DELAY * 1000
    assert a_policy().failed(a_job(), Decided(RuntimeError("x"), math.nan)) == RetryLater(
        "x", json.dumps(["RuntimeError: x\n"], separators=(",", ":")), 0
    )


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"remove_on_complete": "all"}, "remove_on_complete"),
        ({"remove_on_fail": -1}, "count"),
        ({"max_started_attempts": 0}, "max_started_attempts"),
        ({"max_started_attempts": True}, "max_started_attempts"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        a_policy(**rules)


def test_a_strategy_that_raises_is_logged_and_the_job_pauses_bmq_026(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> float:
        raise ZeroDivisionError("strategy")

    job = a_job({"attempts": 9, "backoff": {"type": "mine"}})
    outcome = a_policy(backoff_strategy={"mine": broken}).failed(job, RuntimeError("x"))
    assert isinstance(outcome, RetryLater)
    assert outcome.pause_ms == 1000
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("answer", [None, "5", math.inf, -math.inf, math.nan, 10**400, 10**5000], ids=range(7))
def test_a_strategy_that_returns_no_number_of_seconds_is_told_of_bmq_026(
    caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    job = a_job({"attempts": 9, "backoff": {"type": "mine"}})
    outcome = a_policy(backoff_strategy=lambda *_: answer).failed(job, RuntimeError("x"))
    assert isinstance(outcome, RetryLater)
    assert outcome.pause_ms == 1000
    assert "the back-off strategy for 'mine' failed" in caplog.text


def test_starts_are_capped_bmq_086() -> None:
    policy = a_policy(max_started_attempts=3)
    assert policy.refusal(a_job(started=3)) is None
    refusal = policy.refusal(a_job(started=4))
    assert isinstance(refusal, Permanent)
    assert "more than 3 times" in str(refusal)
    assert isinstance(policy.failed(a_job({"attempts": 99}, started=3), RuntimeError("x")), Failed)
    assert isinstance(policy.failed(a_job({"attempts": 99}, started=2), RuntimeError("x")), RetryNow)


def test_a_deferred_failure_refuses_the_run_bmq_077() -> None:
    refusal = a_policy().refusal(a_job(defa="child bull:q:1 failed"))
    assert isinstance(refusal, Permanent)
    assert str(refusal) == "child bull:q:1 failed"


@pytest.mark.parametrize(("limit", "kept"), [(None, ["old 1", "old 2", "new"]), (2, ["old 2", "new"]), (0, [])])
def test_stack_traces_bmq_027(limit: int | None, kept: list[str]) -> None:
    opts = {} if limit is None else {"stackTraceLimit": limit}
    outcome = a_policy().failed(a_job(opts, stacktrace='["old 1","old 2"]'), RuntimeError("new"))
    assert isinstance(outcome, Failed)
    traces = json.loads(outcome.stacktrace)
    assert len(traces) == len(kept)
    assert all(text in trace for text, trace in zip(kept, traces, strict=True))


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("what happened"), "what happened"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("half \ud800"), "half ?"),
        (RuntimeError("x" * 70_000), "x" * 65_536 + "… (cut, 70000 characters)"),
        (Unspeakable(), "(its text cannot be had: __str__ raised)"),
    ],
    ids=["text", "no text", "surrogate", "long", "unspeakable"],
)
def test_an_error_is_described_in_storable_text(error: Exception, text: str) -> None:
    assert describe(error) == text
    outcome = a_policy().failed(a_job(), error)
    assert isinstance(outcome, Failed)
    assert outcome.reason == text


def test_a_job_that_cannot_be_decoded_is_failed_for_good() -> None:
    job = a_job()
    job.corrupt = "the stored data cannot be decoded"
    refusal = a_policy().refusal(job)

    assert isinstance(refusal, CorruptJob)
    assert isinstance(a_policy().failed(job, refusal), Failed)


@pytest.mark.parametrize(
    "outcome",
    [
        Completed("1", "::"),
        Failed("r", "[]", "::", 3),
        RetryNow("r", "[]", True),
        RetryLater("r", "[]", 5),
        Snoozed(5),
        Released(),
        WaitingForChildren(),
    ],
)
def test_every_outcome_is_six_arguments_of_the_turn(outcome: Any) -> None:
    kind, job_id, token, *rest = outcome.arguments("7", "token")
    assert (job_id, token, len(rest)) == ("7", "token", 3)
    assert kind in {"complete", "fail", "retry", "delay", "snooze", "release", "children"}
