"""The text of the tickets: what people wrote about the parts of the standard library, from its sources.

Nothing of it is imported or run.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

__all__ = ["Text", "texts"]

_SHORTEST = 40
"""Characters below which a text says too little for a ticket."""

_OF_ONE_FILE = 20
"""Texts that one file gives before all others had their turn: so that a few tickets are of many subjects."""

_LEFT_OUT = frozenset({"site-packages", "test", "tests", "idlelib", "turtledemo"})


class Text(NamedTuple):
    """A subject and a body."""

    subject: str
    body: str


def texts(count: int) -> list[Text]:
    """So many texts, always the same on one machine, or all that there are; some 10,000. Takes a second for 2,000."""
    return list(islice(_all_texts(Path(sysconfig.get_path("stdlib"))), count))


def _all_texts(root: Path) -> Iterator[Text]:
    later: list[Text] = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _LEFT_OUT.isdisjoint(relative.parts):
            found = _texts_of(path, ".".join(relative.with_suffix("").parts))
            yield from found[:_OF_ONE_FILE]
            later += found[_OF_ONE_FILE:]
    yield from later


def _texts_of(path: Path, module: str) -> list[Text]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the sources say: they are data here
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    return [Text(f"{name}: {body.partition(chr(10))[0]}"[:120], body) for name, body in _documented(tree, module)]


def _documented(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """The names and documentation strings of a module, its classes and functions, in their order."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        body = ast.get_docstring(node)
        if body is not None and len(body) >= _SHORTEST:
            yield name, body
        for child in node.body:
            yield from _documented(child, f"{name}.{getattr(child, 'name', '')}")
