"""Which enqueues are the same job: once for each entity, once in a window of time, or every time anew.

| intent | `job_id=` | two enqueues of the same payload |
|---|---|---|
| once for each entity | `"invoice:{tenant_id}:{number}"` | one job, for as long as its record is kept |
| once in a window | `OncePer("digest:{user_id}", timedelta(hours=1))` | one job in each full hour |
| every time | left out, or `EVERY_TIME`, or `EveryTime("resend:{user_id}")` | two jobs |

To run a job of a fixed id again on purpose, enqueue it with `on_duplicate="rerun"`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from taurine.errors import CatalogError
from taurine.ids import sortable_id, wire_id
from taurine.jobs.catalog.templates import Template
from taurine.options import Seconds, to_milliseconds

__all__ = ["EVERY_TIME", "EveryTime", "Identity", "JobId", "OncePer"]


@dataclass(frozen=True, slots=True)
class OncePer:
    """One job for each text of `template` in each window of `window` seconds, counted from the epoch."""

    template: str
    window: Seconds


@dataclass(frozen=True, slots=True)
class EveryTime:
    """Each enqueue is a job of its own, whose id begins with the text of `template`, so that those of one entity are
    found together. Default: no text.
    """

    template: str | None = None


EVERY_TIME: Final = EveryTime()
"""Each enqueue is a job of its own."""

JobId: TypeAlias = str | OncePer | EveryTime | None


class Identity:
    """Makes the ids of one job type's jobs. Raises CatalogError for a template that does not fit the payload."""

    def __init__(self, intent: JobId, *, job_type: str, fields: Collection[str] | None) -> None:
        text = intent.template if isinstance(intent, OncePer | EveryTime) else intent
        self._template = None if text is None else Template(text, of=job_type, fields=fields)
        self._window_ms = (
            to_milliseconds(intent.window, "OncePer.window", minimum=0.001) if isinstance(intent, OncePer) else None
        )
        self.is_fresh = intent is None or isinstance(intent, EveryTime)
        """True when every id is a new one."""
        if isinstance(intent, str) and self._template is not None and not self._template.names_fields:
            raise CatalogError(
                f"{job_type}: the job id {intent!r} names no field of the payload, so there would be one job for ever; "
                "write f.e. 'invite:{user_id}', or leave job_id out for a job each time"
            )

    def id_for(self, payload: object, now: float) -> str:
        """The id of the job that `payload` asks for. now: wall seconds.

        Raises InvalidOption for an empty field, and InvalidName for an id that no job can have: unprintable, over-long,
        or reserved.
        """
        if self._template is None:
            return sortable_id(now)
        job_id = self._from_template(self._template.render(payload), now)
        # Here: the queue would refuse it when the job is accepted already, or would take it for a schedule's tick.
        wire_id(job_id)
        return job_id

    def _from_template(self, text: str, now: float) -> str:
        if self.is_fresh:
            return f"{text}:{sortable_id(now)}"
        if self._window_ms is None:
            return text
        return f"{text}@{round(now * 1000) // self._window_ms * self._window_ms}"
