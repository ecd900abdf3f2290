"""Judging errors: whether another attempt may help, and whether what was interrupted may have happened.

How `classify` judges; the first line that says something counts:

1. The handler's own word: Permanent and Cancel are permanent, RetryAfter is transient.
2. The job type's rules, in their order.
3. An ExceptionGroup is permanent if a member of it is.
4. Access denied (PermissionError, NotAuthorized, TenantMismatch) is permanent, and operators are alerted. So are,
without an alert,
   validation errors (any class called ValidationError, InvalidOption, PayloadError) and jobs that cannot be read.
   Taurine's own errors that say `retryable` are transient.
5. An HTTP status that the error or its response carries: 408, 409, 423, 425, 429 and 5xx are transient, other 4xx are
permanent.
6. Time-outs and network errors are transient.
7. The same questions for the error's cause (`raise … from cause`); not for its context, which may have nothing to do
with it.
8. Transient: an error that nobody knows is tried again.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias, cast

from taurine.clock import MAX_DELAY, Clock
from taurine.error_details import (
    attribute,
    cause_of,
    errno_of,
    is_throttled_by_aws,
    members_of,
    retry_after_of,
    seconds_until,
    status_of,
)
from taurine.errors import (
    AccessError,
    Cancel,
    CorruptJob,
    EffectUnknown,
    FailedChildren,
    HandlerSignal,
    InvalidOption,
    PayloadError,
    Permanent,
    TaurineError,
)

__all__ = ["ErrorKind", "ErrorMatch", "Rule", "Verdict", "classify", "leaves_open"]

log = logging.getLogger("taurine.retry")  # one name for all that is said of retries

ErrorKind: TypeAlias = Literal["transient", "permanent"]
"""`transient`: another attempt may succeed. `permanent`: it cannot."""

ErrorMatch: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Which errors a rule is for: a class, several, or a function that says so. A function that raises says no."""

_MOST_ERRORS = 1_000
"""Errors looked at in the causes and members of one: a chain may have no end."""

_PERMANENT_TYPES = (InvalidOption, PayloadError, CorruptJob, FailedChildren, EffectUnknown)
_NETWORK_TYPES = (TimeoutError, ConnectionError, socket.gaierror)
_NETWORK_NUMBERS = frozenset(
    getattr(errno, name)
    for name in (
        "ENETDOWN",
        "ENETUNREACH",
        "ENETRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ETIMEDOUT",
        "ENOTCONN",
        "ENOBUFS",
    )
    if hasattr(errno, name)
)
_TRANSIENT_STATUSES = frozenset({408, 409, 423, 425, 429})
_OPEN_STATUSES = frozenset({408, 409, 499})
"""Below 500, answers of a server, or of a gateway before it, that may have acted: it was cut off, or is at it already."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means for the next attempt.

    retry_after: seconds to wait, where the error or a rule says so; it goes before the back-off. alert: operators must
    hear of it.
    why: one line for logs; it names the reason and never holds the error's text.
    """

    kind: ErrorKind
    retry_after: float | None = None
    alert: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A job type's own word on some errors, before the built-in classification.

        Rule(CardDeclined, "permanent")
        Rule((Busy, Locked), "transient", retry_after=30)
        Rule(lambda error: "deadlock" in str(error), "transient")

    retry_after: seconds or a timedelta to wait, of transient errors. Default: what the error itself says, else the
    back-off.
    alert: operators must hear of it. Default: False.
    """

    match: ErrorMatch
    kind: ErrorKind
    retry_after: float | timedelta | None = None
    alert: bool = False

    def __post_init__(self) -> None:
        if not _is_match(self.match):
            raise InvalidOption(
                f"expected Rule.match to be an exception class, a tuple of them, or a function of the error, got {self.match!r:.80}"
            )
        if self.kind not in ("transient", "permanent"):
            raise InvalidOption(f"expected Rule.kind to be 'transient' or 'permanent', got {self.kind!r:.80}")
        if self.retry_after is None:
            return
        if self.kind == "permanent":
            raise InvalidOption("expected no Rule.retry_after for a permanent error: it is not tried again")
        wait = _plain_seconds(self.retry_after)
        if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait <= MAX_DELAY:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected Rule.retry_after to be a number from 0 to {MAX_DELAY:g}, got {wait!r}")

    def matches(self, error: BaseException) -> bool:
        """True if this rule is for `error`. Never raises."""
        try:
            match = self.match
            if isinstance(match, type) or isinstance(match, tuple):  # noqa: SIM101 - the type checker loses the members of one call's union
                return issubclass(type(error), match)
            return bool(match(error))
        except Exception:
            log.exception("a retry rule raised; it is taken as one that does not match")
            return False


_UNKNOWN = Verdict("transient", why="nothing is known of this error; it is retried by default")


def classify(error: BaseException, rules: Iterable[Rule] = (), *, clock: Clock | None = None) -> Verdict:
    """Whether another attempt may help after `error`, and when; the order of the questions is in this module's
    docstring.

    rules: asked before the built-in classification; the first that matches counts. clock: for a Retry-After that is a
    date. Default:
    the machine's time. Never raises, whatever the error does when it is looked at.
    """
    now = time.time() if clock is None else clock.now()
    return _judge(error, tuple(rules), now, set()) or _UNKNOWN


def leaves_open(error: BaseException, not_done: tuple[type[BaseException], ...] = ()) -> bool:
    """True unless an error proves that what was asked for did not happen.

    Most errors prove nothing: the request may have been sent before they came up.

    Proofs are a refused connection, a name that cannot be resolved, an HTTP status from 400 to 499 other than 408, 409
    and 499, and Permanent, unless its cause is a time-out or the like. not_done: further errors of which the caller
    knows that nothing happened. Looks at the error, at its causes, and at all members of a group. Never raises.
    """
    try:
        return not issubclass(type(error), not_done) and _leaves_open(error, set())
    except Exception:  # noqa: BLE001 - as in `_judge`
        return True


def _leaves_open(error: BaseException, seen: set[int]) -> bool:
    link: BaseException | None = error
    given_up = False
    while link is not None:
        if id(link) in seen or len(seen) >= _MOST_ERRORS:
            return True
        seen.add(id(link))
        if issubclass(type(link), ConnectionRefusedError | socket.gaierror):
            return False
        status = status_of(link)
        if status is not None:
            return status >= 500 or status in _OPEN_STATUSES
        if issubclass(type(link), TimeoutError | ConnectionError):
            return True  # whatever its cause is: an earlier try may have got through
        if issubclass(type(link), BaseExceptionGroup):
            return any(_leaves_open(member, seen) for member in members_of(link))
        given_up = given_up or issubclass(type(link), Permanent)
        link = cause_of(link)
    return not given_up


def _judge(error: BaseException, rules: tuple[Rule, ...], now: float, seen: set[int]) -> Verdict | None:
    """The verdict on an error or else on its cause, or None if neither says anything."""
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) < _MOST_ERRORS:
        seen.add(id(link))
        try:
            verdict = _judge_alone(link, rules, now, seen)
        except Exception:  # noqa: BLE001 - an error of foreign code may do anything when looked at; its cause and neighbours still count
            verdict = None
        if verdict is not None:
            return verdict
        link = cause_of(link)
    return None


def _judge_alone(error: BaseException, rules: tuple[Rule, ...], now: float, seen: set[int]) -> Verdict | None:
    return (
        _by_signal(error)
        or _by_rule(error, rules, now)
        or _by_members(error, rules, now, seen)
        or _by_type(error)
        or _by_status(error, now)
        or _by_network(error)
        or _by_retry_after(error, now)
    )


def _by_signal(error: BaseException) -> Verdict | None:
    if not issubclass(type(error), HandlerSignal):
        return None
    why = f"the handler raised {type(error).__name__}"
    if issubclass(type(error), Permanent | Cancel):
        return Verdict("permanent", why=why)
    delay = seconds_until(attribute(error, "delay"), 0.0)
    return Verdict("transient", None if delay is None else min(max(0.0, delay), MAX_DELAY), why=why)


def _by_rule(error: BaseException, rules: tuple[Rule, ...], now: float) -> Verdict | None:
    rule = next((rule for rule in rules if rule.matches(error)), None)
    if rule is None:
        return None
    why = f"a rule of the job type makes {type(error).__name__} {rule.kind}"
    if rule.kind == "permanent":
        return Verdict("permanent", alert=rule.alert, why=why)
    wait = retry_after_of(error, now) if rule.retry_after is None else _plain_seconds(rule.retry_after)
    return Verdict("transient", wait, rule.alert, why)


def _by_members(error: BaseException, rules: tuple[Rule, ...], now: float, seen: set[int]) -> Verdict | None:
    if not issubclass(type(error), BaseExceptionGroup):
        return None
    errors = members_of(error)
    verdicts = [verdict for member in errors if (verdict := _judge(member, rules, now, seen)) is not None]
    if not verdicts:
        return None
    worst = next((verdict for verdict in verdicts if verdict.kind == "permanent"), verdicts[0])
    waits = [verdict.retry_after for verdict in verdicts if verdict.retry_after is not None]
    return Verdict(
        worst.kind,
        max(waits) if waits and worst.kind == "transient" else None,
        any(verdict.alert for verdict in verdicts),
        f"one of {len(errors)} errors: {worst.why}",
    )


def _by_type(error: BaseException) -> Verdict | None:
    kind = type(error)
    if issubclass(kind, PermissionError | AccessError):
        return Verdict("permanent", alert=True, why=f"{kind.__name__}: access was denied, and will be again")
    # By name: pydantic, marshmallow, jsonschema, Django and others call it so, and none of them is imported here.
    if issubclass(kind, _PERMANENT_TYPES) or any(base.__name__ == "ValidationError" for base in kind.__mro__):
        return Verdict("permanent", why=f"{kind.__name__}: the same data will be refused again")
    if issubclass(kind, TaurineError) and kind.retryable:
        return Verdict("transient", why=f"{kind.__name__} may be repeated")
    return None


def _by_status(error: BaseException, now: float) -> Verdict | None:
    if not issubclass(type(error), Exception):  # SystemExit has a code of another meaning
        return None
    status = status_of(error)
    if status is None:
        return None
    if status >= 500 or status in _TRANSIENT_STATUSES or is_throttled_by_aws(error):
        return Verdict("transient", retry_after_of(error, now), why=f"HTTP status {status}")
    return Verdict("permanent", why=f"HTTP status {status}")


def _by_network(error: BaseException) -> Verdict | None:
    kind = type(error)
    if issubclass(kind, _NETWORK_TYPES) or (issubclass(kind, OSError) and errno_of(error) in _NETWORK_NUMBERS):
        return Verdict("transient", why=f"{kind.__name__}: a time-out or a network error")
    return None


def _by_retry_after(error: BaseException, now: float) -> Verdict | None:
    wait = retry_after_of(error, now)
    return None if wait is None else Verdict("transient", wait, why=f"{type(error).__name__} says when to try again")


def _is_match(match: object) -> bool:
    if isinstance(match, type):
        return issubclass(match, BaseException)
    if isinstance(match, tuple):
        members = cast("tuple[object, ...]", match)
        return bool(members) and all(
            isinstance(member, type) and issubclass(member, BaseException) for member in members
        )
    return callable(match)


def _plain_seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value
