"""`taurine job` and `taurine migrate`: what they print, for people and for programs, and how they end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.cli.forms import progress_text
from taurine.ledger.database import open_database
from taurine.ledger.migrate import schema_version
from taurine.ledger.schema import VERSION
from taurine.retry import Fixed, Retry

_APPLICATION = """
from taurine.app import Taurine

app = Taurine("shop")
nothing = None


class group:
    inner = app
"""


@pytest.fixture
def variables(variables: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """No application is named here but by the tests."""
    (tmp_path / "shop.py").write_text(_APPLICATION)
    return {name: value for name, value in variables.items() if name != "TAURINE_APP"}


async def a_retrying_job(app: Taurine, **options: Any) -> str:
    @app.job("flaky", queue="flaky", retry=Retry(attempts=3, backoff=Fixed(600)))
    async def flaky(payload: dict[str, str]) -> None:
        raise ConnectionError(payload.get("message", "no route"))

    async with app.worker():
        handle = await flaky.enqueue(options.pop("payload", {}), **options)

        async def retrying() -> bool:
            return (await app.why(handle.id)).code == "retrying"

        await eventually(retrying)
    return handle.id


async def test_a_job_for_people(app: Taurine, taurine: Callable[..., Any]) -> None:
    job_id = await a_retrying_job(app, tenant="acme", tags=["red"])

    shown = await taurine("job", job_id)

    assert (shown.code, shown.err) == (0, "")
    for words in (job_id, "flaky", "acme", "retrying", "1 of 3", "red", "ConnectionError: no route"):
        assert words in shown.out
    assert re.search(r"created +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC\n", shown.out)
    assert "The job waits for attempt 2 of 3 until " in shown.out
    assert "Next: its next attempt, about " in shown.out
    assert "retried" in shown.out
    assert "\x1b" not in shown.out  # no colours where there is no terminal


async def test_a_job_for_programs(app: Taurine, taurine: Callable[..., Any]) -> None:
    """One JSON value on stdout and nothing else."""
    job_id = await a_retrying_job(app, metadata={"cart": 7})

    shown = await taurine("job", job_id, "--json")

    assert (shown.code, shown.err) == (0, "")
    assert shown.json["job"]["id"] == job_id
    assert (shown.json["job"]["status"], shown.json["job"]["phase"]) == ("retrying", "queued")
    assert shown.json["job"]["metadata"] == {"cart": 7}
    assert [attempt["outcome"] for attempt in shown.json["attempts"]] == ["retried"]
    assert shown.json["attempts"][0]["error"]["message"] == "no route"
    assert shown.json["why"]["code"] == "retrying"


async def test_why_alone(app: Taurine, taurine: Callable[..., Any]) -> None:
    job_id = await a_retrying_job(app)

    shown, told = await asyncio.gather(taurine("job", job_id, "--why"), taurine("job", job_id, "--why", "--json"))

    assert shown.code == told.code == 0
    assert shown.out.startswith("The job waits for attempt 2 of 3 until ")
    assert "Also, it cannot start: no worker of queue 'flaky' is connected." in shown.out
    assert [reason["code"] for reason in told.json["reasons"]] == ["retrying", "no_worker"]
    assert told.json["next_at"] is not None


async def test_not_found(app: Taurine, taurine: Callable[..., Any]) -> None:
    """Exit code 1; also for a job of another tenant."""
    job_id = await a_retrying_job(app, tenant="acme")

    absent, others = await asyncio.gather(
        taurine("job", "nobody", "--json"), taurine("job", job_id, "--tenant", "globex")
    )

    assert (absent.code, absent.out, absent.err) == (
        1,
        "",
        "taurine: there is no job 'nobody'\nhint: `taurine jobs` lists what there is\n",
    )
    assert (others.code, others.out) == (1, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["job"], "Missing argument 'ID'"),
        (["job", "a", "--wy"], "No such option"),
        (["nothing"], "No such command"),
        (["--app", "shop", "job", "a"], "expected an application as module:name"),
        (["--app", "absent:app", "job", "a"], "'absent' cannot be imported: ModuleNotFoundError"),
        (["--app", "shop:ap", "job", "a"], "there is no 'ap' in the module 'shop'"),
        (["--app", "shop:nothing", "job", "a"], "to be a Taurine, got NoneType"),
    ],
)
async def test_wrong_usage(taurine: Callable[..., Any], words: list[str], said: str) -> None:
    """Exit code 2, with nothing on stdout. SEED-254: what cannot be loaded is named, with why."""
    ended = await taurine(*words)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


async def test_a_module_that_cannot_be_imported_is_told_with_its_place(
    taurine: Callable[..., Any], tmp_path: Path
) -> None:
    """SEED-254: the last line of the user's own, not the library's below it."""
    (tmp_path / "limits.py").write_text("import json\n\nlimits = json.loads('{')\n")
    (tmp_path / "work.py").write_text("\nimport limits\n")

    ended = await taurine("--app", "work:app", "jobs")

    assert ended.code == 2
    assert "the module 'work' cannot be imported: JSONDecodeError: " in ended.err
    assert "; at limits.py:3, and `taurine --debug …` shows all of it" in ended.err


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (None, None),
        ({"done": 3, "total": 10, "percentage": 30, "message": "walking"}, "3 of 10, walking"),
        ({"done": 0.30000000000000004, "total": None, "percentage": 30, "message": None}, "30 %"),
        ({"done": 12345.678, "total": 99999.0, "percentage": 12, "message": None}, "12,345.7 of 99,999"),
        (42, "42 %"),
        ("half-way", "half-way"),
    ],
)
def test_progress_in_a_line(progress: Any, shown: str | None) -> None:
    assert progress_text(progress) == shown


async def test_the_application_by_option_and_by_variable(app: Taurine, taurine: Callable[..., Any]) -> None:
    """`--app` and TAURINE_APP; the module is found in the working directory."""
    job_id = await a_retrying_job(app)

    ended = await asyncio.gather(
        taurine("--app", "shop:app", "job", job_id, "--json"),
        taurine("job", job_id, "--json", TAURINE_APP="shop:group.inner"),
    )

    assert [(one.code, one.json["job"]["id"]) for one in ended] == [(0, job_id)] * 2


async def test_a_server_is_down(
    app: Taurine, taurine: Callable[..., Any], server_factory: Callable[..., ValkeyServer]
) -> None:
    """Without the database exit code 3; without the server of queues what the record says is shown."""
    job_id = await a_retrying_job(app)
    server = server_factory()
    server.stop()

    blind, without_queues = await asyncio.gather(
        taurine("job", job_id, TAURINE_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none"),
        taurine("job", job_id, "--why", "--json", TAURINE_REDIS_URL=server.url),
    )

    assert blind.code == 3
    assert "has a record that cannot be read" in blind.out
    assert "Traceback" not in blind.out + blind.err
    assert without_queues.code == 0
    assert [reason["code"] for reason in without_queues.json["reasons"]] == ["retrying", "store_unavailable"]


async def test_no_text_of_a_user_moves_the_cursor(app: Taurine, taurine: Callable[..., Any]) -> None:
    """A47: escapes, bells, direction marks and markup in payloads, tags, errors and ids are shown, not obeyed."""
    wicked = "\x1b]0;owned\x07\x1b[2J\u202e[bold red]x[/]\r\x9b1A"
    job_id = await a_retrying_job(app, payload={"message": wicked}, metadata={"x": wicked})

    shown = await taurine("job", job_id)
    told = await taurine("job", job_id, "--json")
    absent = await taurine("job", wicked)

    for text in (shown.out, shown.err, told.out, told.err, absent.err):
        assert all(character == "\n" or character.isprintable() for character in text), repr(text)
    assert "[bold red]x[/]" in shown.out
    assert told.json["job"]["error"]["message"] == wicked
    assert absent.code == 1


async def test_migrate(taurine: Callable[..., Any], tmp_path: Path) -> None:
    """Makes the tables, and says so; again it has nothing to do. The folder of the default database is made too."""
    first = await taurine("migrate")
    again = await taurine("migrate", "--json")
    database = open_database(f"sqlite:///{tmp_path / 'taurine.db'}")
    version = await database.read(schema_version)
    await database.close()

    assert (first.code, first.err) == (0, "")
    assert first.out == f"The tables are at version {VERSION} now; before they were not there.\n"
    assert again.json == {"before": VERSION, "after": VERSION, "applied": []}
    assert version == VERSION


async def test_migrate_without_any_setting(taurine: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"

    ended = await taurine("migrate", TAURINE_DATABASE_URL="", TAURINE_HOME=str(home))

    assert (ended.code, ended.err) == (0, "")
    assert (home / "taurine.db").exists()


async def test_help_names_the_exit_codes(taurine: Callable[..., Any]) -> None:
    for words in (["--help"], ["job", "--help"], ["migrate", "--help"]):
        ended = await taurine(*words)
        assert ended.code == 0
        assert "Exit codes: 0 done, 1 no such job, 2 wrong usage" in " ".join(ended.out.split())
