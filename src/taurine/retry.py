"""Back-off: how long to wait before a job's next attempt.

A back-off is a value. It computes the pause from the number of attempts made, and it travels with the job so that whoever
runs it, here or on Node, waits alike.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from taurine.errors import InvalidOption

__all__ = ["Backoff", "Custom", "Exponential", "Fixed"]


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
    """A pause that the worker's own function computes.

    strategy: called with the attempts made and the error; returns seconds, 0 to run again at once, or a negative number to
    fail the job for good. A function does not travel: the job carries `type`, and the worker finds the function by it.
    """

    strategy: Callable[[int, BaseException], float] | None = None
    type: str = "custom"

    def __post_init__(self) -> None:
        if self.type in ("", "fixed", "exponential"):
            raise InvalidOption(
                f"expected Custom.type to be a name other than 'fixed' and 'exponential', got {self.type!r}"
            )


Backoff: TypeAlias = Fixed | Exponential | Custom
