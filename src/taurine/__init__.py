"""Taurine: background jobs for Python on BullMQ's wire, with a durable record of each in SQL.

Names are loaded at their first use, so that a program which needs the queues alone (`taurine.queue`) does not load the
rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.errors import (
        Cancel,
        CatalogError,
        DuplicateJob,
        EffectInProgress,
        EffectUnknown,
        IdempotencyConflict,
        InvalidOption,
        JobCancelled,
        JobExpired,
        JobFailed,
        LedgerUnavailable,
        MoreThanExpected,
        NotAuthorized,
        PayloadError,
        PayloadInvalid,
        PayloadTooLarge,
        Permanent,
        QuotaExceeded,
        RateLimited,
        RecordNotFound,
        Release,
        RetryAfter,
        ScheduleNotFound,
        SchemaMismatch,
        Snooze,
        StoreUnavailable,
        TaurineError,
        TaurineWarning,
        TenantMismatch,
        TransitionRefused,
        UnknownJobType,
        WaitTimeout,
    )
    from taurine.jobs.catalog.identity import EVERY_TIME, EveryTime, OncePer
    from taurine.jobs.catalog.job_type import JobType
    from taurine.jobs.catalog.without_payload import NoPayload
    from taurine.jobs.enqueue.access import AccessRequest
    from taurine.jobs.enqueue.handle import JobHandle
    from taurine.jobs.handler.context import Context
    from taurine.jobs.operations.bulk_orders import BulkFilter, BulkResult
    from taurine.jobs.operations.why import Why
    from taurine.jobs.reconciler.upkeep import Upkeep
    from taurine.jobs.reporting.alerts import Alert
    from taurine.jobs.reporting.lines import JobFields
    from taurine.jobs.reporting.redaction import Redact
    from taurine.jobs.schedules.schedules import ScheduleInfo
    from taurine.ledger.dead_letter_entry import DeadLetter
    from taurine.ledger.dead_letters import DeadLetterFilter
    from taurine.ledger.quotas import Quota
    from taurine.ledger.records import JobRecord
    from taurine.ledger.retention import RetentionPolicy
    from taurine.ledger.statuses import Phase, Status
    from taurine.options import Dedup, JobTelemetry, Keep, Parent, RateLimit
    from taurine.pipeline.observers import StageEvent, StageFailure, StageObserver, StageProgress
    from taurine.pipeline.pipeline import Pipeline
    from taurine.pipeline.stages import Stage
    from taurine.retry import Custom, Exponential, Fixed, Retry, Rule
    from taurine.telemetry import Telemetry

__version__ = "0.1.0"

__all__ = [
    "EVERY_TIME",
    "AccessRequest",
    "Alert",
    "BulkFilter",
    "BulkResult",
    "Cancel",
    "CatalogError",
    "Context",
    "Custom",
    "DeadLetter",
    "DeadLetterFilter",
    "Dedup",
    "DuplicateJob",
    "EffectInProgress",
    "EffectUnknown",
    "EveryTime",
    "Exponential",
    "Fixed",
    "IdempotencyConflict",
    "InvalidOption",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "JobFields",
    "JobHandle",
    "JobRecord",
    "JobTelemetry",
    "JobType",
    "Keep",
    "LedgerUnavailable",
    "MoreThanExpected",
    "NoPayload",
    "NotAuthorized",
    "OncePer",
    "Parent",
    "PayloadError",
    "PayloadInvalid",
    "PayloadTooLarge",
    "Permanent",
    "Phase",
    "Pipeline",
    "Quota",
    "QuotaExceeded",
    "RateLimit",
    "RateLimited",
    "RecordNotFound",
    "Redact",
    "Release",
    "RetentionPolicy",
    "Retry",
    "RetryAfter",
    "Rule",
    "ScheduleInfo",
    "ScheduleNotFound",
    "SchemaMismatch",
    "Snooze",
    "Stage",
    "StageEvent",
    "StageFailure",
    "StageObserver",
    "StageProgress",
    "Status",
    "StoreUnavailable",
    "Taurine",
    "TaurineError",
    "TaurineWarning",
    "Telemetry",
    "TenantMismatch",
    "TransitionRefused",
    "UnknownJobType",
    "Upkeep",
    "WaitTimeout",
    "Why",
    "__version__",
]

_MODULES = {
    "taurine.app": ("Taurine",),
    "taurine.jobs.enqueue.access": ("AccessRequest",),
    "taurine.jobs.reporting.alerts": ("Alert",),
    "taurine.jobs.handler.context": ("Context",),
    "taurine.jobs.enqueue.handle": ("JobHandle",),
    "taurine.jobs.catalog.identity": ("EVERY_TIME", "EveryTime", "OncePer"),
    "taurine.jobs.catalog.job_type": ("JobType",),
    "taurine.jobs.catalog.without_payload": ("NoPayload",),
    "taurine.jobs.schedules.schedules": ("ScheduleInfo",),
    "taurine.jobs.reporting.lines": ("JobFields",),
    "taurine.jobs.reporting.redaction": ("Redact",),
    "taurine.jobs.reconciler.upkeep": ("Upkeep",),
    "taurine.jobs.operations.bulk_orders": ("BulkFilter", "BulkResult"),
    "taurine.jobs.operations.why": ("Why",),
    "taurine.ledger.dead_letter_entry": ("DeadLetter",),
    "taurine.ledger.dead_letters": ("DeadLetterFilter",),
    "taurine.ledger.quotas": ("Quota",),
    "taurine.ledger.records": ("JobRecord",),
    "taurine.ledger.retention": ("RetentionPolicy",),
    "taurine.ledger.statuses": ("Phase", "Status"),
    "taurine.options": ("Dedup", "JobTelemetry", "Keep", "Parent", "RateLimit"),
    "taurine.pipeline.observers": ("StageEvent", "StageFailure", "StageObserver", "StageProgress"),
    "taurine.pipeline.pipeline": ("Pipeline",),
    "taurine.pipeline.stages": ("Stage",),
    "taurine.retry": ("Custom", "Exponential", "Fixed", "Retry", "Rule"),
    "taurine.telemetry": ("Telemetry",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, loaded now and kept. Those without a module of their own above are errors."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULE_OF.get(name, "taurine.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
