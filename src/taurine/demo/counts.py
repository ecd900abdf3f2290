"""What is counted in a Python file. The workers and the plain loop call the same function."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

__all__ = ["Counts", "count_file"]


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of one file, or of many together."""

    files: int = 0
    lines: int = 0
    functions: int = 0
    """Asynchronous ones and methods included."""
    classes: int = 0
    imports: int = 0
    """Statements, not names."""
    not_parsed: int = 0
    """Files that this Python does not take as a program, such as the library's own samples of broken ones: their lines count."""

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        columns = zip(*([getattr(part, field.name) for field in fields(cls)] for part in parts), strict=True)
        return cls(*map(sum, columns))


def count_file(path: Path) -> Counts:
    """Read one file and count. Raises OSError for one that cannot be read."""
    source = path.read_bytes()
    lines = len(source.splitlines())
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return Counts(files=1, lines=lines, not_parsed=1)
    kinds = Counter(map(type, ast.walk(tree)))
    return Counts(
        files=1,
        lines=lines,
        functions=kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef],
        classes=kinds[ast.ClassDef],
        imports=kinds[ast.Import] + kinds[ast.ImportFrom],
    )
