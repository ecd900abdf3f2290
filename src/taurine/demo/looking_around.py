"""Where to look next: commands that show what the demo has left in its home."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["commands"]


def commands(home: Path, *, poison_id: str) -> list[str]:
    """Commands for a shell in any directory, to be given one after the other."""
    taurine = _taurine()
    return [
        f"export TAURINE_HOME={shlex.quote(str(home.absolute()))} TAURINE_APP=taurine.demo.app:app",
        f"{taurine} jobs --status cancelled",
        f"{taurine} job {poison_id}",
        f"{taurine} job {poison_id} --why",
        f"{taurine} job export:all-tickets",
        f"{taurine} queues",
        f"{taurine} schedules",
        f"{taurine} verify",
    ]


def _taurine() -> str:
    """The program of this interpreter: by its name if that finds it, else by its path."""
    beside = Path(sys.executable).with_name("taurine")
    found = shutil.which("taurine")
    if found is not None and Path(found).resolve() == beside.resolve():
        return "taurine"
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m taurine"
