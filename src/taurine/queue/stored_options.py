"""A job's options: from what a caller gives to what the job's hash holds, and back.

The stored form is BullMQ's: JSON, milliseconds, its short names. Equal options are worked out once (`plan`), since most
jobs of a queue share theirs; the same holds for reading (`parse_options`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from taurine.clock import MAX_DELAY
from taurine.errors import InvalidOption, did_you_mean
from taurine.ids import check_queue_name, parent_wire_id
from taurine.options import (
    MAX_PRIORITY,
    AddOptions,
    ChildFailurePolicy,
    Dedup,
    JobTelemetry,
    Keep,
    Parent,
    to_milliseconds,
)
from taurine.queue.wire import decode_json, encode_json, keep_policy
from taurine.retry import Backoff, Custom, Exponential, Fixed

__all__ = [
    "APPLICATION_MEMBER",
    "JobOptions",
    "Plan",
    "keep_text",
    "keep_to_wire",
    "parse_options",
    "plan",
    "telemetry_in",
    "telemetry_to_wire",
    "timestamp_ms",
]

_WHOLE_NUMBERS = (
    ("attempts", "attempts", 1, 1_000_000),
    ("priority", "priority", 0, MAX_PRIORITY),
    ("size_limit", "sizeLimit", 1, 2**53),
    ("keep_logs", "kl", 0, 2**31),
    ("stacktrace_limit", "stackTraceLimit", 0, 2**31),
)
"""Option, stored name, lowest and highest value."""
_POLICY_FLAGS: dict[ChildFailurePolicy, str] = {"fail": "fpof", "continue": "cpof", "ignore": "idof", "remove": "rdof"}
_KNOWN = tuple(AddOptions.__annotations__)

APPLICATION_MEMBER = "taurine"
"""The member of the stored options that belongs to the layer above; other consumers pass over it."""

_OWN_MEMBERS = frozenset({"jobId", "tm", "omc", "timestamp", APPLICATION_MEMBER})
"""What `new_job` appends for one job, in this order."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a set of options means for the add script, apart from the job's own id and time."""

    members: str
    """The members of the stored options, JSON without the braces."""
    delay_ms: int
    priority: int
    extras: str
    """What the add script needs beyond its fixed fields, JSON; empty for none."""
    size_limit: int | None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """A job's options as they were stored with it, apart from what is its own alone: its id, its time, its trace.

    Durations in seconds; None where the job carries none.
    """

    attempts: int = 1
    backoff: Backoff | None = None
    delay: float = 0.0
    priority: int = 0
    lifo: bool = False
    size_limit: int | None = None
    keep_logs: int | None = None
    stacktrace_limit: int | None = None
    remove_on_complete: bool | Keep | None = None
    remove_on_fail: bool | Keep | None = None
    deduplication: Dedup | None = None
    on_child_failure: ChildFailurePolicy | None = None
    repeat: Mapping[str, Any] | None = None
    """The schedule that made this job, in its stored form."""


# From the caller to the wire ------------------------------------------------------------------------------------------------


def plan(options: Mapping[str, Any], *, prefix: str) -> Plan:
    """What `options` mean. `job_id` and `timestamp` must have been taken out. Raises InvalidOption."""
    try:
        return _plan_cached(prefix, **options)
    except TypeError:  # an option that cannot be hashed, from an untyped caller: let the checks name it
        return _plan(dict(options), prefix)


# By type too: True and 1 are equal, and mean different things to remove_on_complete.
@lru_cache(maxsize=512, typed=True)
def _plan_cached(prefix: str, /, **options: Hashable) -> Plan:
    return _plan(options, prefix)


def _refuse_unknown(options: dict[str, Any]) -> None:
    if "repeat" in options:
        raise InvalidOption(
            "the repeat option is no longer there; use `queue.upsert_scheduler(id, every=seconds)` or `pattern=…`"
        )
    for name in options:
        if name not in _KNOWN:
            raise InvalidOption(f"unknown job option {name!r}{did_you_mean(name, _KNOWN)}")


def _store_plain(options: dict[str, Any]) -> dict[str, Any]:
    """The options that concern the job alone, in their stored form."""
    stored: dict[str, Any] = {}
    for name, short, low, high in _WHOLE_NUMBERS:
        if (value := options.get(name)) is not None:
            stored[short] = _whole(value, name, low, high)
    if options.get("lifo"):
        stored["lifo"] = True
    if (delay := options.get("delay")) is not None and (delay_ms := to_milliseconds(delay, "delay")):
        stored["delay"] = delay_ms
    if (backoff := options.get("backoff")) is not None:
        stored["backoff"] = _backoff_to_wire(backoff)
    for name, short in (("remove_on_complete", "removeOnComplete"), ("remove_on_fail", "removeOnFail")):
        if (keep := options.get(name)) is not None:
            stored[short] = keep_to_wire(keep, name)
    return stored


def _plan(options: dict[str, Any], prefix: str) -> Plan:
    _refuse_unknown(options)
    stored = _store_plain(options)
    dedup = _dedup_to_wire(options.get("deduplication"))
    if dedup:
        stored["de"] = dedup
    parent = _store_parent(options, stored, prefix)
    stored |= telemetry_to_wire(options.get("telemetry"))
    if dedup and options.get("replace_finished"):
        raise InvalidOption(
            "a job that is not added for its deduplication would have replaced one for nothing; leave out deduplication or replace_finished"
        )
    if dedup and parent:
        raise InvalidOption("a job with a parent cannot be deduplicated; leave out deduplication or parent")

    extras: dict[str, Any] = dict(parent)
    if "lifo" in stored:
        extras["lifo"] = True
    if replaced := options.get("replace_finished"):
        extras["replaceFinished"] = "other" if replaced == "other" else True
    if dedup:
        extras["dedup"] = {**dedup, "keepLast": dedup.get("keepLastIfActive", False)}
    return Plan(
        members=encode_json(stored)[1:-1],
        delay_ms=stored.get("delay", 0),
        priority=stored.get("priority", 0),
        extras=encode_json(extras) if extras else "",
        size_limit=stored.get("sizeLimit"),
    )


def _whole(value: object, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidOption(f"expected {name} to be a whole number from {low} to {high}, got {value!r:.40}")
    return value


def _backoff_to_wire(backoff: object) -> dict[str, Any]:
    if isinstance(backoff, Custom):
        if backoff.strategy is not None:
            raise InvalidOption(
                f"a function does not travel with a job; add it with Custom(type={backoff.type!r}) and give the worker backoff_strategy"
            )
        return {"type": backoff.type}
    if isinstance(backoff, Exponential):
        wire: dict[str, Any] = {"type": "exponential", "delay": to_milliseconds(backoff.base, "backoff")}
        # BullMQ passes over these two; Taurine's workers heed them.
        if backoff.factor != 2:
            wire["factor"] = backoff.factor
        if backoff.cap is not None:
            wire["cap"] = to_milliseconds(backoff.cap, "backoff")
    else:
        fixed = backoff if isinstance(backoff, Fixed) else Fixed(to_milliseconds(backoff, "backoff") / 1000)  # pyright: ignore[reportArgumentType] - checked there
        wire = {"type": "fixed", "delay": to_milliseconds(fixed.delay, "backoff")}
        backoff = fixed
    if backoff.jitter:
        wire["jitter"] = backoff.jitter
    return wire


def keep_to_wire(keep: object, name: str) -> bool | int | dict[str, int]:
    """A retention policy in its stored form. Raises InvalidOption, naming the option, for what is none."""
    if isinstance(keep, bool):
        return keep
    if isinstance(keep, int):
        return Keep(count=keep).count or 0
    if not isinstance(keep, Keep):
        raise InvalidOption(f"expected {name} to be True, False, a count or a Keep, got {type(keep).__name__}")
    wire: dict[str, int] = {}
    if keep.count is not None:
        wire["count"] = keep.count
    if keep.age is not None:
        # Whole seconds on the wire: rounded up, so that nothing goes earlier than asked.
        wire["age"] = -(-to_milliseconds(keep.age, "Keep.age") // 1000)
    if keep.limit is not None:
        wire["limit"] = keep.limit
    return wire or False


def _dedup_to_wire(dedup: object) -> dict[str, Any]:
    if dedup is None:
        return {}
    if isinstance(dedup, str):
        dedup = Dedup(id=dedup)
    if not isinstance(dedup, Dedup):
        raise InvalidOption(f"expected deduplication to be a Dedup or an id, got {type(dedup).__name__}")
    wire: dict[str, Any] = {"id": dedup.id}
    if dedup.ttl is not None:
        wire["ttl"] = to_milliseconds(dedup.ttl, "Dedup.ttl")
    for name, short in (
        ("extend", "extend"),
        ("replace", "replace"),
        ("reschedule", "reschedule"),
        ("keep_last_if_active", "keepLastIfActive"),
    ):
        if getattr(dedup, name):
            wire[short] = True
    return wire


def _store_parent(options: dict[str, Any], stored: dict[str, Any], prefix: str) -> dict[str, Any]:
    policy = options.get("on_child_failure")
    if policy is not None:
        if policy not in _POLICY_FLAGS:
            raise InvalidOption(f"expected on_child_failure to be one of {', '.join(_POLICY_FLAGS)}, got {policy!r}")
        stored[_POLICY_FLAGS[policy]] = True
    parent = options.get("parent")
    if parent is None:
        return {}
    if not isinstance(parent, Parent):
        raise InvalidOption(f"expected parent to be a Parent, got {type(parent).__name__}")
    queue_key = f"{parent.prefix or prefix}:{check_queue_name(parent.queue)}"
    stored_id = parent_wire_id(parent.id)
    stored["parent"] = {"id": stored_id, "queue": queue_key}
    link: dict[str, Any] = {"id": stored_id, "queueKey": queue_key}
    if policy is not None:
        link[_POLICY_FLAGS[policy]] = True
    return {"parentKey": f"{queue_key}:{stored_id}", "parent": encode_json(link)}


def telemetry_to_wire(telemetry: object) -> dict[str, Any]:
    """What a job says of its trace, as members of its stored options. Raises InvalidOption for what is no JobTelemetry."""
    if telemetry is None:
        return {}
    if not isinstance(telemetry, JobTelemetry):
        raise InvalidOption(f"expected telemetry to be a JobTelemetry, got {type(telemetry).__name__}")
    members: dict[str, Any] = {}
    if telemetry.metadata is not None:
        members["tm"] = telemetry.metadata
    if telemetry.omit_context:
        members["omc"] = True
    return members


def timestamp_ms(value: float | datetime) -> int:
    """A creation time as milliseconds since the epoch.

    Raises InvalidOption for a naive datetime or a time out of range.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidOption(
                "expected timestamp to be seconds or an aware datetime, got a naive one; give it a tzinfo"
            )
        value = value.timestamp()
    # The score of a delayed job is exact up to 2^53 / 4096 ms.
    return to_milliseconds(value, "timestamp", maximum=2**41 / 1000)


# From the wire ----------------------------------------------------------------------------------------------------------------


def parse_options(text: bytes | str) -> JobOptions:
    """The options in a job's hash. Raises ValueError for text that is no JSON object.

    Other producers check less than `plan` does, and their jobs run all the same: a member of a wrong type, or below its
    range, counts as left out, and one above its range as the highest value.
    """
    shared = _shared_part(text.encode() if isinstance(text, str) else text)
    return _parse(text if shared is None else shared)


def telemetry_in(text: bytes | str) -> JobTelemetry | None:
    """What stored options say of the job's trace, if anything. Raises ValueError for text that is no JSON."""
    stored = text.encode() if isinstance(text, str) else text
    if b'"tm"' not in stored and b'"omc"' not in stored:
        return None
    raw = decode_json(stored)
    if not isinstance(raw, dict):
        return None
    members = cast("dict[str, Any]", raw)
    metadata, omitted = members.get("tm"), bool(members.get("omc"))
    if not isinstance(metadata, str):
        metadata = None
    return None if metadata is None and not omitted else JobTelemetry(metadata, omitted)


def _shared_part(text: bytes) -> bytes | None:
    """Stored options without the members at their end that are one job's own, or None where they do not end in such.

    Jobs with an id or a trace of their own would else have no options in common, and each would be parsed anew.
    """
    for first in (b'"jobId":', b'"tm":'):  # in the order in which they are appended
        head, mark, tail = text.partition(b"," + first)
        if not mark:
            continue
        try:
            own = decode_json(b"{" + first + tail)
        except ValueError:  # the mark was inside of another member
            continue
        if own.keys() <= _OWN_MEMBERS:
            # With the mark, so that what was no JSON object before is none now.
            return head + mark + b"0}"
    return None


@lru_cache(maxsize=1024)
def _parse(text: bytes | str) -> JobOptions:
    raw = decode_json(text)
    if not isinstance(raw, dict):
        raise ValueError("opts is no JSON object")
    return _read(cast("dict[str, Any]", raw))


def _read(raw: dict[str, Any]) -> JobOptions:
    policy: ChildFailurePolicy | None = next((name for name, flag in _POLICY_FLAGS.items() if raw.get(flag)), None)
    whole = {name: _read_whole(raw.get(short), low, high) for name, short, low, high in _WHOLE_NUMBERS}
    repeat = raw.get("repeat")
    return JobOptions(
        attempts=whole["attempts"] or 1,
        backoff=_read_backoff(raw.get("backoff")),
        delay=_read_duration(raw.get("delay")) or 0.0,
        priority=whole["priority"] or 0,
        lifo=bool(raw.get("lifo")),
        size_limit=whole["size_limit"],
        keep_logs=whole["keep_logs"],
        stacktrace_limit=whole["stacktrace_limit"],
        remove_on_complete=_read_keep(raw.get("removeOnComplete")),
        remove_on_fail=_read_keep(raw.get("removeOnFail")),
        deduplication=_read_dedup(raw.get("de")),
        on_child_failure=policy,
        repeat=cast("dict[str, Any]", repeat) if isinstance(repeat, dict) else None,
    )


def _read_number(value: object, low: float, high: float) -> float | None:
    """A stored number, also one in text, as JavaScript reads both; None for what is none, or is below `low`."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    # NaN is not at least `low` either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= low:
        return None
    return min(value, high)


def _read_whole(value: object, low: int, high: int) -> int | None:
    number = _read_number(value, low, high)
    return None if number is None else int(number)


def _read_duration(ms: object, *, minimum_ms: float = 0.0) -> float | None:
    """Stored milliseconds as seconds."""
    number = _read_number(ms, 0.0, MAX_DELAY * 1000)
    return None if number is None else max(number, minimum_ms) / 1000


def _read_backoff(raw: object) -> Backoff | None:
    if isinstance(raw, str):
        raw = {"type": raw}
    if not isinstance(raw, dict):
        delay = _read_duration(raw)
        return Fixed(delay) if delay else None
    members = cast("dict[str, Any]", raw)
    kind = members.get("type")
    if isinstance(kind, str) and kind not in ("", "fixed", "exponential"):
        return Custom(type=kind)
    delay = _read_duration(members.get("delay")) or 0.0
    jitter = _read_number(members.get("jitter"), 0.0, 1.0) or 0.0
    if kind == "exponential":
        factor = _read_number(members.get("factor"), 1.0, MAX_DELAY) or 2.0
        return Exponential(delay, factor, _read_duration(members.get("cap")), jitter)
    return Fixed(delay, jitter)


def _read_keep(raw: object) -> bool | Keep | None:
    if raw is None or isinstance(raw, bool):
        return raw
    if not isinstance(raw, dict):
        number = _read_number(raw, -math.inf, 2**53)
        if number is None or number < 0:
            return None if number is None else False
        return Keep(count=int(number))
    members = cast("dict[str, Any]", raw)
    return Keep(
        count=_read_whole(members.get("count"), 0, 2**53),
        age=_read_number(members.get("age"), 0.0, MAX_DELAY),
        limit=_read_whole(members.get("limit"), 1, 2**53),
    )


def _read_dedup(raw: object) -> Dedup | None:
    if not isinstance(raw, dict):
        return None
    members = cast("dict[str, Any]", raw)
    dedup_id = members.get("id")
    if isinstance(dedup_id, bool) or not isinstance(dedup_id, str | int | float) or dedup_id == "":
        return None
    return Dedup(
        id=str(dedup_id),
        ttl=_read_duration(members.get("ttl"), minimum_ms=1.0) if members.get("ttl") else None,
        extend=bool(members.get("extend")),
        replace=bool(members.get("replace")),
        reschedule=bool(members.get("reschedule")),
        keep_last_if_active=bool(members.get("keepLastIfActive")),
    )


def keep_text(keep: bool | int | Keep | None) -> str:
    """A retention policy as the turn script reads it."""
    if isinstance(keep, bool) or keep is None:
        return keep_policy(0 if keep else None, None, None)
    if isinstance(keep, int):
        return keep_policy(keep, None, None)
    age_ms = None if keep.age is None else to_milliseconds(keep.age, "Keep.age")
    return keep_policy(keep.count, age_ms, keep.limit)
