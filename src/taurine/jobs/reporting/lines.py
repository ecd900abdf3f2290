"""Log lines about jobs: one for each step of a job's life, each with the same fields.

They go through the standard `logging` module, to `taurine.jobs`, so that an application's own set-up decides where they
end. The text says what happened;
`job_id`, `job_type`, `queue`, `attempt`, `tenant` and `trace`, the id of the trace, are attributes of the record, for
formatters that know them. Lines that a handler writes through any logger get the same with `JobFields`, a filter for
log handlers.

What comes from users (ids, errors, messages) is redacted, and has its control characters escaped, so that it can
neither begin a line of its own nor steer a terminal.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from taurine.jobs.reporting.redaction import Redact
from taurine.telemetry import trace_id_in

if TYPE_CHECKING:
    from taurine.jobs.handler.context import Context

__all__ = ["JobFields", "current_context", "line_fields", "log", "one_line", "several_lines", "unrun_fields"]

log = logging.getLogger("taurine.jobs")

current_context: ContextVar[Context | None] = ContextVar("taurine_context", default=None)
"""The context of the attempt that runs here, if one does."""


def line_fields(context: Context) -> dict[str, Any]:
    """What every line about a job carries; while a stage of a pipeline runs, that too."""
    stage = {} if context.part is None else {"stage": context.part.name}
    return {
        **stage,
        "job_id": context.shown_id,
        "job_type": context.type,
        "queue": context.queue,
        "attempt": context.attempt,
        "tenant": context.tenant,
        "trace": trace_id_in(context.trace),
    }


def unrun_fields(job_id: str, *, job_type: str, queue: str, tenant: str | None = None) -> dict[str, Any]:
    """The same for a job that has no attempt: one that is refused, or ends unrun. job_id: as it may be shown."""
    return {"job_id": job_id, "job_type": job_type, "queue": queue, "tenant": tenant}


# C0 and C1 controls, and what turns the direction of text or ends a line in Unicode.
_STEERING = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_in_one_line = re.compile(f"[{_STEERING}\n]")
_in_several = re.compile(f"[{_STEERING}]")


def one_line(text: str) -> str:
    """`text` with line breaks and all characters that steer a terminal escaped."""
    return text if text.isalnum() else _in_one_line.sub(_escaped, text)


def several_lines(text: str) -> str:
    """The same, with its line breaks left: for text that stands by itself."""
    return _in_several.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


class JobFields(logging.Filter):
    """Adds the job's fields to each record that is written while a handler runs, whoever writes it.

    Lets every record pass.

    redact: rules that are applied to the text of every record as well, for loggers of other libraries. Default: their
    text stays as it is.
    """

    def __init__(self, *, redact: Redact | None = None) -> None:
        super().__init__()
        self._redact = redact

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by `logging`: changes the record in place, and returns True."""
        context = current_context.get()
        if context is not None and not hasattr(record, "job_id"):
            record.__dict__.update(line_fields(context))
        if self._redact is not None:
            record.msg, record.args = self._redact.text(record.getMessage()), None
        return True
