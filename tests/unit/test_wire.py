"""JSON and text as they stand in a job's hash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.errors import PayloadError
from taurine.queue.wire import Encoded, decode_json, encode_json, encode_text, keep_policy

encodable = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | encodable,
    lambda inner: st.lists(inner) | st.dictionaries(encodable, inner),
    max_leaves=20,
)


@given(values)
def test_any_value_comes_back(value: Any) -> None:
    text = encode_json(value)
    assert decode_json(text) == value
    assert decode_json(text.encode()) == value
    assert json.loads(text) == value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), [float("-inf")], object(), {1, 2}, b"bytes", "\ud800", {"\udfff": 1}, {(1, 2): 3}],
)
def test_what_json_cannot_hold_is_refused_and_named(value: Any) -> None:
    with pytest.raises(PayloadError, match=r"^the result "):
        encode_json(value, "the result")


def test_a_value_in_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(PayloadError, match="cannot be stored as JSON"):
        encode_json(circle)
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(PayloadError):
        encode_json(deep)
    while deep:  # or the interpreter takes it apart by recursion
        deep = deep[0]


@given(st.text())
def test_what_is_encoded_already_stays_as_it_is(text: str) -> None:
    """It is not looked at: not even at whether it is JSON."""
    assert encode_json(Encoded(text)) == text


def test_only_a_whole_value_counts_as_encoded() -> None:
    """Inside of another value it is a text as any other."""
    assert encode_json({"a": Encoded("[1]")}) == '{"a":"[1]"}'
    assert encode_json("[1]") == '"[1]"'


def test_numbers_as_keys_become_text() -> None:
    assert decode_json(encode_json({7: "a", None: "b", True: "c"})) == {"7": "a", "null": "b", "true": "c"}


@given(st.text(), st.integers(1, 100))
def test_text_can_always_be_stored_and_is_bounded(text: str, limit: int) -> None:
    stored = encode_text(text, limit=limit)
    stored.encode()
    if len(text) <= limit:
        assert len(stored) == len(text)
    else:
        assert stored.endswith(f"… (cut, {len(text)} characters)")


@given(encodable)
def test_text_within_the_limit_is_unchanged(text: str) -> None:
    assert encode_text(text) == text


def test_retention_policies() -> None:
    assert keep_policy(None, None, None) == "::"
    assert keep_policy(0, None, None) == "0::"
    assert keep_policy(5, 60_000, 10) == "5:60000:10"
