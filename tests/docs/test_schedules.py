"""docs/schedules.md: each section's code is run as it stands there, and prints what its comments say."""

from __future__ import annotations

import re

import pytest

from docs.pages import blocks, printed_by_application, promised, sections
from embedded.processes import SOURCE
from taurine.jobs.catalog.declaring import JobTypeOptions, RecurringOptions

TEXT = (SOURCE.parent / "docs" / "schedules.md").read_text("utf-8")
BEGINNING, SECTIONS = sections(TEXT)
WITH_CODE = [section for section in SECTIONS if blocks(section)]


def title_of(section: str) -> str:
    return section.partition("\n")[0]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("section", WITH_CODE, ids=title_of)
async def test_a_section_runs_and_prints_what_it_says(section: str) -> None:
    code = "\n".join(blocks(section))

    printed = await printed_by_application("\n".join(blocks(BEGINNING)) + code)

    assert printed == promised(code)


def test_only_what_is_not_there_has_no_code() -> None:
    assert [title_of(section) for section in SECTIONS if section not in WITH_CODE] == ["What is not there yet"]


@pytest.mark.parametrize(
    "option", sorted(RecurringOptions.__annotations__.keys() - JobTypeOptions.__annotations__.keys())
)
def test_every_option_of_a_schedule_is_shown(option: str) -> None:
    assert re.search(rf"\b{option}=", TEXT)
