"""The rules that an application has unless it says otherwise."""

from __future__ import annotations

from collections.abc import Iterable

from taurine.errors import InvalidOption
from taurine.observe.alerts.failures import DeadLettersGrowing, DeadLettersOpen, FailureRate
from taurine.observe.alerts.queues import NoWorker, OldestWaiting, OutboxLag, QueueDepth, QueuePaused
from taurine.observe.alerts.rule import AlertRule, EventRule
from taurine.observe.alerts.schedules import ScheduleLate
from taurine.observe.alerts.servers import StoreDown

__all__ = ["DEFAULT_RULES", "checked_rules"]

DEFAULT_RULES: tuple[AlertRule, ...] = (
    QueueDepth(severity="warning"),
    OldestWaiting(severity="warning"),
    QueuePaused(severity="warning"),
    FailureRate(),
    DeadLettersOpen(severity="warning"),
    DeadLettersGrowing(),
    NoWorker(severity="critical"),
    ScheduleLate(),
    OutboxLag(),
    StoreDown(severity="critical"),
    EventRule(of="denied", severity="critical"),
    EventRule(of="forged_job", severity="critical"),
    EventRule(of="poison"),
    EventRule(of="undeclared_type", severity="warning"),
    EventRule(of="access_refused", severity="warning"),
)


def checked_rules(rules: Iterable[AlertRule]) -> tuple[AlertRule, ...]:
    """The rules, each under a name of its own. Raises InvalidOption."""
    checked = tuple(rules)
    names: set[str] = set()
    for rule in checked:
        if not isinstance(rule, AlertRule):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected rules of alerts, such as QueueDepth(limit=100), got {rule!r:.80}")
        if rule.key in names:
            raise InvalidOption(f"expected rules of different names, got two of {rule.key!r}; give one a name=")
        names.add(rule.key)
    return checked
