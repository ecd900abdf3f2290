"""Retries: whether a failed attempt is followed by another, and how long to wait before it.

A back-off is a value. It computes the pause from the number of attempts made, and it travels with the job so that
whoever runs it, here or on Node, waits alike. `classify` tells errors that pass by themselves from those that do not:
how is in `classification`, whose names are public here. A `Retry` joins both with the number of attempts.
"""

from __future__ import annotations

import inspect
import logging
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import ClassVar, TypeAlias, cast

from taurine.classification import ErrorKind, ErrorMatch, Rule, Verdict, classify, leaves_open
from taurine.clock import MAX_DELAY, Clock
from taurine.error_details import LONGEST_RETRY_AFTER
from taurine.errors import InvalidOption, TaurineWarning

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
    type: what a job of a plain queue carries in its place; the `backoff_strategy` that its worker has for this type is
    called with the attempts made, the type, the error and the job. Default: "custom". `Queue.add` refuses a strategy,
    and Retry refuses to be without one.

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


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a job is tried, how long it waits in between, and which errors are worth it.

    attempts: tries in all, 1 to 1000. Default: 3.
    backoff: Fixed, Exponential, or a Custom with its function. Default: 1 s, doubled each time, at most an hour, of
    which up to a fifth is random. None: the next attempt starts at once.
    rules: the job type's own word on errors. Default: none.

    Presets, all with an exponential pause of at most an hour whose last fifth is random:

    | preset | attempts | pauses, seconds |
    |---|---|---|
    | `Retry()` | 3 | 1, 2 |
    | `Retry.EMAIL` | 5 | 2, 4, 8, 16 |
    | `Retry.PAYMENT` | 3 | 60, 120 |
    | `Retry.EXPORT` | 2 | 5 |
    | `Retry.NONE` | 1 | |

    Raises InvalidOption for values out of range, at once and not at the first retry. Warns of many attempts without a
    pause.
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
        """Seconds to wait before the next attempt, or None when there is none: no attempt remains, or the error is
        permanent.

        attempts_made: failed attempts so far, the last one included. verdict: what `classify` said of the error, if it
        was asked before.
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
                return None if pause < 0 else min(pause, MAX_DELAY)
            backoff = _DEFAULT_BACKOFF
        return min(backoff.pause(attempts_made, random), MAX_DELAY)


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
    return float(min(max(pause, -1.0), MAX_DELAY))


Retry.EMAIL = Retry(attempts=5, backoff=Exponential(2.0, factor=2, cap=3600, jitter=0.2))
Retry.PAYMENT = Retry(attempts=3, backoff=Exponential(60.0, factor=2, cap=3600, jitter=0.2))
Retry.EXPORT = Retry(attempts=2, backoff=Exponential(5.0, factor=2, cap=3600, jitter=0.2))
Retry.NONE = Retry(attempts=1)
