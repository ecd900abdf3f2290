"""Back-offs: the pauses they compute, whatever they are made of."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.errors import InvalidOption
from taurine.retry import Custom, Exponential, Fixed

seconds = st.floats(0, 1e6)
jitters = st.floats(0, 1)
attempts = st.integers(1, 10_000)
seeds = st.integers(0, 2**32)


@given(seconds, jitters, attempts, seeds)
def test_a_fixed_pause_stays_in_its_band_bmq_023_025(delay: float, jitter: float, made: int, seed: int) -> None:
    pause = Fixed(delay, jitter).pause(made, Random(seed))
    assert delay * (1 - jitter) - 1e-9 * delay <= pause <= delay


@given(st.builds(Exponential, seconds, st.floats(1, 10), st.none() | seconds, jitters), st.integers(1, 250), seeds)
def test_an_exponential_pause_stays_in_its_band_bmq_024_025(backoff: Exponential, made: int, seed: int) -> None:
    pause = backoff.pause(made, Random(seed))
    nominal = min(backoff.base * backoff.factor ** (made - 1), math.inf if backoff.cap is None else backoff.cap)
    assert nominal * (1 - backoff.jitter) * (1 - 1e-9) <= pause <= nominal


@given(seconds, st.floats(1, 10), st.integers(1, 200), seeds)
def test_pauses_never_shrink_without_jitter_bmq_024(base: float, factor: float, made: int, seed: int) -> None:
    backoff = Exponential(base, factor)
    assert backoff.pause(made, Random(seed)) <= backoff.pause(made + 1, Random(seed))


def test_the_pauses_of_bullmqs_example_bmq_024() -> None:
    assert [Exponential(0.1).pause(made, Random()) for made in (1, 2, 3)] == [0.1, 0.2, 0.4]


def test_a_thousand_pauses_fill_the_band_bmq_025(seed: int) -> None:
    random = Random(seed)
    pauses = [Fixed(10.0, 0.3).pause(1, random) for _ in range(1_000)]
    assert 7.0 <= min(pauses) < 7.1
    assert 9.9 < max(pauses) <= 10.0


@given(seconds, st.floats(1, 1e9), st.none() | seconds, st.integers(1, 10**9))
def test_many_attempts_overflow_nothing(base: float, factor: float, cap: float | None, made: int) -> None:
    """An error here, or NaN, would lose a job that is retried for ever."""
    pause = Exponential(base, factor, cap, jitter=0.5).pause(made, Random(1))
    assert 0 <= pause < math.inf
    assert cap is None or pause <= cap


@pytest.mark.parametrize("value", [-0.1, math.nan, "1", None, True])
def test_a_pause_out_of_range_is_refused(value: Any) -> None:
    for make in (lambda: Fixed(value), lambda: Exponential(value)):
        with pytest.raises(InvalidOption, match="to be a number from 0"):
            make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jitter": 1.5}, "jitter"),
        ({"jitter": -0.1}, "jitter"),
        ({"factor": 0.5}, "factor"),
        ({"cap": -1}, "cap"),
        ({"cap": "1"}, "cap"),
    ],
)
def test_parts_out_of_range_are_refused_bmq_025(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=f"Exponential.{message}"):
        Exponential(1.0, **options)


@pytest.mark.parametrize("kind", ["", "fixed", "exponential"])
def test_a_custom_type_may_not_hide_a_built_in_one_bmq_026(kind: str) -> None:
    with pytest.raises(InvalidOption, match=r"Custom\.type"):
        Custom(type=kind)
