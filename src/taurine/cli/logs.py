"""Log lines of commands that run jobs: on stderr, in the form that the settings say, unless the application has set up
logging itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from taurine.errors import InvalidOption, did_you_mean
from taurine.jobs.reporting.line_format import log_handler

if TYPE_CHECKING:
    from taurine.jobs.reporting.redaction import Redact
    from taurine.settings import LogFormat

__all__ = ["set_up_logs"]

_LEVELS = ("debug", "info", "warning", "error")


def set_up_logs(log_format: LogFormat, level: str, redact: Redact) -> None:
    """Show log lines from this level on, without what `redact` hides.

    An application that has a handler of its own keeps that, with its own level. Raises InvalidOption.
    """
    if level.lower() not in _LEVELS:
        raise InvalidOption(
            f"expected --log-level to be {', '.join(_LEVELS)}, got {level!r:.40}{did_you_mean(level, _LEVELS)}"
        )
    root = logging.getLogger()
    if root.handlers:
        return
    root.addHandler(log_handler(log_format, redact=redact))
    root.setLevel(level.upper())
    if level.lower() == "info":
        logging.getLogger("alembic").setLevel("WARNING")  # it tells of each plug-in
