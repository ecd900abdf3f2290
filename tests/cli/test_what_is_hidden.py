"""A42, SEED-255, SEED-277: what users and handlers wrote is shown by every command that looks, without its secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taurine.app import Taurine
from taurine.ledger.alerts import AlertRow, change_alert
from taurine.retry import Retry

PROGRAM = """
from taurine import Redact, Taurine

app = Taurine("shop", redact=Redact.DEFAULT.also(patterns=["hunter2"]))


@app.job("echo", queue="echo")
async def echo(text: str) -> str:
    return text
"""

SECRET = "hunter2"

LOOKS = [
    *(["jobs"], ["jobs", "--json"], ["jobs", "--status", "cancelled"], ["dead"], ["dead", "--json"]),
    *([*words, *form] for words in (["job", "a"], ["job", "b"]) for form in ([], ["--json"], ["--why"])),
    *(["dead", "show", "a"], ["dead", "show", "a", "--json"], ["alerts"], ["alerts", "--json"]),
    *(["cancel", "a"], ["cancel", "a", "--json"], ["retry", "b", "--json"], ["enqueue", "echo", '{"a": "hunter2"}']),
]


@pytest.fixture
def variables(variables: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "shop.py").write_text(PROGRAM, "utf-8")
    return variables


@pytest.fixture
async def told(app: Taurine) -> None:
    """A job that failed and one that was cancelled, with a secret wherever somebody may write; and an alert that was
    written before the rule was made.
    """

    @app.job("ill", queue="ill", retry=Retry.NONE)
    async def ill(text: str, ctx: Any) -> None:
        ctx.log.warning(text, field=text)
        ctx.progress(1, 2, text)
        raise ValueError(text)

    async with app.worker():
        handle = await ill.enqueue(SECRET, job_id="a", metadata={"note": SECRET}, tags=[SECRET])
        await app.wait(handle.id, 20)
    await ill.enqueue(SECRET, job_id="b", delay=600)
    await app.cancel("b", reason=SECRET)
    told = (
        f'{{"kind": "poison", "job_id": "a", "job_type": "ill", "queue": "ill", "tenant": null, "message": "{SECRET}"}}'
    )
    row = AlertRow(rule="poison", subject="ill/ill", state="firing", value=1.0, since=1, seen_at=1, alert=told)
    await app._backend().database.write(lambda connection: change_alert(connection, None, row))


@pytest.mark.usefixtures("told")
async def test_no_command_shows_a_secret(taurine: Callable[..., Any]) -> None:
    hidden = 0
    for words in LOOKS:
        shown = await taurine(*words, COLUMNS="200")
        assert SECRET not in shown.out + shown.err, (words, shown)
        hidden += "[redacted]" in shown.out + shown.err
    assert hidden >= len(LOOKS) - 3  # `dead`, whose line has no message, and refusals, have nothing to hide


@pytest.mark.usefixtures("told")
async def test_who_asks_for_all_is_shown_all(taurine: Callable[..., Any]) -> None:
    shown = await taurine("--unredacted", "job", "a", "--json")
    assert shown.json["job"]["payload"] == shown.json["logs"][0]["message"] == SECRET
    assert "[redacted]" not in shown.out
    alerts = await taurine("--unredacted", "alerts", "--json")
    assert alerts.json["alerts"][0]["message"] == SECRET


async def test_a_result_is_hidden_too(taurine: Callable[..., Any], app: Taurine) -> None:
    """It is printed as it is by `--unredacted`, for programs that read it."""
    shown = {}
    async with app:
        app.job("echo", queue="echo")(_echo)
        async with app.worker(queues=["echo"]):
            for option in ((), ("--unredacted",)):
                words = ("enqueue", "echo", f'"a {SECRET}"', "--wait", "--timeout", "20s")
                shown[option] = (await taurine(*option, *words)).out.strip()
    assert shown == {(): '"a [redacted]"', ("--unredacted",): f'"a {SECRET}"'}


async def _echo(text: str) -> str:
    return text
