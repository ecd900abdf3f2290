"""Where the parts of the demo find each other: the files of its home beside those of Taurine itself."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Places"]


class Places:
    """The files of one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.tickets = home / "desk.db"
        """The business database."""
        self.mailbox = home / "mailbox.db"
        """What the mail server has taken."""
        self.exports = home / "exports"
        self.report_times = home / "report.cron"
        """The cron pattern of the report."""
        self.mail_goes_on = home / "mail-goes-on"
        """Once it is there, the mail server answers at once."""
        self._smtp_port = home / "smtp.port"

    def announce_smtp_port(self, port: int) -> None:
        """Say where the mail server listens; readers see all of it or nothing."""
        unfinished = self._smtp_port.with_suffix(".new")
        unfinished.write_text(str(port), "ascii")
        os.replace(unfinished, self._smtp_port)  # noqa: PTH105 - as one step

    def smtp_port(self) -> int | None:
        """Where the mail server listens; None before it does."""
        try:
            return int(self._smtp_port.read_text("ascii"))
        except FileNotFoundError:
            return None
