"""`taurine dev` and `worker --reload`: everything in one terminal, anew when a file changes, and nothing left behind."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import SHOP
from cli.terminal import Terminal
from embedded.processes import processes_on
from support.eventually import eventually
from taurine.app import Taurine
from taurine.cli.commands import dev as dev_command
from taurine.cli.output import Output

pytestmark = pytest.mark.timeout(180)


async def nothing_runs_on(folder: Path) -> None:
    await eventually(lambda: not processes_on(folder), 15, "processes outlive the command")


async def test_dev_says_where_things_are_and_starts_anew(
    terminal: Callable[..., Terminal], private: dict[str, str], tmp_path: Path
) -> None:
    """SEED-101, 105: no server is named. A changed file starts it anew, a broken one is said, and mended it goes on."""
    dev = terminal("dev", environment=private)
    await dev.until("is ready")
    for words in (
        "shop is up",
        r"queues +Valkey .* private, in ",
        r"records +SQLite .*taurine\.db",
        r"works on +mail \(5 at once\), files \(5 at once\), slow \(5 at once\)",
        r"taurine --app shop:app enqueue invite\.send ",
        "Ctrl-C +stops everything; a changed Python file below this folder starts it anew",
    ):
        assert re.search(words, dev.text), words
    server = server_of(tmp_path)
    (tmp_path / "shop.py").write_text(SHOP.replace('"list.walk", queue="slow"', '"list.walk", queue="quick"'))
    await dev.until("shop.py changed: starting again(.|\n)*quick \\(5 at once\\)(.|\n)*is ready")
    (tmp_path / "shop.py").write_text("app = (")
    await dev.until("'shop' cannot be imported: SyntaxError(.|\n)*started again when a file changes")
    (tmp_path / "shop.py").write_text(SHOP)
    await dev.until("started again when a file changes(.|\n)*is ready")

    assert server_of(tmp_path) == server, "the server of queues was started anew"
    dev.press("\x03")
    assert await dev.ended() == 0
    assert "Traceback" not in dev.text
    await nothing_runs_on(tmp_path)


def server_of(folder: Path) -> list[int]:
    return [pid for pid, command in processes_on(folder).items() if "unixsocket:" in command]


async def test_dev_shows_how_it_goes(terminal: Callable[..., Terminal], variables: dict[str, str]) -> None:
    dev = terminal("dev", "--no-reload")
    await dev.until("none yet")
    enqueue = terminal("enqueue", "invite.send", '{"user": "ada", "address": "a@b.c"}')
    assert await enqueue.ended() == 0

    await dev.until("jobs +1 completed")

    dev.press("\x03")
    assert await dev.ended() == 0
    assert not re.search(r"none yet [^\r\n]*\n *jobs", dev.text), "it is one line"


async def test_dev_as_json_lines(terminal: Callable[..., Terminal], variables: dict[str, str]) -> None:
    dev = terminal("dev", "--no-reload", "--json", "--log-level", "error", TERM="dumb")
    await dev.until('"event": "status"')

    dev.signal(signal.SIGTERM)

    assert await dev.ended() == 0
    events = [json.loads(line) for line in dev.text.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events][::2] == ["started", "stopped"]


async def test_dev_and_its_child_end_when_it_is_killed(
    terminal: Callable[..., Terminal], private: dict[str, str], tmp_path: Path
) -> None:
    dev = terminal("dev", environment=private)
    await dev.until("is ready")

    dev.signal(signal.SIGKILL)

    assert await dev.ended() == -signal.SIGKILL
    await nothing_runs_on(tmp_path)


@pytest.mark.parametrize("stage", ["import", "broken"])
async def test_ctrl_c_ends_dev_at_every_stage(
    terminal: Callable[..., Terminal], private: dict[str, str], tmp_path: Path, stage: str
) -> None:
    program = {"import": "import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(60)\n", "broken": "app = ("}
    (tmp_path / "shop.py").write_text(program[stage])
    dev = terminal("dev", environment=private)
    if stage == "import":
        await eventually((tmp_path / "here").exists, 20)
    else:
        await dev.until("started again when a file changes")

    dev.press("\x03")

    assert await dev.ended() != 0
    assert "Traceback" not in dev.text
    await nothing_runs_on(tmp_path)


async def test_a_worker_that_reloads_hands_over_what_it_ran(
    terminal: Callable[..., Terminal], variables: dict[str, str], tmp_path: Path
) -> None:
    """SEED-079: the worker is a process of its own, and its code is anew when a file changes.

    A job that outlives the grace runs again in the new process.
    """
    worker = terminal("worker", "--reload", "--grace", "0.1")
    enqueue = terminal("enqueue", "list.walk", '"gate"', "--id", "w")
    await enqueue.ended()
    await worker.until("job w .list.walk. starts, attempt 1 of 3")

    (tmp_path / "shop.py").write_text(SHOP + "\n# changed\n")

    await worker.until("changed: starting again(.|\n)*job w .list.walk. starts, attempt 1 of 3")
    (tmp_path / "gate").touch()
    await worker.until("job w .list.walk. completed")
    worker.press("\x03")
    assert await worker.ended() == 0


async def announced(app: Taurine, capsys: pytest.CaptureFixture[str], listening: socket.socket | None) -> str:
    assert listening is not None
    app.declare("note.write", str, queue="notes")
    output = Output(as_json=False)
    with listening:
        await dev_command._announce(output, app, {"notes": 5}, "shop:app", listening, wanted=dev_command._PORT)
    return capsys.readouterr().err


async def test_the_line_to_try_has_a_key_once_there_is_one(app: Taurine, capsys: pytest.CaptureFixture[str]) -> None:
    """Without it, it would be refused."""
    await app.api_keys.create("web", scopes=["read"])

    said = await announced(app, capsys, dev_command._listen(0))

    assert re.search(r'curl -s \S+/v1/.* -H "Authorization: Bearer \$TAURINE_KEY"\n', said), said


async def test_a_port_that_is_taken_is_said(
    app: Taurine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as others:
        port = others.getsockname()[1]
        monkeypatch.setattr(dev_command, "_PORT", port)
        said = await announced(app, capsys, dev_command._listen(None))

    assert re.search(rf"API +http://127\.0\.0\.1:\d+ \({port} is taken\)\n", said), said
    assert "Authorization" not in said
