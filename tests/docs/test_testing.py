"""docs/testing.md: each section's code is run as it stands there, and prints what its comments say; its test module is
run by pytest.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import taurine.testing
from docs.pages import blocks, printed_by, promised, sections
from docs.programs import run_program
from embedded.processes import SOURCE
from taurine import Taurine
from taurine.testing import RunOptions

TEXT = (SOURCE.parent / "docs" / "testing.md").read_text("utf-8")
BEGINNING, SECTIONS = sections(TEXT)
SHOP = "\n".join(blocks(BEGINNING))


CONFIGURATION = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"


def title_of(section: str) -> str:
    return section.partition("\n")[0]


def code_of(section: str) -> str:
    return "\n".join(block for block in blocks(section) if "def test_" not in block)


@pytest.mark.parametrize("section", [one for one in SECTIONS if code_of(one)], ids=title_of)
async def test_a_section_runs_and_prints_what_it_says(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    printed = await printed_by(f"{SHOP}\n{code_of(section)}", names)

    assert printed == promised(code_of(section))
    application = names["app"]
    assert isinstance(application, Taurine)
    assert not application.loops, "only servers of the section's own were used"
    assert not (tmp_path / ".taurine").exists()


@pytest.mark.parametrize("module", [block for block in blocks(TEXT) if "def test_" in block])
def test_a_test_module_passes(module: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    (tmp_path / "test_shop.py").write_text(module, "utf-8")
    (tmp_path / "pytest.ini").write_text(CONFIGURATION, "utf-8")
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", "test_shop.py")

    ended = run_program(*words, folder=tmp_path, environment={"PATH": "/usr/bin:/bin"})

    assert "1 passed" in ended.stdout


def test_every_section_has_code_that_is_run() -> None:
    assert set(re.findall(r"^```(\w*)", TEXT, re.MULTILINE)) == {"python", ""}, "blocks begin with python and end"
    assert all(blocks(section) for section in SECTIONS)


TYPES = {
    *("AppFactory", "AttemptStatus", "Drained", "Failpoint", "JobAttempt", "MemoryEffects", "RecordedJob", "Rerun"),
    *("RerunReport", "Reset", "RunOptions", "Snapshot", "Until"),
}


@pytest.mark.parametrize("name", sorted(set(taurine.testing.__all__) - TYPES))
def test_every_public_function_is_named(name: str) -> None:
    assert re.search(rf"\b{name}\b", TEXT)


@pytest.mark.parametrize("option", sorted(RunOptions.__annotations__))
def test_every_option_of_a_run_is_named(option: str) -> None:
    assert re.search(rf"`{option}`", TEXT)


# From its text: pytest wants to be the first who imports a plugin.
FIXTURES = re.findall(
    r"^def (taurine_\w+)", (SOURCE / "taurine" / "testing" / "fixtures.py").read_text("utf-8"), re.MULTILINE
)


@pytest.mark.parametrize("name", FIXTURES)
def test_every_fixture_is_in_the_table(name: str) -> None:
    assert f"| `{name}` |" in TEXT
