"""What may be told of alerts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from taurine.errors import InvalidOption
from taurine.jobs.reporting.alerts import Alert

__all__ = ["Sink", "checked_sinks"]


_OURS = ("log", "on_alert")


class Sink(Protocol):
    """Something that is told. It may be called on several event loops, and for several alerts at once."""

    @property
    def name(self) -> str:
        """Under which it is kept whom an alert has reached: the same in all processes, of no other sink, and without
        secrets, as it is in the log.
        """
        ...

    async def tell(self, alert: Alert) -> None:
        """Tell of an alert.

        What it raises is logged, and it is called again later: with pauses from 15 s to 15 minutes, ten times in all.
        It has 15 seconds.
        """
        ...


def checked_sinks(sinks: Iterable[Sink]) -> tuple[Sink, ...]:
    """The sinks, each of a name of its own. Raises InvalidOption."""
    checked = tuple(sinks)
    names = [*_OURS, *(sink.name for sink in checked)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidOption(f"expected sinks of different names, got two of {twice!r:.120}")
    return checked
