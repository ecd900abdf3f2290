"""docs/schedules.md: each section's code is run as it stands there, and prints what its comments say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from docs.pages import blocks, printed_by, promised, sections
from embedded.processes import SOURCE
from taurine import Taurine
from taurine.jobs.catalog.declaring import JobTypeOptions, RecurringOptions

TEXT = (SOURCE.parent / "docs" / "schedules.md").read_text("utf-8")
BEGINNING, SECTIONS = sections(TEXT)
WITH_CODE = [section for section in SECTIONS if blocks(section)]


def title_of(section: str) -> str:
    return section.partition("\n")[0]


@pytest.mark.parametrize("section", WITH_CODE, ids=title_of)
async def test_a_section_runs_and_prints_what_it_says(
    section: str, redis_socket_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAURINE_REDIS_URL", redis_socket_url)
    monkeypatch.setenv("TAURINE_PREFIX", prefix)
    monkeypatch.setenv("TAURINE_HOME", str(tmp_path))
    names: dict[str, Any] = {"__name__": "page"}
    code = "\n".join(blocks(section))
    try:
        printed = await printed_by("\n".join(blocks(BEGINNING)) + code, names)
    finally:
        application = names.get("app")
        if isinstance(application, Taurine):
            await application.close()

    assert printed == promised(code)


def test_only_what_is_not_there_has_no_code() -> None:
    assert [title_of(section) for section in SECTIONS if section not in WITH_CODE] == ["What is not there yet"]


@pytest.mark.parametrize(
    "option", sorted(RecurringOptions.__annotations__.keys() - JobTypeOptions.__annotations__.keys())
)
def test_every_option_of_a_schedule_is_shown(option: str) -> None:
    assert re.search(rf"\b{option}=", TEXT)
