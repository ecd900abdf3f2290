"""A47, A46: what users write is shown by every command that looks, and obeyed by none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taurine.app import Taurine
from taurine.retry import Retry

WICKED = "\x1b]0;owned\x07\x1b[2J\u202e[bold red]x[/]\r\n2027-01-01 ERROR forged\x9b1A\u2028"

PROGRAM = """
from taurine import Context, Taurine

app = Taurine("shop")
WICKED = {wicked!r}


@app.job("ill", queue="ill", description=WICKED)
async def ill(text: str) -> None: ...


@app.cron("0 3 * * *", id="nightly", queue="ill", description=WICKED)
async def nightly(ctx: Context) -> None: ...
"""

COMMANDS = [
    *(
        ["jobs"],
        ["jobs", "--json"],
        ["job", "a"],
        ["job", "a", "--json"],
        ["job", "a", "--why"],
        ["jobs", "--tenant", WICKED],
    ),
    *(
        ["dead"],
        ["dead", "--json"],
        ["queues"],
        ["workers", "--all"],
        ["top", "--once"],
        ["schedules"],
        ["verify"],
        ["doctor"],
    ),
    *(["keys"], ["admins"], ["job", WICKED], ["cancel", WICKED], ["retry", WICKED], ["queues", "pause", WICKED]),
    *(
        ["enqueue", WICKED],
        ["enqueue", "ill", WICKED],
        ["schedules", "next", WICKED],
        [WICKED],
        ["--app", WICKED, "jobs"],
    ),
]


@pytest.fixture
def variables(variables: dict[str, str], tmp_path: Any) -> dict[str, str]:
    (tmp_path / "shop.py").write_text(PROGRAM.format(wicked=WICKED), "utf-8")
    return variables


@pytest.fixture
async def wicked_jobs(app: Taurine) -> None:
    """One that failed, a cancelled one, a dead letter, a worker and a key, with such texts wherever somebody may write."""

    @app.job("ill", queue="ill", retry=Retry.NONE)
    async def ill(text: str, ctx: Any) -> None:
        ctx.log.warning(text, field=text)
        ctx.progress(1, 2, text)
        raise ValueError(text)

    async with app.worker(name="[red]w[/]"):
        handle = await ill.enqueue(WICKED, job_id="a", metadata={WICKED: WICKED}, user="[red]u")
        await app.wait(handle.id, 20)
    waiting = await ill.enqueue(WICKED, job_id="b", delay=600)
    await app.cancel(waiting.id, reason=WICKED, user="[red]u")
    await app.api_keys.create("[red]k[/]", scopes=["read"])


@pytest.mark.usefixtures("wicked_jobs")
async def test_no_command_obeys_what_it_shows(taurine: Callable[..., Any]) -> None:
    for words in COMMANDS:
        shown = await taurine(*words, COLUMNS="200")
        for text in (shown.out, shown.err):
            steering = [character for character in text if character != "\n" and not character.isprintable()]
            assert steering == [], (words, text)
            assert not any(line.startswith("2027-01-01") for line in text.splitlines()), (words, text)
        assert "Traceback" not in shown.err, (words, shown.err)
