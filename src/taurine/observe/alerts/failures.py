"""Rules about what fails: how much of it, and what nobody has dealt with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from taurine.observe.alerts.look import Look
from taurine.observe.alerts.rule import Finding, QueueRule
from taurine.options import Seconds, require_count, to_seconds

__all__ = ["DeadLettersGrowing", "DeadLettersOpen", "FailedRising", "FailureRate"]

_LONGEST_WINDOW = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _InWindow(QueueRule):
    window: Seconds = 300.0

    def __post_init__(self) -> None:
        QueueRule.__post_init__(self)
        to_seconds(self.window, "window", minimum=1.0, maximum=_LONGEST_WINDOW)

    @property
    def seconds(self) -> float:
        return to_seconds(self.window, "window")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRate(_InWindow):
    """Of the jobs of a queue that ended in `window` seconds, a larger share than `limit` failed for good, and at least
    `least_ended` ended. Defaults: 0.05, 300 and 20.

    The window begins with a minute, so that it may be up to 60 s longer. It is over as well when too few end.
    """

    KIND: ClassVar[str] = "failure_rate"

    limit: float = 0.05
    least_ended: int = 20

    def __post_init__(self) -> None:
        _InWindow.__post_init__(self)
        require_count(self.least_ended, "least_ended", minimum=1)

    async def findings(self, look: Look) -> Sequence[Finding]:
        lately = await look.throughput(self.seconds)
        found: list[Finding] = []
        for name in self.looked_at(look):
            recent = lately.get(name)
            ended = 0 if recent is None else recent.ended
            rate = 0.0 if recent is None or ended < self.least_ended else recent.failure_rate
            text = (
                f"{rate:.1%} of the {ended:,} jobs of queue {name!r} that ended in {self.seconds:g} s failed for good"
            )
            found.append(Finding(name, rate, text, name))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRising(_InWindow):
    """More jobs of a queue than `limit` failed for good in `window` seconds, whatever became of them since.

    Defaults: 50 and 300.

    Not among the default rules: `FailureRate` and `DeadLettersGrowing` tell of the same.
    """

    KIND: ClassVar[str] = "failed_rising"

    limit: float = 50

    async def findings(self, look: Look) -> Sequence[Finding]:
        lately = await look.throughput(self.seconds)
        found: list[Finding] = []
        for name in self.looked_at(look):
            failed = lately[name].of("failed") if name in lately else 0
            found.append(
                Finding(name, failed, f"{failed:,} jobs of queue {name!r} failed for good in {self.seconds:g} s", name)
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLettersOpen(QueueRule):
    """A queue has more dead letters that nobody has dealt with than `limit`. Default: 100."""

    KIND: ClassVar[str] = "dead_letters_depth"

    limit: float = 100

    async def findings(self, look: Look) -> Sequence[Finding]:
        if (ledger := look.readings.ledger) is None:
            return []
        found: list[Finding] = []
        for name in self.looked_at(look):
            number = ledger.dead_letters.get(name, 0)
            text = f"queue {name!r} has {number:,} dead letters that nobody has dealt with"
            found.append(Finding(name, number, text, name))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLettersGrowing(_InWindow):
    """More dead letters of a queue than `limit` are of the last `window` seconds, and still open.

    Defaults: 25 and 3600.
    """

    KIND: ClassVar[str] = "dead_letters_growing"

    limit: float = 25
    window: Seconds = 3600.0

    async def findings(self, look: Look) -> Sequence[Finding]:
        grown = await look.dead_letters_since(self.seconds)
        found: list[Finding] = []
        for name in self.looked_at(look):
            number = grown.get(name, 0)
            text = f"queue {name!r} has {number:,} open dead letters of the last {self.seconds:g} s"
            found.append(Finding(name, number, text, name))
        return found
