"""Retries: whether a failed attempt is followed by another, and how long to wait before it.

A back-off is a value. It computes the pause from the number of attempts made, and it travels with the job so that whoever
runs it, here or on Node, waits alike. `classify` tells errors that pass by themselves from those that do not. A `Retry` joins both
with the number of attempts.

How an error is judged; the first line that says something counts:

1. The handler's own word: Permanent and Cancel are permanent, RetryAfter is transient.
2. The job type's rules, in their order.
3. An ExceptionGroup is permanent if a member of it is.
4. Access denied (PermissionError, NotAuthorized, TenantMismatch) is permanent, and operators are alerted. So are, without an alert,
   validation errors (any class called ValidationError, InvalidOption, PayloadError) and jobs that cannot be read. Taurine's own errors
   that say `retryable` are transient.
5. An HTTP status that the error or its response carries: 408, 409, 423, 425, 429 and 5xx are transient, other 4xx are permanent.
6. Time-outs and network errors are transient.
7. The same questions for the error's cause (`raise … from cause`); not for its context, which may have nothing to do with it.
8. Transient: an error that nobody knows is tried again.
"""

from __future__ import annotations

import errno
import inspect
import logging
import math
import re
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from random import Random
from typing import ClassVar, Literal, TypeAlias, cast

from taurine.clock import Clock
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
    TaurineWarning,
)

__all__ = [
    "LONGEST_RETRY_AFTER",
    "MAX_ATTEMPTS",
    "Backoff",
    "Custom",
    "ErrorKind",
    "ErrorMatch",
    "Exponential",
    "Fixed",
    "Retry",
    "Rule",
    "Verdict",
    "classify",
    "leaves_open",
]

log = logging.getLogger("taurine.retry")

MAX_ATTEMPTS = 1_000
"""The largest number of attempts of a job: more is a retry without end."""

LONGEST_RETRY_AFTER = 86_400.0
"""Seconds; a longer Retry-After is cut to this. A server may not park a job for weeks."""


_LONGEST = sys.float_info.max


def _check(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected {name} to be a number from {low:g} to {high:g}, got {value!r}")


def _jittered(delay: float, jitter: float, random: Random) -> float:
    # Full band below the nominal pause, as BullMQ's: [(1 - jitter) * delay, delay].
    return delay - random.random() * delay * jitter if jitter else delay


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same pause before each attempt.

    delay: seconds. jitter: 0 to 1, the part of the pause that is random, downwards. Default: 0.
    """

    delay: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check("Fixed.delay", self.delay, low=0)
        _check("Fixed.jitter", self.jitter, low=0, high=1)

    def pause(self, attempts_made: int, random: Random) -> float:
        """Seconds to wait after `attempts_made` failed attempts (1 after the first)."""
        return _jittered(self.delay, self.jitter, random)


@dataclass(frozen=True, slots=True)
class Exponential:
    """A pause that grows by `factor` with each attempt: base, base * factor, base * factor², and so on.

    base: seconds before the second attempt. factor: default 2. cap: longest pause in seconds; default: none.
    jitter: 0 to 1, the part of the pause that is random, downwards. Default: 0.

    BullMQ on Node knows base and jitter only: a job that it retries grows by 2 and has no cap.
    """

    base: float
    factor: float = 2.0
    cap: float | None = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check("Exponential.base", self.base, low=0)
        _check("Exponential.factor", self.factor, low=1)
        _check("Exponential.jitter", self.jitter, low=0, high=1)
        if self.cap is not None:
            _check("Exponential.cap", self.cap, low=0)

    def pause(self, attempts_made: int, random: Random) -> float:
        """Seconds to wait after `attempts_made` failed attempts (1 after the first)."""
        if self.base == 0:
            return 0.0
        try:
            delay = self.base * self.factor ** (attempts_made - 1)
        except OverflowError:  # after some hundred attempts
            delay = math.inf
        # A finite pause in any case: jitter would make NaN of an infinite one.
        delay = min(delay, _LONGEST if self.cap is None else self.cap)
        return _jittered(delay, self.jitter, random)


@dataclass(frozen=True, slots=True)
class Custom:
    """A pause that a function computes. A function does not travel with a job, so there are two ways to it.

    strategy: the function of a job type's Retry, called with the attempts made and the error. Default: none.
    type: what a job of a plain queue carries in its place; the `backoff_strategy` that its worker has for this type is called with the attempts
    made, the type, the error and the job. Default: "custom". `Queue.add` refuses a strategy, and Retry refuses to be without one.

    Either function returns seconds, 0 to run again at once, or a negative number to fail the job for good.
    Raises InvalidOption for a type that names one of the other back-offs.
    """

    strategy: Callable[[int, BaseException], float] | None = None
    type: str = "custom"

    def __post_init__(self) -> None:
        if self.type in ("", "fixed", "exponential"):
            raise InvalidOption(
                f"expected Custom.type to be a name other than 'fixed' and 'exponential', got {self.type!r}"
            )


Backoff: TypeAlias = Fixed | Exponential | Custom

_DEFAULT_BACKOFF = Exponential(1.0, factor=2, cap=3600, jitter=0.2)
_MANY_ATTEMPTS = 10
_LONGEST_PAUSE = 366 * 100 * 86_400.0  # seconds; `options.MAX_DELAY`, which is above this file

ErrorKind: TypeAlias = Literal["transient", "permanent"]
"""`transient`: another attempt may succeed. `permanent`: it cannot."""

ErrorMatch: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Which errors a rule is for: a class, several, or a function that says so. A function that raises says no."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means for the next attempt.

    retry_after: seconds to wait, where the error or a rule says so; it goes before the back-off. alert: operators must hear of it.
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

    retry_after: seconds or a timedelta to wait, of transient errors. Default: what the error itself says, else the back-off.
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
        _check("Rule.retry_after", _plain_seconds(self.retry_after), low=0, high=_LONGEST_PAUSE)

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


def classify(error: BaseException, rules: Iterable[Rule] = (), *, clock: Clock | None = None) -> Verdict:
    """Whether another attempt may help after `error`, and when; the order of the questions is in this module's docstring.

    rules: asked before the built-in classification; the first that matches counts. clock: for a Retry-After that is a date. Default:
    the machine's time. Never raises, whatever the error does when it is looked at.
    """
    now = time.time() if clock is None else clock.now()
    return _judge(error, tuple(rules), now, set()) or _UNKNOWN


def leaves_open(error: BaseException, not_done: tuple[type[BaseException], ...] = ()) -> bool:
    """True unless an error proves that what was asked for did not happen. Most errors prove nothing: the request may have been sent before they came up.

    Proofs are a refused connection, a name that cannot be resolved, an HTTP status from 400 to 499 other than 408, 409 and 499, and Permanent, unless its cause is a
    time-out or the like. not_done: further errors of which the caller knows that nothing happened. Looks at the error, at its causes, and at all members of a
    group. Never raises.
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
        status = _status(link)
        if status is not None:
            return status >= 500 or status in _OPEN_STATUSES
        if issubclass(type(link), TimeoutError | ConnectionError):
            return True  # whatever its cause is: an earlier try may have got through
        if issubclass(type(link), BaseExceptionGroup):
            return any(_leaves_open(member, seen) for member in _members(link))
        given_up = given_up or issubclass(type(link), Permanent)
        link = _cause(link)
    return not given_up


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a job is tried, how long it waits in between, and which errors are worth it.

    attempts: tries in all, 1 to 1000. Default: 3.
    backoff: Fixed, Exponential, or a Custom with its function. Default: 1 s, doubled each time, at most an hour, of which up to a fifth is
    random. None: the next attempt starts at once.
    rules: the job type's own word on errors. Default: none.

    Presets, all with an exponential pause of at most an hour whose last fifth is random:

    | preset | attempts | pauses, seconds |
    |---|---|---|
    | `Retry()` | 3 | 1, 2 |
    | `Retry.EMAIL` | 5 | 2, 4, 8, 16 |
    | `Retry.PAYMENT` | 3 | 60, 120 |
    | `Retry.EXPORT` | 2 | 5 |
    | `Retry.NONE` | 1 | |

    Raises InvalidOption for values out of range, at once and not at the first retry. Warns of many attempts without a pause.
    """

    EMAIL: ClassVar[Retry]
    PAYMENT: ClassVar[Retry]
    EXPORT: ClassVar[Retry]
    NONE: ClassVar[Retry]

    attempts: int = 3
    backoff: Backoff | None = _DEFAULT_BACKOFF
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        _check_attempts(self.attempts)
        _check_backoff(self.backoff)
        object.__setattr__(self, "rules", _checked_rules(self.rules))
        if self.attempts > _MANY_ATTEMPTS and _is_without_pause(self.backoff):
            warnings.warn(
                f"Retry(attempts={self.attempts}) without a pause between them hammers whatever failed; "
                "give it a back-off such as Exponential(1.0, jitter=0.2)",
                TaurineWarning,
                stacklevel=3,  # past the generated __init__, where the caller is
            )

    def classify(self, error: BaseException, clock: Clock | None = None) -> Verdict:
        """`classify` with this policy's rules."""
        return classify(error, self.rules, clock=clock)

    def pause(
        self, attempts_made: int, error: BaseException, random: Random, clock: Clock, *, verdict: Verdict | None = None
    ) -> float | None:
        """Seconds to wait before the next attempt, or None when there is none: no attempt remains, or the error is permanent.

        attempts_made: failed attempts so far, the last one included. verdict: what `classify` said of the error, if it was asked before.
        A time that the error names goes before the back-off. At most a century. Never raises.
        """
        if attempts_made >= self.attempts:
            return None
        verdict = verdict or self.classify(error, clock)
        if verdict.kind == "permanent":
            return None
        if verdict.retry_after is not None:
            return verdict.retry_after
        return self._backoff_pause(max(1, attempts_made), error, random)

    def _backoff_pause(self, attempts_made: int, error: BaseException, random: Random) -> float | None:
        backoff = self.backoff
        if backoff is None:
            return 0.0
        if isinstance(backoff, Custom):
            pause = _custom_pause(backoff, attempts_made, error)
            if pause is not None:
                return None if pause < 0 else min(pause, _LONGEST_PAUSE)
            backoff = _DEFAULT_BACKOFF
        return min(backoff.pause(attempts_made, random), _LONGEST_PAUSE)


def _check_attempts(attempts: object) -> None:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= MAX_ATTEMPTS:
        raise InvalidOption(
            f"expected Retry.attempts to be a whole number from 1 to {MAX_ATTEMPTS}, got {attempts!r:.80}; "
            "1 is a single try without a retry"
        )


def _check_backoff(backoff: object) -> None:
    if backoff is None or isinstance(backoff, Fixed | Exponential):
        return
    if not isinstance(backoff, Custom):
        raise InvalidOption(
            f"expected Retry.backoff to be Fixed, Exponential, Custom or None, got {backoff!r:.80}; for a fixed pause write Fixed(seconds)"
        )
    if not callable(backoff.strategy) or inspect.iscoroutinefunction(backoff.strategy):
        raise InvalidOption(
            "expected Retry.backoff=Custom(…) to have its function, for example Custom(lambda attempts_made, error: 5.0 * attempts_made); "
            f"got {backoff.strategy!r:.80}"
        )
    try:
        signature = inspect.signature(backoff.strategy)
    except (ValueError, TypeError):  # some callables of C have none
        return
    try:
        signature.bind(1, Exception())
    except TypeError:
        raise InvalidOption(
            f"expected the function of Custom(…) to take the attempts made and the error, got one that takes {signature}"
        ) from None


def _checked_rules(rules: object) -> tuple[Rule, ...]:
    if not isinstance(rules, tuple | list) or not all(isinstance(rule, Rule) for rule in cast("list[object]", rules)):
        raise InvalidOption(
            f"expected Retry.rules to be a tuple of Rule, for example (Rule(KeyError, 'permanent'),), got {rules!r:.80}"
        )
    return tuple(cast("list[Rule]", rules))


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


def _is_without_pause(backoff: Backoff | None) -> bool:
    if isinstance(backoff, Custom):
        return False
    return backoff is None or backoff.pause(1, Random(0)) == 0


def _custom_pause(backoff: Custom, attempts_made: int, error: BaseException) -> float | None:
    """What the strategy says, or None if it says nothing that can be used."""
    if backoff.strategy is None:
        return None
    try:
        pause = cast("object", backoff.strategy(attempts_made, error))
    except Exception:
        log.exception("a back-off function raised; the default pause is taken")
        return None
    if isinstance(pause, bool) or not isinstance(pause, int | float) or math.isnan(pause):
        log.error(
            "a back-off function returned %s instead of seconds; the default pause is taken", type(pause).__name__
        )
        return None
    return float(min(max(pause, -1.0), _LONGEST_PAUSE))


Retry.EMAIL = Retry(attempts=5, backoff=Exponential(2.0, factor=2, cap=3600, jitter=0.2))
Retry.PAYMENT = Retry(attempts=3, backoff=Exponential(60.0, factor=2, cap=3600, jitter=0.2))
Retry.EXPORT = Retry(attempts=2, backoff=Exponential(5.0, factor=2, cap=3600, jitter=0.2))
Retry.NONE = Retry(attempts=1)


# Judging errors. Whatever is read off an error comes through `_attribute` or `_member`, since a property of it may raise. `type(error)` is
# asked instead of `isinstance`, which would read the error's own `__class__`.

_UNKNOWN = Verdict("transient", why="nothing is known of this error; it is retried by default")
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
_OPEN_STATUSES = frozenset({408, 409, 499})
"""Below 500, answers of a server, or of a gateway before it, that may have acted: it was cut off, or is at it already."""
_TRANSIENT_STATUSES = frozenset({408, 409, 423, 425, 429})
# AWS answers some throttled and timed-out requests with 400; only the code in the body tells.
_AWS_THROTTLED = re.compile(r"Throttl|ThroughputExceeded|TooManyRequests|RequestLimitExceeded|SlowDown|RequestTimeout")
_DELAY_SECONDS = re.compile(r"\d{1,15}(\.\d{1,15})?", re.ASCII)


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
        link = _cause(link)
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
    delay = _wait(_attribute(error, "delay"), 0.0)
    return Verdict("transient", None if delay is None else min(max(0.0, delay), _LONGEST_PAUSE), why=why)


def _by_rule(error: BaseException, rules: tuple[Rule, ...], now: float) -> Verdict | None:
    rule = next((rule for rule in rules if rule.matches(error)), None)
    if rule is None:
        return None
    why = f"a rule of the job type makes {type(error).__name__} {rule.kind}"
    if rule.kind == "permanent":
        return Verdict("permanent", alert=rule.alert, why=why)
    wait = _retry_after(error, now) if rule.retry_after is None else _plain_seconds(rule.retry_after)
    return Verdict("transient", wait, rule.alert, why)


def _by_members(error: BaseException, rules: tuple[Rule, ...], now: float, seen: set[int]) -> Verdict | None:
    if not issubclass(type(error), BaseExceptionGroup):
        return None
    errors = _members(error)
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


def _members(group: BaseException) -> tuple[BaseException, ...]:
    members = _attribute(group, "exceptions")
    return cast("tuple[BaseException, ...]", members) if isinstance(members, tuple) else ()


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
    status = _status(error)
    if status is None:
        return None
    if status >= 500 or status in _TRANSIENT_STATUSES or _is_throttled_by_aws(error):
        return Verdict("transient", _retry_after(error, now), why=f"HTTP status {status}")
    return Verdict("permanent", why=f"HTTP status {status}")


def _by_network(error: BaseException) -> Verdict | None:
    kind = type(error)
    if issubclass(kind, _NETWORK_TYPES) or (
        issubclass(kind, OSError) and _whole(_attribute(error, "errno")) in _NETWORK_NUMBERS
    ):
        return Verdict("transient", why=f"{kind.__name__}: a time-out or a network error")
    return None


def _by_retry_after(error: BaseException, now: float) -> Verdict | None:
    wait = _retry_after(error, now)
    return None if wait is None else Verdict("transient", wait, why=f"{type(error).__name__} says when to try again")


def _cause(error: BaseException) -> BaseException | None:
    cause = _attribute(error, "__cause__")
    return cast("BaseException", cause) if issubclass(type(cause), BaseException) else None


def _status(error: BaseException) -> int | None:
    """The HTTP error status that the error carries, in any of the places where libraries keep it."""
    response = _attribute(error, "response")
    candidates = (
        _attribute(error, "status_code"),  # starlette, openai, azure
        _attribute(error, "status"),  # aiohttp
        _attribute(error, "http_status"),  # stripe
        _attribute(response, "status_code"),  # httpx, requests
        _attribute(response, "status"),
        _attribute(error, "code"),  # urllib, google
        _member(_member(response, "ResponseMetadata"), "HTTPStatusCode"),  # boto
    )
    return next((code for code in map(_whole, candidates) if code is not None and 400 <= code <= 599), None)


def _whole(value: object) -> int | None:
    """`value` as a plain int, without the methods of its class (HTTPStatus, or one whose comparisons raise)."""
    kind = type(value)
    return int.__int__(cast("int", value)) if issubclass(kind, int) and kind is not bool else None


def _is_throttled_by_aws(error: BaseException) -> bool:
    code = _member(_member(_attribute(error, "response"), "Error"), "Code")
    return isinstance(code, str) and _AWS_THROTTLED.search(code) is not None


def _retry_after(error: BaseException, now: float) -> float | None:
    """Seconds until the time that the error names, at most LONGEST_RETRY_AFTER; None for none, one in the past, or one that cannot be read.

    Zero is none as well: attempts that follow each other at once are used up before anything has changed.
    """
    response = _attribute(error, "response")
    candidates = (
        _header(_attribute(response, "headers"), "retry-after"),
        _header(_attribute(error, "headers"), "retry-after"),
        _header(_member(_member(response, "ResponseMetadata"), "HTTPHeaders"), "retry-after"),
        _attribute(error, "retry_after"),
    )
    waits = (_wait(value, now) for value in candidates)
    return next((min(wait, LONGEST_RETRY_AFTER) for wait in waits if wait is not None and wait > 0), None)


def _wait(value: object, now: float) -> float | None:
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
    except Exception:  # noqa: BLE001 - as in `_judge`
        return None
    return None


def _attribute(owner: object, name: str) -> object:
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - as in `_judge`
        return None


def _member(owner: object, name: str) -> object:
    try:
        return cast("Mapping[str, object]", owner).get(name) if isinstance(owner, Mapping) else None
    except Exception:  # noqa: BLE001 - as in `_judge`
        return None
