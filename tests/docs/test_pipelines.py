"""docs/pipelines.md: each section's code is run as it stands there, and prints what its comments say."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from docs.pages import blocks, printed_by_application, promised, sections
from docs.programs import programs, run_program
from embedded.processes import SOURCE
from taurine import StageEvent, StageObserver

TEXT = (SOURCE.parent / "docs" / "pipelines.md").read_text("utf-8")
BEGINNING, SECTIONS = sections(TEXT)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
async def test_a_section_runs_and_prints_what_it_says(section: str) -> None:
    code = "\n".join(block for block in blocks(section) if block not in programs(section))

    printed = await printed_by_application("\n".join(blocks(BEGINNING)) + code)

    assert printed == promised(code)


@pytest.mark.parametrize("program", [program for section in SECTIONS for program in programs(section)], ids=["process"])
def test_a_program_runs_and_prints_what_it_says(program: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "desk.py").write_text(program, "utf-8")

    ended = run_program("desk.py", folder=tmp_path, environment=environment)

    assert ended.stdout.splitlines() == promised(program)


def test_every_section_has_code_that_is_run() -> None:
    assert set(re.findall(r"^```(\w*)", TEXT, re.MULTILINE)) == {"python", ""}, "blocks begin with python and end"
    assert all(blocks(section) for section in SECTIONS)


@pytest.mark.parametrize("word", [field.name for field in fields(StageEvent)])
def test_every_member_of_an_event_is_named(word: str) -> None:
    assert f"`{word}`" in TEXT


@pytest.mark.parametrize("method", [name for name in vars(StageObserver) if name.startswith("stage_")])
def test_every_method_of_an_observer_is_named(method: str) -> None:
    assert f"| `{method}` |" in TEXT
