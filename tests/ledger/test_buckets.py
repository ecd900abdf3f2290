"""The bucket of quotas by rate and of logins: exact, whatever the times (SEED-019)."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from taurine.ledger.buckets import MOST, Bucket

NOW = 1_800_000_000_000


def test_it_holds_so_many_at_once_and_fills_evenly() -> None:
    bucket = Bucket(3, 1000)
    full_at, waits = None, []
    for _ in range(4):
        full_at, wait = bucket.take(full_at, NOW)
        waits.append(wait)
    assert waits == [0, 0, 0, 334]
    assert bucket.take(full_at, NOW + 333)[1] == 1
    full_at, wait = bucket.take(full_at, NOW + 334)
    assert wait == 0
    assert full_at is not None
    assert bucket.full_ms(full_at) == NOW + 1334


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = Bucket(2, 1000)
    full_at, _ = bucket.take(None, NOW)
    full_at, _ = bucket.take(full_at, NOW)
    assert bucket.take(full_at, NOW - 5000) == (full_at, 5500)


def test_its_number_fits_a_column_of_64_bits() -> None:
    """For some three centuries, and windows of a century."""
    bucket = Bucket(MOST, 3_162_240_000_000)
    full_at, _ = bucket.take(None, 9_000_000_000_000)
    assert full_at < 2**63


@given(
    most=st.integers(1, 50),
    window_ms=st.integers(1, 5000),
    steps=st.lists(st.integers(0, 400), max_size=200),
)
def test_it_agrees_with_a_bucket_of_fractions(most: int, window_ms: int, steps: list[int]) -> None:
    """No fraction is lost: what is taken is what a bucket with exact arithmetic gives, and the wait is the first
    millisecond that does.
    """
    bucket = Bucket(most, window_ms)
    level, now, full_at = Fraction(most), NOW, None
    for step in steps:
        now += step
        level = min(Fraction(most), level + Fraction(step * most, window_ms))
        full_at, wait = bucket.take(full_at, now)
        if level >= 1:
            assert wait == 0
            level -= 1
        else:
            assert level + Fraction(wait * most, window_ms) >= 1
            assert level + Fraction((wait - 1) * most, window_ms) < 1
