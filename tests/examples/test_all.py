"""What holds for every example."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from embedded.processes import SOURCE

EXAMPLES = SOURCE.parent / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_it_says_how_to_start_it_and_has_a_test(program: Path) -> None:
    command = f"python examples/{program.name}"

    assert f"\n    {command}\n" in (ast.get_docstring(ast.parse(program.read_text("utf-8")), clean=False) or "")
    assert f"`{command}`" in (EXAMPLES / "README.md").read_text("utf-8")
    assert Path(__file__).with_name(f"test_{program.name}").exists()
