"""Pages of the documentation whose code is run: what is in them, and running a section as the prompt of `python -m
asyncio` would.
"""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

from taurine import Taurine

__all__ = ["blocks", "printed_by", "printed_by_application", "promised", "sections"]


def sections(text: str) -> tuple[str, list[str]]:
    """What stands before the first heading of second rank, and the sections from there on."""
    beginning, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    return beginning, rest


def blocks(text: str) -> list[str]:
    """Its blocks of Python."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def promised(code: str) -> list[str]:
    """The comments behind `print`, in the order of the page."""
    return re.findall(r"^.*\bprint\(.*\)  # (.+)$", code, re.MULTILINE)


async def printed_by(code: str, names: dict[str, Any]) -> list[str]:
    """Run code that may have `await` at its top level, in the namespace `names`; returns what it prints."""
    printed: list[str] = []
    names["print"] = lambda *values: printed.append(" ".join(map(str, values)))
    compiled = compile(code, "page.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(compiled, names)  # noqa: S307 - the code is ours, and this is how the prompt of asyncio runs it
    if inspect.isawaitable(running):
        await running
    return printed


async def printed_by_application(code: str) -> list[str]:
    """As `printed_by`, of code that makes an application `app`, which is closed."""
    names: dict[str, Any] = {"__name__": "page"}
    try:
        return await printed_by(code, names)
    finally:
        application = names.get("app")
        if isinstance(application, Taurine):
            await application.close()
