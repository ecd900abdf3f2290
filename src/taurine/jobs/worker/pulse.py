"""The event loop's own turn: nothing but that it turns."""

from __future__ import annotations

from random import Random

from taurine.clock import Clock
from taurine.service import Service

__all__ = ["Pulse"]


class Pulse(Service[None]):
    """The service.

    A handler that blocks the event loop keeps it from its next pass, and so it is told from outside that the loop is
    stuck.
    """

    def __init__(self, *, clock: Clock, random: Random) -> None:
        super().__init__(name="event loop", interval=1.0, clock=clock, random=random)

    async def run_once(self) -> None:
        return None
