"""Log lines about jobs: one for each step of a job's life, each with the same fields.

They go through the standard `logging` module, to `taurine.jobs`, so that an application's own set-up decides where they end. The text says what happened;
`job_id`, `job_type`, `queue`, `attempt`, `tenant` and `trace` are attributes of the record, for formatters that know them. Lines that a handler writes through any
logger get the same with `JobFields`, a filter for log handlers.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taurine.jobs.context import Context

__all__ = ["JobFields", "current_context", "line_fields", "log"]

log = logging.getLogger("taurine.jobs")

current_context: ContextVar[Context | None] = ContextVar("taurine_context", default=None)
"""The context of the attempt that runs here, if one does."""


def line_fields(context: Context) -> dict[str, Any]:
    """What every line about a job carries."""
    return {
        "job_id": context.job_id,
        "job_type": context.type,
        "queue": context.queue,
        "attempt": context.attempt,
        "tenant": context.tenant,
        "trace": context.trace,
    }


class JobFields(logging.Filter):
    """Adds the job's fields to each record that is written while a handler runs, whoever writes it. Lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = current_context.get()
        if context is not None and not hasattr(record, "job_id"):
            record.__dict__.update(line_fields(context))
        return True
