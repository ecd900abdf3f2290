"""docs/pipelines.md: each section's code is run as it stands there, and prints what its comments say."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from docs.pages import blocks, printed_by, promised, sections
from embedded.processes import SOURCE
from taurine import StageEvent, StageObserver, Taurine

TEXT = (SOURCE.parent / "docs" / "pipelines.md").read_text("utf-8")
BEGINNING, SECTIONS = sections(TEXT)


def programs(section: str) -> list[str]:
    """The blocks that are whole programs."""
    return [block for block in blocks(section) if "__main__" in block]


@pytest.fixture
def environment(redis_socket_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings that the page's code finds."""
    monkeypatch.chdir(tmp_path)
    variables = {"TAURINE_REDIS_URL": redis_socket_url, "TAURINE_PREFIX": prefix, "TAURINE_HOME": str(tmp_path)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
async def test_a_section_runs_and_prints_what_it_says(section: str) -> None:
    code = "\n".join(block for block in blocks(section) if block not in programs(section))
    names: dict[str, Any] = {"__name__": "page"}
    try:
        printed = await printed_by("\n".join(blocks(BEGINNING)) + code, names)
    finally:
        application = names.get("app")
        if isinstance(application, Taurine):
            await application.close()
    assert printed == promised(code)


@pytest.mark.parametrize("program", [program for section in SECTIONS for program in programs(section)], ids=["process"])
def test_a_program_runs_and_prints_what_it_says(program: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "desk.py").write_text(program, "utf-8")
    run = subprocess.run(
        [sys.executable, "desk.py"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == promised(program)


def test_every_section_has_code_that_is_run() -> None:
    assert set(re.findall(r"^```(\w*)", TEXT, re.MULTILINE)) == {"python", ""}, "blocks begin with python and end"
    assert all(blocks(section) for section in SECTIONS)


@pytest.mark.parametrize("word", [field.name for field in fields(StageEvent)])
def test_every_member_of_an_event_is_named(word: str) -> None:
    assert f"`{word}`" in TEXT


@pytest.mark.parametrize("method", [name for name in vars(StageObserver) if name.startswith("stage_")])
def test_every_method_of_an_observer_is_named(method: str) -> None:
    assert f"| `{method}` |" in TEXT
