"""Which enqueues are the same job: once for each entity, once in a window of time, or every time anew.

| intent | `job_id=` | two enqueues of the same payload |
|---|---|---|
| once for each entity | `"invoice:{tenant_id}:{number}"` | one job, for as long as its record is kept |
| once in a window | `OncePer("digest:{user_id}", timedelta(hours=1))` | one job in each full hour |
| every time | left out, or `EVERY_TIME` | two jobs |

To run a job of a fixed id again on purpose, enqueue it with `on_duplicate="rerun"`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from taurine.errors import CatalogError
from taurine.ids import sortable_id
from taurine.jobs.templates import Template
from taurine.options import Seconds, to_milliseconds

__all__ = ["EVERY_TIME", "Identity", "JobId", "OncePer"]


@dataclass(frozen=True, slots=True)
class OncePer:
    """One job for each text of `template` in each window of `window` seconds, counted from the epoch."""

    template: str
    window: Seconds


class _EveryTime:
    """The intent that each enqueue is a job of its own."""

    def __repr__(self) -> str:
        return "EVERY_TIME"


EVERY_TIME: Final = _EveryTime()

JobId: TypeAlias = "str | OncePer | _EveryTime | None"


class Identity:
    """Makes the ids of one job type's jobs."""

    def __init__(self, intent: JobId, *, job_type: str, fields: Collection[str] | None) -> None:
        self._window_ms: int | None = None
        self._template: Template | None = None
        if isinstance(intent, OncePer):
            self._window_ms = to_milliseconds(intent.window, "OncePer.window", minimum=0.001)
            intent = intent.template
        if isinstance(intent, str):
            if "{" not in intent:
                raise CatalogError(
                    f"{job_type}: the job id {intent!r} names no field of the payload, so there would be one job for ever; "
                    "write f.e. 'invite:{user_id}', or leave job_id out for a job each time"
                )
            self._template = Template(intent, of=job_type, fields=fields)

    @property
    def is_fresh(self) -> bool:
        """True when every id is a new one."""
        return self._template is None

    def id_for(self, payload: Any, now: float) -> str:
        """The id of the job that `payload` asks for. now: wall seconds. Raises InvalidOption for an empty field."""
        if self._template is None:
            return sortable_id(now)
        text = self._template.render(payload)
        if self._window_ms is None:
            return text
        return f"{text}@{int(now * 1000) // self._window_ms * self._window_ms}"
