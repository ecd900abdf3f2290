"""What the handlers of the support desk work with; they find it as `ctx.deps`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from taurine.demo.mailing import Mailer
from taurine.demo.places import Places
from taurine.demo.tickets import Tickets

__all__ = ["Office"]


class Office:
    """The business database and the way to the mail server, each opened when it is first used."""

    def __init__(self, home: Path) -> None:
        self.places = Places(home)

    @cached_property
    def tickets(self) -> Tickets:
        return Tickets(self.places.tickets)

    @cached_property
    def mailer(self) -> Mailer:
        return Mailer(self.places)

    def close(self) -> None:
        for part in ("tickets", "mailer"):
            if part in self.__dict__:
                self.__dict__[part].close()
