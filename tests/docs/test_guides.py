"""The guides, docs/how-it-works.md and docs/upgrading.md: their code is run as it stands there, and prints what its
comments say.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from httpx2 import ASGITransport, AsyncClient

from docs.consoles import differences, environment_in, run, steps
from docs.pages import blocks, printed_by_application, promised, sections
from embedded.processes import SOURCE
from taurine.http import create_app
from taurine.jobs.operations.reasons import WhyCode

DOCS = SOURCE.parent / "docs"
BY_SECTION = ("guides/web.md", "guides/node.md", "guides/access.md", "guides/api.md", "guides/live.md")
"""Each section of these stands on the beginning of its page alone."""
AS_A_WHOLE = ("guides/alerts.md", "guides/metrics-and-health.md", "guides/traces.md", "how-it-works.md", "upgrading.md")


def text_of(page: str) -> str:
    return (DOCS / page).read_text("utf-8")


def pieces() -> list[Any]:
    """What is run at once, and what it stands on."""
    found: list[Any] = []
    for page in BY_SECTION:
        beginning, rest = sections(text_of(page))
        found += [
            pytest.param("\n".join(blocks(beginning)), "\n".join(blocks(section)), id=f"{page}: {title_of(section)}")
            for section in rest
            if blocks(section)
        ]
    return found + [pytest.param("", "\n".join(blocks(text_of(page))), id=page) for page in AS_A_WHOLE]


def title_of(section: str) -> str:
    return section.partition("\n")[0]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("beginning", "code"), pieces())
async def test_code_runs_and_prints_what_it_says(beginning: str, code: str) -> None:
    assert await printed_by_application(f"{beginning}\n{code}") == promised(code)


@pytest.mark.parametrize("page", [*BY_SECTION, *AS_A_WHOLE])
def test_every_block_is_run(page: str) -> None:
    assert set(re.findall(r"^```(\w*)", text_of(page), re.MULTILINE)) <= {"python", "text", "console", ""}
    assert promised("\n".join(blocks(text_of(page)))), "nothing would be noticed"


@pytest.mark.timeout(300)  # a dozen commands, one after the other
def test_what_an_operator_types_shows_what_the_page_says(settings: dict[str, str], tmp_path: Path) -> None:
    text = text_of("guides/operating.md")
    (program,) = blocks(text)
    (tmp_path / "shop.py").write_text(program, "utf-8")
    terminal = environment_in(tmp_path) | settings | {"TAURINE_APP": "shop:app"}

    for step in steps(text):
        assert not (difference := differences(step, run(step, tmp_path, terminal))), difference


def test_every_reason_is_in_the_operators_table() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", text_of("guides/operating.md"), re.MULTILINE)

    assert sorted(listed) == sorted(get_args(WhyCode))


@pytest.mark.usefixtures("environment")
async def test_each_body_of_the_operators_table_is_taken() -> None:
    text = text_of("guides/operating.md")
    names: dict[str, Any] = {"__name__": "page"}
    exec(blocks(text)[0], names)  # noqa: S102 - the code is ours
    app = names["app"]
    calls = re.findall(r"^\| `(GET|POST|PUT) (/v1/[^`{]+)` \| (?:`(.+?)`)? ?\|", text, re.MULTILINE)
    calls = [call for call in calls if call[2] or "?" in call[1]]
    async with app, AsyncClient(transport=ASGITransport(create_app(app)), base_url="http://localhost") as api:
        await app.enqueue("invite.send", {"user": "bob"})
        async with app.worker():
            await app.wait("invite:bob", 20)
        await app.enqueue("invite.send", {"user": "eve"})
        answers = {
            f"{method} {path} {body}": await api.request(method, path, json=json.loads(body) if body else None)
            for method, path, body in calls
        }

    assert len(answers) == 9
    assert {call: answer.text for call, answer in answers.items() if answer.status_code >= 300} == {}
