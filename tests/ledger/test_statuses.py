"""SEED-023, SEED-235: which status may follow on which, and the short word for each."""

from __future__ import annotations

import pytest

from taurine.errors import InvalidOption
from taurine.ledger.statuses import OPEN, STATUSES, TERMINAL, Status, allowed_from, check_status, phase_of

ALLOWED = {
    "queued": "running retrying waiting completed failed cancelled expired",
    "running": "running queued retrying waiting completed failed cancelled",
    "retrying": "running queued retrying waiting completed failed cancelled",
    "waiting": "running queued retrying waiting completed failed cancelled",
    "completed": "",
    "failed": "",
    "cancelled": "",
    "expired": "",
}


@pytest.mark.parametrize("after", STATUSES)
@pytest.mark.parametrize("status", STATUSES)
def test_each_pair_is_allowed_or_refused_as_the_table_says(status: Status, after: Status) -> None:
    assert (after in allowed_from(status)) is (status in ALLOWED[after].split())


def test_nothing_follows_on_an_end_within_a_generation() -> None:
    """SEED-235: `failed` is said only when no attempt remains, so it is never followed by running."""
    assert set(STATUSES) == TERMINAL | set(OPEN)
    assert not any(end in allowed_from(status) for status in STATUSES for end in TERMINAL)


def test_the_four_words_of_simple_clients() -> None:
    """SEED-023: between two attempts a job is queued to them, and a job that was given up in any way has failed."""
    words = {status: phase_of(status) for status in STATUSES}
    assert words == {
        "queued": "queued",
        "retrying": "queued",
        "running": "running",
        "waiting": "running",
        "completed": "completed",
        "failed": "failed",
        "cancelled": "failed",
        "expired": "failed",
    }


def test_a_word_that_is_no_status_is_refused_with_the_near_miss() -> None:
    assert check_status("failed") == "failed"
    with pytest.raises(InvalidOption, match=r"got 'canceled'; did you mean 'cancelled'\?"):
        check_status("canceled")
