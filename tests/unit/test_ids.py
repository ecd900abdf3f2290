"""Job ids: any printable text, stored so that BullMQ accepts it, and read back as it was given."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.errors import InvalidName
from taurine.ids import (
    check_prefix,
    check_queue_name,
    lookup_ids,
    parent_wire_id,
    public_id,
    unique_id,
    wire_id,
)

RESERVED = [
    *("wait", "active", "prioritized", "delayed", "completed", "failed", "paused", "waiting-children", "marker"),
    *("stalled", "stalled-check", "limiter", "meta", "id", "pc", "events", "repeat", "metrics", "priority", "delay"),
    *("repeat:x", "de:x", "dn:x", "metrics:completed"),
]


def is_accepted(job_id: str) -> bool:
    return job_id not in RESERVED and not job_id.startswith(("repeat:", "de:", "dn:", "metrics:"))


# Built of the pieces that the rules are about, since arbitrary text rarely has them.
pieces = st.lists(
    st.sampled_from([":", "t%", "%3A", "0", "-", "7", "a", "é", "😀", " ", "%", "t", "/"]), min_size=1
).map("".join)
ids = (pieces | st.text(min_size=1, max_size=50) | st.integers().map(str)).filter(
    lambda text: text.isprintable() and is_accepted(text)
)


@given(ids)
def test_an_id_reads_back_as_it_was_given(job_id: str) -> None:
    assert public_id(wire_id(job_id)) == job_id


@given(ids, ids)
def test_two_ids_are_never_stored_as_one(first: str, second: str) -> None:
    assert (wire_id(first) == wire_id(second)) == (first == second)


@given(ids)
def test_bullmq_accepts_every_stored_id(job_id: str) -> None:
    """By BullMQ's own rules for a custom id."""
    stored = wire_id(job_id)
    assert stored != "0"
    assert not stored.startswith("0:")
    assert not re.fullmatch(r"-?(0|[1-9][0-9]*)", stored, re.ASCII)
    assert stored.count(":") in {0, 2}
    assert stored.isprintable()
    assert stored not in RESERVED


@given(ids)
def test_a_job_is_looked_up_where_it_is_stored(job_id: str) -> None:
    assert lookup_ids(job_id)[0] == wire_id(job_id)


@given(st.integers(0, 2**53))
def test_automatic_numbers_are_found_too(number: int) -> None:
    assert str(number) in lookup_ids(str(number))
    assert parent_wire_id(str(number)) == str(number)


@pytest.mark.parametrize(
    ("job_id", "stored"),
    [
        ("order-7", "order-7"),
        ("a:b:c", "a:b:c"),
        ("01", "01"),
        ("1.5", "1.5"),
        ("a b/c", "a b/c"),
        ("7", "t%7"),
        ("-5", "t%-5"),
        ("0", "t%0"),
        ("a:b", "t%a%3Ab"),
        ("0:a:b", "t%0%3Aa%3Ab"),
        ("t%7", "t%t%257"),
    ],
)
def test_the_stored_forms(job_id: str, stored: str) -> None:
    """Golden: these stand in users' stores, so they do not change."""
    assert wire_id(job_id) == stored


@pytest.mark.parametrize("job_id", RESERVED)
def test_reserved_ids_are_refused(job_id: str) -> None:
    with pytest.raises(InvalidName, match=r"reserved.*put a word in front"):
        wire_id(job_id)


@pytest.mark.parametrize("job_id", ["", "a\nb", "a\x00", "\ud800", "\u2028", "x" * 1_025, "é" * 513, 7, None])
def test_ids_that_cannot_be_stored_are_refused(job_id: Any) -> None:
    with pytest.raises(InvalidName):
        wire_id(job_id)


def test_ids_of_schedulers_runs_are_looked_up_as_they_are() -> None:
    assert lookup_ids("repeat:daily:1700000000000") == ("repeat:daily:1700000000000",)
    assert lookup_ids("wait") == ()


@pytest.mark.parametrize("job_id", ["\ud800", "a\udfff", None, 7, b"a", ["a"]])
def test_what_no_job_can_be_stored_under_is_not_looked_up(job_id: Any) -> None:
    assert lookup_ids(job_id) == ()


@pytest.mark.parametrize("name", ["", "a:b", "a\n", "x" * 513, None, 7])
def test_queue_names_that_cannot_be_stored_are_refused(name: Any) -> None:
    with pytest.raises(InvalidName, match="queue name"):
        check_queue_name(name)


def test_names_and_prefixes_that_can() -> None:
    assert (check_queue_name("send mail {eu}"), check_prefix("{app}:v2")) == ("send mail {eu}", "{app}:v2")
    with pytest.raises(InvalidName, match="key prefix"):
        check_prefix("")


def test_unique_ids_are_stored_as_they_are() -> None:
    assert len({unique_id() for _ in range(1_000)}) == 1_000
    made = unique_id()
    assert wire_id(made) == made
