"""What a worker expects of its queue, without a server: replies and rings in, whether and when to look out."""

from __future__ import annotations

import pytest

from taurine.queue.prospect import Prospect
from taurine.queue.turn import BLOCKED, Turn, TurnReply
from taurine.testing import TestClock

NOW_MS = 1_800_000_000_000


@pytest.fixture
def clock() -> TestClock:
    return TestClock(NOW_MS / 1000)


@pytest.fixture
def prospect(clock: TestClock) -> Prospect:
    return Prospect(clock)


def a_turn(want: int) -> Turn:
    return Turn(NOW_MS, "token", 30_000, want)


def a_reply(jobs: int = 0, *, wait_ms: int = 0, due_ms: int = 0) -> TurnReply:
    return TurnReply([], [(b"1", 1, [])] * jobs, [], wait_ms, due_ms)


def told(prospect: Prospect, want: int, reply: TurnReply) -> bool:
    """One turn and its reply; True when the queue has just been found drained."""
    if want:
        prospect.asks()
    return prospect.heed(reply, a_turn(want))


def test_at_first_there_may_be_jobs(prospect: Prospect) -> None:
    assert prospect.claimable
    assert not prospect.limited
    assert prospect.wait() is None


@pytest.mark.parametrize(("want", "jobs", "claimable"), [(3, 3, True), (3, 2, False), (3, 0, False)])
def test_a_batch_that_was_filled_promises_more(prospect: Prospect, want: int, jobs: int, claimable: bool) -> None:
    told(prospect, want, a_reply(jobs))
    assert prospect.claimable == claimable


def test_a_turn_that_asked_for_nothing_promises_nothing(prospect: Prospect) -> None:
    told(prospect, 1, a_reply())
    told(prospect, 0, a_reply())
    assert not prospect.claimable
    prospect.look_again()
    assert prospect.claimable


def test_a_ring_while_a_turn_is_under_way_stands(prospect: Prospect) -> None:
    prospect.asks()
    prospect.ring(0)
    prospect.heed(a_reply(), a_turn(1))
    assert prospect.claimable


def test_the_queue_is_drained_once_until_there_was_a_job_again(prospect: Prospect) -> None:
    replies = [(1, 0), (1, 1), (0, 0), (2, 0), (2, 0), (2, 1), (1, 0)]
    assert [told(prospect, want, a_reply(jobs)) for want, jobs in replies] == [
        False, False, False, True, False, False, True,
    ]  # fmt: skip


def test_the_next_due_job_is_waited_for(prospect: Prospect, clock: TestClock) -> None:
    told(prospect, 1, a_reply(due_ms=NOW_MS + 5_000))
    assert prospect.wait() == 5.0
    clock.advance(7)
    assert prospect.wait() == 0.0
    assert prospect.alarm_ms == 0, "nobody's marker was popped for it"
    told(prospect, 1, a_reply())
    assert prospect.wait() is None


def test_a_ring_for_later_is_an_alarm_and_the_earlier_one_counts(prospect: Prospect) -> None:
    told(prospect, 1, a_reply(due_ms=NOW_MS + 5_000))
    prospect.ring(NOW_MS + 9_000)
    assert not prospect.claimable
    assert (prospect.wait(), prospect.alarm_ms) == (5.0, NOW_MS + 5_000)
    prospect.ring(NOW_MS + 2_000)
    assert (prospect.wait(), prospect.alarm_ms) == (2.0, NOW_MS + 2_000)
    prospect.forget_alarm()
    assert (prospect.wait(), prospect.alarm_ms) == (2.0, 0)


def test_an_alarm_is_kept_for_the_job_that_is_due_after_the_one_that_was_started(prospect: Prospect) -> None:
    """Its marker went with the first one's."""
    prospect.ring(NOW_MS + 2_000)
    told(prospect, 1, a_reply(1, due_ms=NOW_MS + 8_000))
    assert prospect.alarm_ms == NOW_MS + 8_000


def test_a_ring_for_a_time_that_has_come_is_a_ring_for_now(prospect: Prospect) -> None:
    told(prospect, 1, a_reply())
    prospect.ring(NOW_MS)
    assert prospect.claimable
    assert prospect.alarm_ms == 0


@pytest.mark.parametrize(("wait_ms", "seconds"), [(4_000, 4.0), (3_600_000, 30.0)])
def test_a_limit_is_waited_for_but_not_for_ever(
    prospect: Prospect, clock: TestClock, wait_ms: int, seconds: float
) -> None:
    """It may be lifted by a plain delete, of which nobody hears."""
    told(prospect, 1, a_reply(wait_ms=wait_ms))
    assert prospect.limited
    assert prospect.wait() == seconds
    clock.advance(seconds)
    assert not prospect.limited
    assert prospect.wait() == 0.0, "there is a look at its end"
    told(prospect, 1, a_reply())
    assert prospect.wait() is None


def test_a_paused_queue_is_no_limit_in_time(prospect: Prospect) -> None:
    told(prospect, 1, a_reply(wait_ms=BLOCKED))
    assert not prospect.limited
    assert prospect.wait() is None


def test_a_ring_for_now_ends_a_limit(prospect: Prospect) -> None:
    told(prospect, 1, a_reply(wait_ms=4_000))
    prospect.ring(0)
    assert not prospect.limited


def test_of_two_limits_the_longer_counts(prospect: Prospect) -> None:
    prospect.limit(60)
    prospect.limit(5)
    assert prospect.wait() == 60.0
