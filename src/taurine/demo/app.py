"""The support desk of the home that TAURINE_HOME names, for the command line: `taurine --app taurine.demo.app:app
jobs`.
"""

from __future__ import annotations

from taurine.demo.desk import Desk
from taurine.settings import Settings

__all__ = ["app"]

app = Desk(Settings.read(redis_url="embedded", database_url="sqlite").home).app
