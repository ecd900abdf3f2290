"""A real Prometheus and its promtool, where the machine has them: on the path, or unpacked from Debian's package below
`.cache/prometheus`.

No package of Python's or Node's index has them, so `make` cannot bring them; `python tools/prometheus.py` unpacks
Debian's package on machines with apt.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

__all__ = ["binary"]

_UNPACKED = Path(__file__).parents[2] / ".cache" / "prometheus" / "usr" / "bin"


def binary(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test, with the reason, where there is none."""
    found = shutil.which(name) or shutil.which(name, path=str(_UNPACKED))
    if found is None:
        pytest.skip(
            f"{name} is not installed: it is in Debian's package prometheus, which `python tools/prometheus.py` unpacks"
        )
    return found
