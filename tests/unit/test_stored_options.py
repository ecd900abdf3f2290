"""Job options: what a caller gives, what stands in the hash, and what is read back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.clock import MAX_DELAY
from taurine.errors import InvalidOption
from taurine.options import MAX_PRIORITY, Dedup, JobTelemetry, Keep, Parent
from taurine.queue import stored_options
from taurine.queue.stored_options import JobOptions, keep_text, parse_options, plan, telemetry_in, timestamp_ms
from taurine.queue.wire import decode_json
from taurine.retry import Backoff, Custom, Exponential, Fixed

milliseconds = st.integers(0, 10**9).map(lambda ms: ms / 1000)
durations = st.integers(1, 10**6).map(lambda ms: ms / 1000)
jitters = st.sampled_from([0.0, 0.25, 0.5, 1.0])
keeps = (
    st.booleans()
    | st.builds(Keep, count=st.integers(0, 10_000))
    | st.builds(
        Keep, count=st.none() | st.integers(0, 9), age=st.integers(1, 10**6).map(float), limit=st.none() | st.just(5)
    )
)
backoffs = (
    st.builds(Fixed, milliseconds, jitters)
    | st.builds(
        Exponential, milliseconds, st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.none() | milliseconds.map(float), jitters
    )
    | st.builds(Custom, type=st.sampled_from(["mine", "ours"]))
)
dedups = st.builds(
    Dedup,
    id=st.text(min_size=1, max_size=20).filter(str.isprintable),
    ttl=st.none() | durations,
    extend=st.booleans(),
    replace=st.booleans(),
    reschedule=st.booleans(),
    keep_last_if_active=st.booleans(),
)
optional: dict[str, st.SearchStrategy[Any]] = {
    "attempts": st.integers(1, 1_000_000),
    "backoff": backoffs,
    "delay": milliseconds,
    "priority": st.integers(0, MAX_PRIORITY),
    "lifo": st.booleans(),
    "size_limit": st.integers(1, 2**53),
    "keep_logs": st.integers(0, 2**31),
    "stacktrace_limit": st.integers(0, 2**31),
    "remove_on_complete": keeps,
    "remove_on_fail": keeps,
    "deduplication": dedups,
    "on_child_failure": st.sampled_from(["fail", "continue", "ignore", "remove"]),
}


def stored(**options: Any) -> dict[str, Any]:
    """The members that options become, as JSON has them."""
    return json.loads(f"{{{plan(options, prefix='bull').members}}}")


def read(**options: Any) -> JobOptions:
    return parse_options(f"{{{plan(options, prefix='bull').members}}}")


@given(st.fixed_dictionaries({}, optional=optional))
def test_options_come_back_as_they_were_given(options: dict[str, Any]) -> None:
    back = read(**options)
    for name, value in options.items():
        seen = getattr(back, name)
        assert seen == value, f"{name}: {seen!r}"
    left_out = JobOptions()
    for name in optional.keys() - options.keys():
        assert getattr(back, name) == getattr(left_out, name), name


@given(st.builds(JobTelemetry, st.none() | st.text(max_size=20), st.booleans()))
def test_what_a_job_says_of_its_trace_comes_back(telemetry: JobTelemetry) -> None:
    text = f"{{{plan({'attempts': 3, 'telemetry': telemetry}, prefix='bull').members}}}"
    assert telemetry_in(text) == (None if telemetry == JobTelemetry() else telemetry)
    assert parse_options(text) == JobOptions(attempts=3)


@pytest.mark.parametrize("text", ["{}", '["tm"]', '{"tm":7}', '{"de":{"id":"\\"tm\\""}}'])
def test_a_job_may_say_nothing_of_its_trace(text: str) -> None:
    assert telemetry_in(text) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"attempts": 3}, {"attempts": 3}),
        ({"delay": 1.5}, {"delay": 1500}),
        ({"delay": timedelta(minutes=2)}, {"delay": 120_000}),
        ({"backoff": 2}, {"backoff": {"type": "fixed", "delay": 2000}}),
        ({"backoff": Fixed(1.0, 0.5)}, {"backoff": {"type": "fixed", "delay": 1000, "jitter": 0.5}}),
        ({"backoff": Exponential(1.0)}, {"backoff": {"type": "exponential", "delay": 1000}}),
        ({"backoff": Custom(type="mine")}, {"backoff": {"type": "mine"}}),
        ({"remove_on_complete": True, "remove_on_fail": False}, {"removeOnComplete": True, "removeOnFail": False}),
        ({"remove_on_complete": 0}, {"removeOnComplete": 0}),
        ({"remove_on_complete": 100}, {"removeOnComplete": 100}),
        ({"remove_on_fail": Keep(count=2, age=1.2, limit=5)}, {"removeOnFail": {"count": 2, "age": 2, "limit": 5}}),
        ({"keep_logs": 5, "stacktrace_limit": 0}, {"kl": 5, "stackTraceLimit": 0}),
        ({"deduplication": "d"}, {"de": {"id": "d"}}),
        (
            {"deduplication": Dedup("d", ttl=2, extend=True, keep_last_if_active=True)},
            {"de": {"id": "d", "ttl": 2000, "extend": True, "keepLastIfActive": True}},
        ),
        ({"on_child_failure": "fail"}, {"fpof": True}),
        ({"on_child_failure": "continue"}, {"cpof": True}),
        ({"on_child_failure": "ignore"}, {"idof": True}),
        ({"on_child_failure": "remove"}, {"rdof": True}),
        ({"parent": Parent("p", "other")}, {"parent": {"id": "p", "queue": "bull:other"}}),
        ({"parent": Parent("7", "other", "x")}, {"parent": {"id": "7", "queue": "x:other"}}),
        ({"telemetry": JobTelemetry("ctx", omit_context=True)}, {"tm": "ctx", "omc": True}),
        ({"lifo": False}, {}),
    ],
)
def test_the_stored_forms_are_bullmqs(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert stored(**options) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", JobOptions()),
        ('{"attempts":0}', JobOptions(attempts=1)),
        ('{"attempts":null,"delay":null,"backoff":null}', JobOptions()),
        ('{"backoff":1500}', JobOptions(backoff=Fixed(1.5))),
        ('{"removeOnComplete":-1}', JobOptions(remove_on_complete=False)),
        ('{"removeOnFail":{"age":60}}', JobOptions(remove_on_fail=Keep(age=60))),
        ('{"delay":1500.5}', JobOptions(delay=1.5005)),
        ('{"backoff":{"type":"exponential","delay":"100"}}', JobOptions(backoff=Exponential(0.1))),
    ],
)
def test_options_of_other_producers_are_understood(text: str, expected: JobOptions) -> None:
    assert parse_options(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"removeOnComplete":{"count":-1}}', JobOptions(remove_on_complete=Keep())),
        ('{"removeOnComplete":{"count":1e15}}', JobOptions(remove_on_complete=Keep(count=10**15))),
        ('{"removeOnComplete":10.0}', JobOptions(remove_on_complete=Keep(count=10))),
        ('{"removeOnComplete":-1e999}', JobOptions(remove_on_complete=False)),
        ('{"removeOnComplete":{"age":1e12}}', JobOptions(remove_on_complete=Keep(age=MAX_DELAY))),
        ('{"removeOnFail":{"age":3600,"limit":0}}', JobOptions(remove_on_fail=Keep(age=3600))),
        ('{"removeOnFail":"yes"}', JobOptions()),
        ('{"backoff":{"type":"fixed","delay":-1}}', JobOptions(backoff=Fixed(0))),
        ('{"backoff":{"type":"fixed","delay":1e99,"jitter":7}}', JobOptions(backoff=Fixed(MAX_DELAY, 1.0))),
        ('{"backoff":{"type":"exponential","delay":9,"factor":0,"cap":-1}}', JobOptions(backoff=Exponential(0.009))),
        ('{"backoff":"fixed"}', JobOptions(backoff=Fixed(0))),
        ('{"backoff":"mine"}', JobOptions(backoff=Custom(type="mine"))),
        ('{"backoff":{"delay":5}}', JobOptions(backoff=Fixed(0.005))),
        ('{"backoff":[1]}', JobOptions()),
        ('{"backoff":true}', JobOptions()),
        ('{"attempts":2.5,"priority":-4,"delay":"x","sizeLimit":0,"kl":-1}', JobOptions(attempts=2)),
        ('{"attempts":"3","priority":1e9}', JobOptions(attempts=3, priority=MAX_PRIORITY)),
        ('{"attempts":"many","stackTraceLimit":NaN,"tm":5,"repeat":"daily"}', JobOptions()),
        ('{"de":{"id":"x","ttl":0.4}}', JobOptions(deduplication=Dedup("x", ttl=0.001))),
        ('{"de":{"id":7,"ttl":"soon"}}', JobOptions(deduplication=Dedup("7"))),
        ('{"de":{}}', JobOptions()),
        ('{"de":5}', JobOptions()),
    ],
)
def test_what_other_producers_left_unchecked_is_read_leniently(text: str, expected: JobOptions) -> None:
    """Node runs such jobs, so they must not fail here as corrupt."""
    assert parse_options(text) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["fixed", "exponential"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
stored_keep = json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(("count", "age", "limit"), json_values))
stored_members: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ("attempts", "delay", "priority", "lifo", "sizeLimit", "kl", "stackTraceLimit", "fpof", "tm", "omc", "repeat"),
        json_values,
    ),
    "removeOnComplete": stored_keep,
    "removeOnFail": stored_keep,
    "backoff": json_values
    | st.fixed_dictionaries({}, optional=dict.fromkeys(("type", "delay", "jitter", "factor", "cap"), json_values)),
    "de": json_values
    | st.fixed_dictionaries({"id": json_values}, optional={"ttl": json_values, "extend": json_values}),
}


@given(st.fixed_dictionaries({}, optional=stored_members), st.integers(1, 10_000))
def test_any_object_is_read_as_options_that_a_worker_can_use(members: dict[str, Any], attempts_made: int) -> None:
    options = parse_options(json.dumps(members))
    keep_text(options.remove_on_complete)
    keep_text(options.remove_on_fail)
    assert options.attempts >= 1
    assert 0 <= options.priority <= MAX_PRIORITY
    if isinstance(options.backoff, Fixed | Exponential):
        assert options.backoff.pause(attempts_made, Random(0)) >= 0


# Options that jobs share ----------------------------------------------------------------------------------------------------


def parsed_alone(text: str) -> JobOptions:
    """The options without what jobs share."""
    value = decode_json(text)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return stored_options._read(value)


own_members = st.fixed_dictionaries(
    {"jobId": st.text() | json_values}, optional={"timestamp": json_values, "taurine": json_values}
)
marks = st.sampled_from(["jobId", ',"jobId":', ',"jobId":1}', '\\","jobId":"', "timestamp", "taurine"])
hostile_values = st.recursive(
    json_values | marks,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(marks | st.text(), inner, max_size=3),
    max_leaves=8,
)


parts_of_options = st.tuples(
    st.fixed_dictionaries({}, optional=stored_members),
    st.dictionaries(marks | st.text(max_size=3), hostile_values, max_size=3),
    own_members,
    st.dictionaries(st.sampled_from(["attempts", "priority", "z"]), json_values, max_size=2),
).flatmap(st.permutations)
"""Parts of one object; a member may stand in two of them."""


@given(parts_of_options, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_what_jobs_share_is_read_as_if_each_were_read_alone(
    parts: list[dict[str, Any]], separators: tuple[str, str]
) -> None:
    """Own members in any place, and their names in texts, in nested objects and twice."""
    comma, colon = separators
    members = (f"{json.dumps(key)}{colon}{json.dumps(value)}" for part in parts for key, value in part.items())
    text = f"{{{comma.join(members)}}}"
    assert parse_options(text) == parsed_alone(text)
    assert parse_options(text.encode()) == parsed_alone(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":{"b":1,"jobId":"x"},"attempts":3}',
        '{"a":{"b":1,"jobId":"x"}}',
        '{"a":[{"b":1,"jobId":"x"}],"attempts":3,"jobId":"y"}',
        '{"a":"\\",\\"jobId\\":\\"x","attempts":3,"jobId":"y"}',
        '{"attempts":3,"jobId":"x","attempts":4}',
        '{"attempts":3,"jobId":"x","jobId":"y"}',
        '{"attempts":3,"jobId":"x","tm":"t"}',
        '{"attempts":3,"jobId":{"attempts":4},"timestamp":1,"taurine":{"attempts":5}}',
        '{"taurine":{"a":1,"jobId":"x"},"attempts":3}',
        '{"attempts":3,"taurine":{"a":1,"jobId":"x"}}',
    ],
)
def test_hostile_options_are_read_as_if_they_were_read_alone(text: str) -> None:
    assert parse_options(text) == parsed_alone(text)


@pytest.mark.parametrize(
    "text",
    [
        '{,"jobId":"x"}',
        ',"jobId":"x"}',
        '{"a":1,,"jobId":"x"}',
        '{"a":1},"jobId":"x"}',
        '{"a":1,"jobId":}',
        '{"a":1,"jobId":"x"',
        '{"a":1,"jobId":"x"}}',
        '[{"a":1,"jobId":"x"}]',
        '{"a":{"b":1,"jobId":"x"}',
        b'{"a":1,"jobId":"\xff"}',
        b'{"a":"\xff","jobId":"x"}',
    ],
)
def test_what_only_ends_as_options_do_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - as below
        parse_options(text)


def test_jobs_with_ids_of_their_own_share_what_is_read() -> None:
    texts = [f'{{"attempts":7,"jobId":"j{n}","timestamp":{n},"taurine":{{"g":{n}}}}}' for n in range(3)]
    first, *others = [parse_options(text) for text in texts]
    assert all(other is first for other in others)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{"])
def test_what_are_no_options_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of the decoders' own; the caller names the field
        parse_options(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"atempts": 3}, r"unknown job option 'atempts'; did you mean 'attempts'\?"),
        ({"repeat": {"every": 5}}, "upsert_scheduler"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"attempts": 2.0}, "attempts"),
        ({"priority": MAX_PRIORITY + 1}, "priority"),
        ({"priority": -1}, "priority"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"delay": float("inf")}, "delay"),
        ({"delay": "5"}, "delay"),
        ({"delay": True}, "delay"),
        ({"backoff": "fixed"}, "backoff"),
        ({"backoff": -1}, "backoff"),
        ({"size_limit": 0}, "size_limit"),
        ({"remove_on_complete": "all"}, "remove_on_complete"),
        ({"remove_on_complete": -1}, "count"),
        ({"deduplication": ""}, "Dedup"),
        ({"deduplication": 5}, "deduplication"),
        ({"on_child_failure": "explode"}, "on_child_failure"),
        ({"parent": "p"}, "parent"),
        ({"parent": Parent("p", "a:b")}, "queue name"),
        ({"parent": Parent("p", "q"), "deduplication": "d"}, "deduplicated"),
        ({"replace_finished": True, "deduplication": "d"}, "leave out deduplication or replace_finished"),
        ({"telemetry": "ctx"}, "telemetry"),
        ({"backoff": {"type": "fixed"}}, "backoff"),
        ({"backoff": Custom(lambda _made, _error: 1.0)}, "a function does not travel with a job.*backoff_strategy"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        plan(options, prefix="bull")


def test_equal_values_of_different_types_are_not_mixed_up() -> None:
    """Plans are remembered; True and 1, and 1 and 1.0, are equal keys of a plain dict."""
    assert stored(remove_on_complete=1) == {"removeOnComplete": 1}
    assert stored(remove_on_complete=True) == {"removeOnComplete": True}
    assert stored(remove_on_complete=False) == {"removeOnComplete": False}
    assert stored(remove_on_complete=0) == {"removeOnComplete": 0}


def test_what_an_add_needs_beside_the_options() -> None:
    meaning = plan({"delay": 2, "priority": 3, "lifo": True, "size_limit": 9, "deduplication": Dedup("d")}, prefix="b")
    assert (meaning.delay_ms, meaning.priority, meaning.size_limit) == (2000, 3, 9)
    assert json.loads(meaning.extras) == {"lifo": True, "dedup": {"id": "d", "keepLast": False}}
    parent = json.loads(plan({"parent": Parent("p", "q"), "on_child_failure": "fail"}, prefix="b").extras)
    assert parent["parentKey"] == "b:q:p"
    assert json.loads(parent["parent"]) == {"id": "p", "queueKey": "b:q", "fpof": True}


def test_creation_times() -> None:
    assert timestamp_ms(1.5) == 1500
    assert timestamp_ms(datetime(2026, 1, 1, tzinfo=UTC)) == 1_767_225_600_000
    with pytest.raises(InvalidOption, match="tzinfo"):
        timestamp_ms(datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    with pytest.raises(InvalidOption):
        timestamp_ms(2**41)


def test_retention_for_the_turn_script() -> None:
    texts = [keep_text(rule) for rule in (None, False, True, 0, 5, Keep(), Keep(age=1.5), Keep(2, 1, 3))]
    assert texts == ["::", "::", "0::", "0::", "5::", "::", ":1500:", "2:1000:3"]


def test_a_plain_number_is_a_fixed_back_off_bmq_023() -> None:
    backoff: Backoff | None = read(backoff=1.5).backoff
    assert backoff == Fixed(1.5)
