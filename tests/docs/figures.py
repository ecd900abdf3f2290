"""The figures of docs/guarantees.md: which tests belong to which promise, and the table that is made of what they
printed.

`make test ARGS="tests/faults tests/jobs" | python tests/docs/figures.py` writes the table anew from the section
"figures" at the end of that output. A test that printed nothing there loses its line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["PAGE", "linked_tests", "rows_of"]

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
_BEGIN, _END = "<!-- figures -->", "<!-- /figures -->"
_HEAD = "| promise | test | printed |\n|---|---|---|"
_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def linked_tests(text: str) -> dict[str, set[str]]:
    """The names of the tests that the page links for each promise; a link without a test's name stands for all of its
    file or folder.
    """
    rows = re.findall(r"^\| \*\*(P\d) .*\|([^|]+)\|$", text, re.MULTILINE)
    return {promise: set(_linked(cell)) for promise, cell in rows}


def _linked(cell: str) -> Iterable[str]:
    for path, name in re.findall(r"\]\(([^)#]+)#?([^)]*)\)", cell):
        target = PAGE.parent / path
        files = target.rglob("test_*.py") if target.is_dir() else [target]
        yield from [name] if name else [test for file in files for test in _TEST.findall(file.read_text("utf-8"))]


def rows_of(output: str, tests: dict[str, set[str]]) -> list[str]:
    """A row for each line that a linked test printed, in the order of the promises."""
    printed = re.findall(r"^(test_\w+)(\[[^\]]*\])?: (.+)$", output, re.MULTILINE)
    return [
        f"| {promise} | `{test}{case}` | {line.replace('|', '/')} |"
        for promise, names in tests.items()
        for test, case, line in printed
        if test in names
    ]


def main() -> None:
    """Replace the table of the page."""
    text = PAGE.read_text("utf-8")
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    table = "\n".join([_HEAD, *rows_of(sys.stdin.read(), linked_tests(text))])
    PAGE.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{after}", "utf-8")


if __name__ == "__main__":
    main()
