"""Alerts: rules, what is raised and over by them, and who is told.

A rule looks at figures of each queue or schedule, or at a server, or names a kind of event. What it finds is a row of
the ledger; a change of it is written by one process of all that run the watch, and that one, or another if it dies,
tells the sinks.

    rule, queues, failures, schedules, servers, defaults   what is looked at
    look                                                   figures, read once for all rules
    deciding                                               pending → firing → over
    recorder                                               events of jobs
    watch, delivery                                        the loop, and telling
    sinks/                                                 who is told: log, hook, webhook, e-mail
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taurine.observe.alerts.defaults import DEFAULT_RULES
from taurine.observe.alerts.failures import DeadLettersGrowing, DeadLettersOpen, FailedRising, FailureRate
from taurine.observe.alerts.queues import NoWorker, OldestWaiting, OutboxLag, QueueDepth, QueuePaused
from taurine.observe.alerts.rule import AlertRule, EventRule, Finding, LimitRule, QueueRule
from taurine.observe.alerts.schedules import ScheduleLate
from taurine.observe.alerts.servers import StoreDown

if TYPE_CHECKING:
    from taurine.observe.alerts.sinks.document import AlertDocument, document_of
    from taurine.observe.alerts.sinks.email import EmailSink
    from taurine.observe.alerts.sinks.sink import Sink
    from taurine.observe.alerts.sinks.webhook import WebhookRefused, WebhookSink, is_signed

__all__ = [
    "DEFAULT_RULES",
    "AlertDocument",
    "AlertRule",
    "DeadLettersGrowing",
    "DeadLettersOpen",
    "EmailSink",
    "EventRule",
    "FailedRising",
    "FailureRate",
    "Finding",
    "LimitRule",
    "NoWorker",
    "OldestWaiting",
    "OutboxLag",
    "QueueDepth",
    "QueuePaused",
    "QueueRule",
    "ScheduleLate",
    "Sink",
    "StoreDown",
    "WebhookRefused",
    "WebhookSink",
    "document_of",
    "is_signed",
]

# Clients of HTTP and SMTP, which most processes do without.
_LATER = {
    "document": ("AlertDocument", "document_of"),
    "email": ("EmailSink",),
    "sink": ("Sink",),
    "webhook": ("WebhookRefused", "WebhookSink", "is_signed"),
}
_MODULE_OF = {name: module for module, names in _LATER.items() for name in names}


def __getattr__(name: str) -> Any:
    """A sink, loaded now and kept."""
    if (module := _MODULE_OF.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.sinks.{module}"), name)
    globals()[name] = value
    return value
