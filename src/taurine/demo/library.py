"""Which files are indexed: the Python sources of the standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

__all__ = ["library_root", "source_files"]


def library_root() -> Path:
    """The directory of this interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(root: Path, *, limit: int | None = None) -> list[str]:
    """The Python files below `root`, as sorted relative paths; installed packages are not among them.

    limit: at most this many, evenly spread over all. Default: all.
    """
    paths = (path.relative_to(root) for path in root.rglob("*.py") if path.is_file())
    files = sorted(path.as_posix() for path in paths if "site-packages" not in path.parts)
    if limit is None or limit >= len(files):
        return files
    return [files[at * len(files) // limit] for at in range(limit)]
