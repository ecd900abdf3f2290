"""What travels with a job beside its payload: as it was written, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.errors import InvalidOption
from taurine.jobs.envelope import Envelope, retry_from_json, retry_to_json
from taurine.queue.wire import decode_json
from taurine.retry import Custom, Exponential, Fixed, Retry, Rule

_times = st.none() | st.integers(1, 1 << 53)
_texts = st.none() | st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=40).filter(
    str.isprintable
)
_seconds = st.floats(0, 1e6)
_backoffs = (
    st.none()
    | st.builds(Fixed, _seconds, st.floats(0, 1))
    | st.builds(Exponential, _seconds, st.floats(1, 10), st.none() | _seconds, st.floats(0, 1))
)
_retries = st.builds(Retry, attempts=st.integers(1, 5), backoff=_backoffs)
_envelopes = st.builds(
    Envelope,
    generation=st.integers(0, (1 << 31) - 1),
    attempts=st.integers(0, 1000),
    tenant=_texts,
    scheduled_for=_times,
    expires_at=_times,
    created_by=_texts,
    retry=st.none() | _retries.map(retry_to_json),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(_envelopes)
def test_what_is_written_is_read(envelope: Envelope) -> None:
    assert Envelope.of({"attempts": 3, "taurine": decode_json(envelope.encode())}) == envelope


def test_what_says_nothing_takes_two_bytes() -> None:
    assert Envelope().encode() == "{}"
    assert Envelope.of({"taurine": {}}) == Envelope()


@pytest.mark.parametrize("options", [{}, {"taurine": None}, {"taurine": []}, {"taurine": "{}"}, {"taurine": 1}])
def test_a_job_that_others_made_has_none(options: dict[str, Any]) -> None:
    assert Envelope.of(options) is None


@pytest.mark.parametrize(
    "members",
    [
        {"g": -1},
        {"g": 1 << 31},  # its fence would not fit the column
        {"g": True},
        {"g": "1"},
        {"g": 1.0},
        {"a": -5},
        {"t": ["acme"]},
        {"t": "a\nb"},
        {"t": "x" * 5000},
        {"u": {"name": "root"}},
        {"s": 1e300},
        {"e": 10**40},
        {"r": []},
        {"t": "acme", "g": None},
    ],
)
def test_a_hostile_one_is_none(members: dict[str, Any]) -> None:
    """Whoever can write to the server of queues writes what he likes; the ledger is asked then."""
    assert Envelope.of({"taurine": members}) is None


@given(_json | st.dictionaries(st.sampled_from("gatseurlx"), _json))
def test_anything_is_read_or_refused_and_never_raises(members: Any) -> None:
    envelope = Envelope.of({"taurine": members})
    assert envelope is None or (0 <= envelope.generation < 1 << 31 and isinstance(envelope.tenant, str | None))


def test_members_that_are_not_known_are_passed_over() -> None:
    """A later version may write more."""
    assert Envelope.of({"taurine": {"t": "acme", "zz": 1}}) == Envelope(tenant="acme")


@given(_retries)
def test_a_retry_policy_travels(retry: Retry) -> None:
    rules = (Rule(ValueError, "permanent"),)
    assert retry_from_json(retry_to_json(retry), Retry(rules=rules)) == Retry(retry.attempts, retry.backoff, rules)


@given(st.dictionaries(st.sampled_from(["n", "fixed", "base", "factor", "cap", "jitter"]), _json))
def test_one_that_makes_no_sense_is_the_declared_one(members: dict[str, Any]) -> None:
    declared = Retry(attempts=2)
    assert isinstance(retry_from_json(members, declared), Retry)
    assert retry_from_json({"n": "many"}, declared) is declared


@pytest.mark.parametrize(
    "retry", [Retry(backoff=Custom(lambda _attempts, _error: 1.0)), Retry(rules=(Rule(ValueError, "permanent"),))]
)
def test_functions_do_not_travel(retry: Retry) -> None:
    with pytest.raises(InvalidOption, match="declare"):
        retry_to_json(retry)
