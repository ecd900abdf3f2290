"""What an error carries: its HTTP status, its Retry-After, its system number, its cause, its members.

The errors are of foreign code, and a property of one may raise. So whatever is read off one comes through `attribute`
or `_member`, which answer None then. What they find may be as strange, and whoever judges an error stands ready for
anything. `type(error)` is asked instead of `isinstance`, which would read the error's own `__class__`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import cast

__all__ = [
    "LONGEST_RETRY_AFTER",
    "attribute",
    "cause_of",
    "errno_of",
    "is_throttled_by_aws",
    "members_of",
    "retry_after_of",
    "seconds_until",
    "status_of",
]

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds; a longer Retry-After is cut to this. A server may not park a job for weeks."""

_AWS_THROTTLED = re.compile(r"Throttl|ThroughputExceeded|TooManyRequests|RequestLimitExceeded|SlowDown|RequestTimeout")
_DELAY_SECONDS = re.compile(r"\d{1,15}(\.\d{1,15})?", re.ASCII)


def attribute(owner: object, name: str) -> object:
    """`owner.name`, or None where there is none and where it raises."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - foreign code may do anything when it is looked at
        return None


def cause_of(error: BaseException) -> BaseException | None:
    """What it was raised from, or None."""
    cause = attribute(error, "__cause__")
    return cast("BaseException", cause) if issubclass(type(cause), BaseException) else None


def members_of(group: BaseException) -> tuple[BaseException, ...]:
    """The errors of a group; none for one that does not say them."""
    members = attribute(group, "exceptions")
    return cast("tuple[BaseException, ...]", members) if isinstance(members, tuple) else ()


def status_of(error: BaseException) -> int | None:
    """The HTTP error status that the error carries, in any of the places where libraries keep it."""
    response = attribute(error, "response")
    candidates = (
        attribute(error, "status_code"),  # starlette, openai, azure
        attribute(error, "status"),  # aiohttp
        attribute(error, "http_status"),  # stripe
        attribute(response, "status_code"),  # httpx, requests
        attribute(response, "status"),
        attribute(error, "code"),  # urllib, google
        _member(_member(response, "ResponseMetadata"), "HTTPStatusCode"),  # boto
    )
    return next((code for code in map(_whole_number, candidates) if code is not None and 400 <= code <= 599), None)


def errno_of(error: BaseException) -> int | None:
    """The number of the system's error, or None."""
    return _whole_number(attribute(error, "errno"))


def is_throttled_by_aws(error: BaseException) -> bool:
    """True where the body of an answer of AWS says so: some throttled and timed-out requests get the status 400."""
    code = _member(_member(attribute(error, "response"), "Error"), "Code")
    return isinstance(code, str) and _AWS_THROTTLED.search(code) is not None


def retry_after_of(error: BaseException, now: float) -> float | None:
    """Seconds until the time that the error names, at most LONGEST_RETRY_AFTER; None for none, one in the past, or one
    that cannot be read.

    Zero is none as well: attempts that follow each other at once are used up before anything has changed.
    """
    response = attribute(error, "response")
    candidates = (
        _header(attribute(response, "headers"), "retry-after"),
        _header(attribute(error, "headers"), "retry-after"),
        _header(_member(_member(response, "ResponseMetadata"), "HTTPHeaders"), "retry-after"),
        attribute(error, "retry_after"),
    )
    waits = (seconds_until(value, now) for value in candidates)
    return next((min(wait, LONGEST_RETRY_AFTER) for wait in waits if wait is not None and wait > 0), None)


def seconds_until(value: object, now: float) -> float | None:
    """Seconds from `now`, of a number, a timedelta, or a header's text: seconds or an HTTP date."""
    try:
        if isinstance(value, timedelta):
            return float(value.total_seconds())
        if isinstance(value, int | float):
            return None if isinstance(value, bool) or math.isnan(value) else float(value)
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if not isinstance(text, str) or len(text) > 100:
            return None
        text = text.strip()
        if _DELAY_SECONDS.fullmatch(text):
            return float(text)
        date = parsedate_to_datetime(text)
        # HTTP dates are in GMT; two of their three forms do not say so in a way that the parser takes.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except Exception:  # noqa: BLE001 - garbage from a server; the parser of dates raises several kinds
        return None


def _header(headers: object, name: str) -> object:
    """The value of a header whatever its case, of a mapping or of pairs."""
    try:
        items = cast("Mapping[object, object]", headers).items() if hasattr(headers, "items") else headers
        for key, value in islice(cast("Iterable[tuple[object, object]]", items), 1_000):
            text = key.decode("latin-1") if isinstance(key, bytes) else key
            if isinstance(text, str) and text.lower() == name:
                return value
    except Exception:  # noqa: BLE001 - foreign code may do anything when it is looked at
        return None
    return None


def _whole_number(value: object) -> int | None:
    """`value` as a plain int, without the methods of its class (HTTPStatus, or one whose comparisons raise)."""
    kind = type(value)
    return int.__int__(cast("int", value)) if issubclass(kind, int) and kind is not bool else None


def _member(owner: object, name: str) -> object:
    try:
        return cast("Mapping[str, object]", owner).get(name) if isinstance(owner, Mapping) else None
    except Exception:  # noqa: BLE001 - foreign code may do anything when it is looked at
        return None
