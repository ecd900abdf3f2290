"""Whole programs on pages of the documentation, and running them as a reader does, in a folder of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from docs.pages import blocks
from embedded.processes import SOURCE

__all__ = ["programs", "run_program"]


def programs(section: str) -> list[str]:
    """The blocks that are whole programs."""
    return [block for block in blocks(section) if "__main__" in block]


def run_program(
    *words: str, folder: Path, environment: Mapping[str, str] | None = None, path: str = str(SOURCE)
) -> subprocess.CompletedProcess[str]:
    """`python …` in a folder, which must end well.

    environment: beside where Taurine is. path: where it is, and what else is imported.
    """
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**(environment or {}), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended
