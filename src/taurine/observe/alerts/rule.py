"""A rule of alerts: what is looked at, above which figure somebody must hear of it, and below which it is over."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from taurine.errors import InvalidOption
from taurine.jobs.reporting.alerts import Severity
from taurine.observe.alerts.look import Look
from taurine.options import Seconds, to_seconds

__all__ = ["AlertRule", "EventRule", "Finding", "LimitRule", "QueueRule"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}", re.ASCII)

_LOWER = 0.8
"""Of its limit: what goes up and down at a limit would be told each time."""


_LONGEST_QUIET = 24 * 3600.0


class Finding(NamedTuple):
    """What a rule found.

    subject: a queue, a schedule, or the application. text: the figure in words, without a full stop. queue: "" where it
    is about none. remedy: what can be done about it, told for as long as it lasts. Default: nothing.
    """

    subject: str
    value: float
    text: str
    queue: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule(ABC):
    """What all rules have.

    name: under which it is kept, and which differs from that of every other rule. Default: its kind.

    every: seconds after which it is told again for as long as it lasts; None for never. Default: None. severity: for
    those who are told; nothing else depends on it.
    """

    name: str = ""
    severity: Severity = "error"
    every: Seconds | None = None

    def __post_init__(self) -> None:
        if self.every is not None:
            to_seconds(self.every, "every", minimum=1.0)
        if not _NAME.fullmatch(self.key):
            raise InvalidOption(
                f"expected the name of a rule to be lower-case letters, digits and _.- ({_NAME.pattern}), got {self.key!r:.120}"
            )

    @property
    @abstractmethod
    def kind(self) -> str:
        """What its alerts are called."""

    @property
    def key(self) -> str:
        """The name under which it is kept."""
        return self.name or self.kind

    @property
    def every_ms(self) -> int | None:
        return None if self.every is None else round(to_seconds(self.every, "every") * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRule(AlertRule):
    """A figure and its limit, looked at for each subject by itself.

    limit: above which it is raised; what is equal to it is no worry. lower: at or below which it is over. Default: four
    fifths of the limit.
    for_seconds: how long it must have been above at each look before it is raised. Default: see the rule.
    Raises InvalidOption for a limit below 0, and one that is below `lower`.
    """

    KIND: ClassVar[str]

    MOST_BETWEEN: ClassVar[float | None] = None
    """Seconds between two looks after which `for_seconds` begins anew; None where it counts however seldom somebody
    looks.
    """

    limit: float
    lower: float | None = None
    for_seconds: Seconds = 0.0

    def __post_init__(self) -> None:
        AlertRule.__post_init__(self)
        to_seconds(self.for_seconds, "for_seconds")
        # Of NaN too.
        if not 0 <= self.limit < float("inf"):
            raise InvalidOption(f"expected the limit of {self.key!r} to be a number from 0, got {self.limit!r}")
        if not 0 <= self.over_at <= self.limit:
            raise InvalidOption(
                f"expected `lower` of {self.key!r} to be from 0 to its limit {self.limit:g}, got {self.lower!r}"
            )

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def over_at(self) -> float:
        """At or below which it is over."""
        return self.limit * _LOWER if self.lower is None else self.lower

    @property
    def for_ms(self) -> int:
        return round(to_seconds(self.for_seconds, "for_seconds") * 1000)

    def is_one_stretch(self, between_ms: int) -> bool:
        """Whether what was found at two looks, so many ms apart, was so between them as well."""
        return self.MOST_BETWEEN is None or between_ms <= self.MOST_BETWEEN * 1000

    @abstractmethod
    async def findings(self, look: Look) -> Sequence[Finding]:
        """What there is to say of each subject.

        One of which nothing can be said, since a server does not answer, is left out: its state stays as it is.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule(AlertRule):
    """Something that happens to jobs, or at the API.

    The first of a job type, or of a caller, is told at once; those that follow are counted until none has come for
    `quiet`, so that ten thousand of them are one message.

    of: the kind of event; see `Alert.kind`. quiet: seconds without one after which the next is told again, up to a day.
    Default: 900.
    """

    of: str
    quiet: Seconds = 900.0

    def __post_init__(self) -> None:
        AlertRule.__post_init__(self)
        to_seconds(self.quiet, "quiet", minimum=1.0, maximum=_LONGEST_QUIET)

    @property
    def kind(self) -> str:
        return self.of

    @property
    def quiet_ms(self) -> int:
        return round(to_seconds(self.quiet, "quiet") * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRule(LimitRule):
    """A rule that looks at queues.

    queues: which. Default: all that are declared, and those of Taurine's own that are in use.
    """

    queues: Collection[str] | None = None

    def looked_at(self, look: Look) -> Iterable[str]:
        """The queues that this rule is about."""
        return look.queues if self.queues is None else [name for name in look.queues if name in self.queues]
