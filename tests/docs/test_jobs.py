"""docs/jobs.md: each section's code is run as it stands there, and prints what its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.pages import blocks, printed_by_application, promised, sections
from docs.programs import programs, run_program
from embedded.processes import SOURCE
from taurine.jobs.catalog.declaring import JobTypeOptions
from taurine.jobs.catalog.requests import EnqueueOptions
from taurine.jobs.worker.options import WorkerOptions
from taurine.settings import Settings

TEXT = (SOURCE.parent / "docs" / "jobs.md").read_text("utf-8")
BEGINNING, SECTIONS = sections(TEXT)
POSTGRES_URL = "postgresql://localhost/shop"
"""Where the page's PostgreSQL is; a test's own takes its place."""


def title_of(section: str) -> str:
    return section.partition("\n")[0]


@pytest.fixture
def own_code(section: str, request: pytest.FixtureRequest) -> str:
    """The section's code without its programs; with the URL of a real PostgreSQL, if it needs one."""
    code = "\n".join(block for block in blocks(section) if block not in programs(section))
    # Asked for by name, so that the other sections start no server.
    return code.replace(POSTGRES_URL, request.getfixturevalue("postgres_url")) if POSTGRES_URL in code else code


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("section", SECTIONS, ids=title_of)
async def test_a_section_runs_and_prints_what_it_says(section: str, own_code: str) -> None:
    printed = await printed_by_application("\n".join(blocks(BEGINNING)) + own_code)

    assert [without_ids(line) for line in printed] == promised(own_code)


def without_ids(line: str) -> str:
    """Ids that are made anew each time stand as … on the page."""
    return re.sub(r"'[0-9a-f]{32}'", "'…'", line)


@pytest.mark.parametrize(
    "program",
    [pytest.param(program, id=title_of(section)) for section in SECTIONS for program in programs(section)],
)
def test_a_program_runs_and_prints_what_it_says(program: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(program, "utf-8")

    ended = run_program("shop.py", folder=tmp_path, environment=environment)

    assert ended.stdout.splitlines() == promised(program)


def test_every_section_has_code_that_is_run() -> None:
    assert set(re.findall(r"^```(\w*)", TEXT, re.MULTILINE)) == {"python", ""}, "blocks begin with python and end"
    assert all(blocks(section) for section in SECTIONS)


@pytest.mark.parametrize("option", sorted(JobTypeOptions.__annotations__))
def test_every_option_of_a_job_type_is_named(option: str) -> None:
    assert re.search(rf"\b{option}\b", TEXT)


@pytest.mark.parametrize("option", sorted(EnqueueOptions.__annotations__))
def test_every_option_of_an_enqueue_is_shown(option: str) -> None:
    assert re.search(rf"\b{option}=", TEXT)


@pytest.mark.parametrize("option", sorted(WorkerOptions.__annotations__))
def test_every_option_of_a_worker_is_named(option: str) -> None:
    assert re.search(rf"`{option}`", TEXT)


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_every_setting_is_named(setting: str) -> None:
    assert f"| `{setting}` |" in TEXT
