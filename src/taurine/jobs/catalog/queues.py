"""What an application declares of its queues: who else uses them, and what holds for all their jobs together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from taurine.errors import InvalidOption
from taurine.ids import check_queue_name
from taurine.options import RateLimit, require_count

__all__ = ["OnVanished", "QueueRules"]

OnVanished: TypeAlias = Literal["restore", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRules:
    """The rules of one queue; see `Taurine.queue`. Raises InvalidOption or InvalidName."""

    name: str
    shared: bool = False
    """True where others, such as BullMQ on Node, add jobs too, or work on them."""
    on_vanished: OnVanished = "restore"
    """What becomes of an open job that the queue no longer has, and that nobody is known to have removed."""
    rate_limit: RateLimit | None = None
    """Job starts per window, over all workers."""
    concurrency: int | None = None
    """Most jobs that run at once, over all workers."""
    dead_letter_queue: bool | str = False
    """The BullMQ queue that gets copies of open dead letters; True for `<name>-dlq`, False for none."""

    def __post_init__(self) -> None:
        check_queue_name(self.name)
        if self.mirror is not None:
            check_queue_name(self.mirror)
        if self.on_vanished not in ("restore", "cancel"):
            raise InvalidOption(f"expected on_vanished to be 'restore' or 'cancel', got {self.on_vanished!r:.40}")
        if self.concurrency is not None:
            require_count(self.concurrency, "concurrency", minimum=1)
        if self.rate_limit is not None and not isinstance(self.rate_limit, RateLimit):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected rate_limit to be a RateLimit, got {type(self.rate_limit).__name__}")

    @property
    def mirror(self) -> str | None:
        """The name of the queue for copies of dead letters; None for none."""
        if isinstance(self.dead_letter_queue, bool):
            return f"{self.name}-dlq" if self.dead_letter_queue else None
        return self.dead_letter_queue
