"""docs/guide.md: each section's code is run as it stands there, and prints what its comments say."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from docs.pages import blocks, printed_by, promised, sections
from embedded.processes import SOURCE
from support.server import ValkeyServer
from taurine.options import AddOptions

TEXT = (SOURCE.parent / "docs" / "guide.md").read_text("utf-8")
BEGINNING, SECTIONS = sections(TEXT)


def code(text: str) -> str:
    return "\n".join(blocks(text))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
async def test_a_section_runs_and_prints_what_it_says(
    section: str,
    server_factory: Callable[[], ValkeyServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    address = urlsplit(server_factory().url).netloc
    program = code(BEGINNING + section).replace("localhost:6379", address)
    names: dict[str, Any] = {}
    try:
        printed = await printed_by(program, names)
    finally:
        await names["queue"].close()

    assert printed == promised(code(section))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_every_block_of_code_is_run() -> None:
    assert set(re.findall(r"^```(\w*)", TEXT, re.MULTILINE)) == {"python", ""}, "blocks begin with python and end"
    assert all(code(section) for section in SECTIONS)


@pytest.mark.parametrize("option", sorted(AddOptions.__annotations__.keys() - {"application"}))  # for the layer above
def test_every_option_of_a_job_is_shown(option: str) -> None:
    assert re.search(rf"\b{option}=", code(TEXT))
