"""A part of a job, such as a stage of a pipeline: what its code tells of its progress moves the job's within a stretch
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Part"]


@dataclass(slots=True, eq=False, kw_only=True)
class Part:
    """name: what lines that its code writes carry as `stage`. start, end: its stretch of the progress, as shares of 1;
    within another part, of that one's.

    shown: members that the job's progress has beside its own. Replace it as a whole: what was told keeps the old one.
    told: called with the part's own share and message at each progress, in whatever thread tells it. Default: nobody.
    """

    name: str
    start: float = 0.0
    end: float = 1.0
    shown: Mapping[str, Any] = field(default_factory=dict[str, Any])
    told: Callable[[float, str | None], None] | None = None
    above: Part | None = None
    """The part that this one is a part of; set by the context."""

    def at(self, share: float) -> float:
        """Where a share of the part is in what it is a part of. Never past its end, as rounding alone would have it."""
        return min(self.end, self.start + (self.end - self.start) * share)

    def tell(self, share: float, message: str | None) -> float:
        """Tell the part, and those that it is in, of its share; returns what that is of the whole job."""
        if self.told is not None:
            self.told(share, message)
        within = self.at(share)
        return within if self.above is None else self.above.tell(within, message)
