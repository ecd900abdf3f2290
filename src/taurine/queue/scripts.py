"""Lua scripts: loading them from the package, and running them.

A script is one file in `lua/`; `--@include name …` lines pull in fragments from `lua/include/`; one inside a function
defines its fragments only when that function is called. A script runs by its digest; a server that does not know it (a
restart, SCRIPT FLUSH, a new node) is sent the text once, here and nowhere else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeAlias

__all__ = ["Argument", "Script", "load"]

Argument: TypeAlias = str | bytes | int | float

_INCLUDE = re.compile(r"^--@include +(.+)$", re.MULTILINE)
_HEADER = re.compile(r"^--\[\[.*?\]\]\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text with its fragments, and the digest by which the server knows it."""

    name: str
    text: str
    digest: str


@cache
def load(name: str) -> Script:
    """The script in `lua/<name>.lua`. Read once a process, at its first use."""
    folder = files("taurine.queue") / "lua"

    def fragment(names: re.Match[str]) -> str:
        return "\n".join((folder / "include" / f"{part}.lua").read_text("utf-8") for part in names[1].split())

    text = _INCLUDE.sub(fragment, _HEADER.sub("", (folder / f"{name}.lua").read_text("utf-8"), count=1))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
