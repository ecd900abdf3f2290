"""Doing the same to several jobs: those that go well are told on stdout, the others on stderr, and the worst makes the
exit code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from taurine.cli.failures import DONE, exit_code_of, hint_of
from taurine.cli.forms import record_json
from taurine.errors import RecordError, StoreUnavailable

if TYPE_CHECKING:
    from taurine.cli.output import Output
    from taurine.ledger.records import JobRecord

__all__ = ["each"]


async def each(
    output: Output,
    ids: Sequence[str],
    change: Callable[[str], Awaitable[JobRecord]],
    told: Callable[[JobRecord], str],
) -> int:
    """Change jobs one by one; returns the exit code: the highest of all. As JSON: {"jobs": […], "refused": […]}."""
    code, jobs, refused = DONE, list[dict[str, Any]](), list[dict[str, Any]]()
    for job_id in dict.fromkeys(ids):
        try:
            record = await change(job_id)
        except (RecordError, StoreUnavailable) as error:
            code = max(code, exit_code_of(error))
            refused.append({"id": job_id, "error": type(error).__name__, "message": output.redact.text(str(error))})
            output.error(output.redact.text(str(error)), hint=hint_of(error))
            continue
        jobs.append(record_json(record, output.redact))
        if not output.as_json:
            output.line(told(record))
    if output.as_json:
        output.json({"jobs": jobs, "refused": refused})
    return code
