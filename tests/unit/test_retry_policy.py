"""`Retry`: how often, how long in between, and what is refused at once."""

from __future__ import annotations

import dataclasses
import logging
import math
import pickle
import warnings
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.clock import MAX_DELAY
from taurine.errors import InvalidOption, Permanent, RetryAfter, TaurineWarning
from taurine.retry import MAX_ATTEMPTS, Backoff, Custom, Exponential, Fixed, Retry, Rule, Verdict
from taurine.testing import TestClock

CLOCK = TestClock(start=1_000_000.0)
OUTAGE = ConnectionError("refused")


def pauses(retry: Retry, seed: int = 1, error: BaseException = OUTAGE) -> list[float | None]:
    random = Random(seed)
    return [retry.pause(made, error, random, CLOCK) for made in range(1, retry.attempts + 1)]


@pytest.mark.parametrize(
    ("retry", "attempts", "nominal"),
    [
        pytest.param(Retry(), 3, [1, 2], id="default: SEED-008, 120, 174, CON-01, CON-04"),
        pytest.param(Retry.EMAIL, 5, [2, 4, 8, 16], id="EMAIL: SEED-132, 175, 193"),
        pytest.param(Retry.PAYMENT, 3, [60, 120], id="PAYMENT: SEED-175, 281"),
        pytest.param(Retry.EXPORT, 2, [5], id="EXPORT: CON-01"),
        pytest.param(Retry.NONE, 1, [], id="NONE"),
        pytest.param(Retry(attempts=3, backoff=Exponential(5.0)), 3, [5, 10], id="SEED-009, 055"),
    ],
)
def test_presets_have_documented_numbers(retry: Retry, attempts: int, nominal: list[float]) -> None:
    assert retry.attempts == attempts
    assert retry.backoff is not None
    steady = dataclasses.replace(retry, backoff=dataclasses.replace(retry.backoff, jitter=0.0))
    assert pauses(steady) == [*nominal, None]


def test_the_docstring_has_the_numbers_of_the_presets_seed_281() -> None:
    assert Retry.__doc__ is not None
    for line in (
        "| `Retry()` | 3 | 1, 2 |",
        "| `Retry.EMAIL` | 5 | 2, 4, 8, 16 |",
        "| `Retry.PAYMENT` | 3 | 60, 120 |",
    ):
        assert line in Retry.__doc__


@pytest.mark.parametrize("retry", [Retry(), Retry.EMAIL, Retry.PAYMENT, Retry.EXPORT, Retry.NONE])
def test_jitter_and_cap_are_on_by_default_seed_218_con_31(retry: Retry) -> None:
    assert isinstance(retry.backoff, Exponential)
    assert (retry.backoff.factor, retry.backoff.cap, retry.backoff.jitter) == (2, 3600, 0.2)


def test_a_thousand_retries_spread_over_the_band_con_31(seed: int) -> None:
    random = Random(seed)
    spread = [pause for _ in range(1_000) if (pause := Retry().pause(2, OUTAGE, random, CLOCK)) is not None]
    assert len(spread) == 1_000
    assert 1.6 <= min(spread) < 1.62
    assert 1.98 < max(spread) <= 2.0


@given(st.integers(1, MAX_ATTEMPTS), st.integers(1, 2 * MAX_ATTEMPTS), st.integers(0, 2**32))
def test_pauses_stay_in_their_band_and_end_with_the_attempts(attempts: int, made: int, seed: int) -> None:
    pause = Retry(attempts=attempts).pause(made, OUTAGE, Random(seed), CLOCK)
    if made >= attempts:
        assert pause is None
        return
    nominal = min(3600.0, 2.0 ** min(made - 1, 100))
    assert pause is not None
    assert nominal * 0.8 * (1 - 1e-9) <= pause <= nominal


@given(st.floats(0.001, 1e6), st.floats(1, 10), st.none() | st.floats(0.001, 1e6), st.integers(2, 200))
def test_nominal_pauses_never_shrink(base: float, factor: float, cap: float | None, attempts: int) -> None:
    retry = Retry(attempts=attempts, backoff=Exponential(base, factor, cap), rules=())
    found = [pause for pause in pauses(retry) if pause is not None]
    assert found == sorted(found)
    assert len(found) == attempts - 1


@given(st.floats(0, 1e300), st.floats(1, 1e9), st.integers(1, MAX_ATTEMPTS - 1))
def test_no_pause_is_longer_than_a_delay_may_be(base: float, factor: float, made: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TaurineWarning)
        pause = Retry(attempts=MAX_ATTEMPTS, backoff=Exponential(base, factor)).pause(made, OUTAGE, Random(1), CLOCK)
    assert pause is not None
    assert 0 <= pause <= MAX_DELAY


def test_a_permanent_error_ends_the_job_at_its_first_attempt_seed_031_096_250_con_05() -> None:
    assert Retry.EMAIL.pause(1, Permanent("no such address"), Random(1), CLOCK) is None
    assert Retry.EMAIL.pause(1, PermissionError(), Random(1), CLOCK) is None


def test_a_time_that_the_error_names_goes_before_the_back_off_seed_283() -> None:
    assert Retry().pause(1, RetryAfter(45), Random(1), CLOCK) == 45.0
    assert Retry().pause(3, RetryAfter(45), Random(1), CLOCK) is None
    ruled = Retry(rules=(Rule(KeyError, "transient", retry_after=timedelta(minutes=2)),))
    assert ruled.pause(1, KeyError("x"), Random(1), CLOCK) == 120.0


def test_a_verdict_that_was_made_before_is_taken() -> None:
    retry = Retry()
    assert retry.pause(1, OUTAGE, Random(1), CLOCK, verdict=Verdict("permanent")) is None
    assert retry.pause(1, OUTAGE, Random(1), CLOCK, verdict=Verdict("transient", 7.0)) == 7.0


def test_no_back_off_means_at_once() -> None:
    assert pauses(Retry(backoff=None)) == [0.0, 0.0, None]


def test_the_rules_of_a_policy_are_asked() -> None:
    retry = Retry(rules=(Rule(ConnectionError, "permanent", alert=True),))
    assert pauses(retry) == [None, None, None]
    assert retry.classify(OUTAGE).alert


# Custom back-offs


def test_a_custom_back_off_is_called_with_attempts_and_error_seed_133() -> None:
    calls: list[tuple[int, BaseException]] = []

    def strategy(made: int, error: BaseException) -> float:
        calls.append((made, error))
        return made * 10.0

    assert pauses(Retry(attempts=5, backoff=Custom(strategy))) == [10.0, 20.0, 30.0, 40.0, None]
    assert calls == [(made, OUTAGE) for made in (1, 2, 3, 4)]


def test_a_negative_custom_pause_ends_the_job() -> None:
    assert pauses(Retry(backoff=Custom(lambda made, error: -1)))[0] is None


def _raises(made: int, error: BaseException) -> float:
    raise RuntimeError("bug")


@pytest.mark.parametrize("strategy", [_raises, lambda made, error: "5", lambda made, error: math.nan, lambda *_: True])
def test_a_custom_back_off_that_fails_leaves_the_default_pause(strategy: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "taurine.retry"):
        first, second, last = pauses(Retry(backoff=Custom(strategy)))
    assert first is not None
    assert second is not None
    assert 0.8 <= first <= 1.0
    assert 1.6 <= second <= 2.0
    assert last is None
    assert "the default pause is taken" in caplog.text


def test_a_custom_pause_without_end_is_bounded() -> None:
    assert pauses(Retry(attempts=2, backoff=Custom(lambda made, error: math.inf))) == [MAX_DELAY, None]


async def _coroutine(made: int, error: BaseException) -> float:
    return 1.0


@pytest.mark.parametrize("strategy", [None, 5, "fn", lambda: 1.0, lambda made: 1.0, _coroutine])
def test_a_custom_back_off_without_its_function_is_an_error_at_once_seed_279(strategy: Any) -> None:
    with pytest.raises(InvalidOption, match="Custom"):
        Retry(backoff=Custom(strategy))


# What is refused


@pytest.mark.parametrize("attempts", [0, -1, 1001, 2.0, "3", None, True, math.inf])
def test_attempts_out_of_range_are_refused(attempts: Any) -> None:
    with pytest.raises(InvalidOption, match=r"Retry\.attempts to be a whole number from 1 to 1000"):
        Retry(attempts=attempts)


@pytest.mark.parametrize("backoff", [5, 5.0, timedelta(seconds=5), "exponential", Exponential])
def test_what_is_no_back_off_is_refused(backoff: Any) -> None:
    with pytest.raises(InvalidOption, match=r"write Fixed\(seconds\)"):
        Retry(backoff=backoff)


@pytest.mark.parametrize("rules", [{KeyError: "permanent"}, (KeyError,), "permanent", None])
def test_what_is_no_rule_is_refused(rules: Any) -> None:
    with pytest.raises(InvalidOption, match=r"Retry\.rules to be a tuple of Rule"):
        Retry(rules=rules)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rule(Any, "permanent"), "Rule.match"),  # type: ignore[arg-type]
        (lambda: Rule((), "permanent"), "Rule.match"),
        (lambda: Rule((KeyError, int), "permanent"), "Rule.match"),  # type: ignore[arg-type]
        (lambda: Rule(int, "permanent"), "Rule.match"),  # type: ignore[arg-type]
        (lambda: Rule("KeyError", "permanent"), "Rule.match"),  # type: ignore[arg-type]
        (lambda: Rule(KeyError, "never"), "Rule.kind"),  # type: ignore[arg-type]
        (lambda: Rule(KeyError, "permanent", retry_after=5), "Rule.retry_after"),
        (lambda: Rule(KeyError, "transient", retry_after=-5), "Rule.retry_after"),
        (lambda: Rule(KeyError, "transient", retry_after=math.nan), "Rule.retry_after"),
    ],
)
def test_bad_rules_are_refused(make: Callable[[], Rule], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        make()


@pytest.mark.parametrize("backoff", [None, Fixed(0), Exponential(0)])
def test_many_attempts_without_a_pause_are_warned_of_seed_218(backoff: Backoff | None) -> None:
    with pytest.warns(TaurineWarning, match="attempts=100.*hammers whatever failed") as caught:
        Retry(attempts=100, backoff=backoff)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("retry", [(100, Fixed(1)), (100, Custom(lambda made, error: 0.0)), (10, None)])
def test_other_policies_are_not_warned_of_seed_218(retry: tuple[int, Backoff | None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Retry(attempts=retry[0], backoff=retry[1]).attempts == retry[0]


def test_a_policy_is_a_value() -> None:
    assert Retry(rules=[Rule(KeyError, "permanent")]) == Retry(rules=(Rule(KeyError, "permanent"),))  # type: ignore[arg-type]
    assert hash(Retry()) == hash(Retry())
    assert pickle.loads(pickle.dumps(Retry.EMAIL)) == Retry.EMAIL
    with pytest.raises(dataclasses.FrozenInstanceError):
        Retry.EMAIL.attempts = 9  # type: ignore[misc]
