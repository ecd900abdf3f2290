"""`taurine worker` and `taurine enqueue`: jobs are run, waited for, and left in good order at Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.terminal import Terminal
from embedded.processes import processes_on
from support.eventually import eventually
from taurine.app import Taurine

ADA = '{"user": "ada", "address": "ada@example.com"}'


# Accepting ------------------------------------------------------------------------------------------------------------------------------


async def test_a_job_is_accepted_and_accepted_once(app: Taurine, taurine: Callable[..., Any]) -> None:
    """SEED-109: what a response does not need goes to a job, by one line in a shell too."""
    first = await taurine("enqueue", "invite.send", ADA, "--tag", "red", "--tag", "blue", "--priority", "3", "--json")
    again = await taurine("enqueue", "invite.send", ADA)
    record = await app.get("invite:ada")

    assert (first.code, first.err, first.json["id"], first.json["duplicate"]) == (0, "", "invite:ada", False)
    assert again.out == "job invite:ada was there already (invite.send, queue mail, queued)\n"
    assert record is not None
    assert (record.tags, record.priority, record.source) == (["red", "blue"], 3, "taurine enqueue")


async def test_every_option_of_an_enqueue(app: Taurine, taurine: Callable[..., Any]) -> None:
    said = ("--id", "i-1", "--delay", "2h30m", "--tenant", "acme", "--idempotency-key", "k", "--user", "grace")
    accepted = await taurine("enqueue", "list.walk", '"gate"', *said)
    record = await app.get("i-1")

    assert accepted.code == 0
    assert record is not None
    assert record.scheduled_for is not None
    assert (record.scheduled_for - record.created_at).total_seconds() == pytest.approx(9000)
    assert (record.tenant, record.created_by) == ("acme", "grace")


async def test_a_payload_comes_from_a_file_or_from_standard_input(taurine: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "ada.json").write_text(ADA)

    of_file, of_pipe = await asyncio.gather(
        taurine("enqueue", "invite.send", "@ada.json", "--id", "file"),
        taurine("enqueue", "invite.send", "-", "--id", "pipe", stdin=ADA),
    )

    assert (of_file.code, of_pipe.code) == (0, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["invite.sned", ADA], ["did you mean 'invite.send'?", "hint: "]),
        (["invite.send", "{user"], ["the payload is not JSON", "at line 1, column 2", "single quotes"]),
        (["invite.send", "@absent"], ["the payload in absent cannot be read: No such file"]),
        (["invite.send", '{"user": 3}'], ["\n  user: Input should be a valid string", "\n  address: Field required"]),
        (["invite.send", ADA, "--delay", "soon"], ["expected --delay to be seconds, or a duration such as 30s"]),
        (["invite.send", ADA, "--timeout", "3"], ["--timeout is of --wait"]),
        (["invite.send", ADA, "--priority", "-1"], ["expected priority to be a whole number"]),
        (["invite.send", ADA, "--wiat"], ["No such option"]),
    ],
)
async def test_what_is_wrong_is_said_with_what_to_do(
    taurine: Callable[..., Any], words: list[str], said: list[str]
) -> None:
    """Exit code 2, nothing on stdout, nothing stored, no traceback; and no value of a payload is repeated."""
    ended = await taurine("enqueue", *words)
    stored = await taurine("jobs", "--json")

    assert (ended.code, ended.out) == (2, "")
    for part in said:
        assert part in ended.err
    assert "Traceback" not in ended.err
    assert "ada@example.com" not in ended.err
    assert stored.json["jobs"] == []


async def test_without_an_application_it_is_said_how_to_name_it(here: Callable[..., Any]) -> None:
    for words in (["enqueue", "invite.send"], ["worker"], ["verify"], ["dev"]):
        ended = await here(*words, TAURINE_APP="")
        assert ended.code == 2
        assert "taurine --app module:name" in ended.err


async def test_an_error_of_the_application_is_a_line_and_with_debug_a_traceback(
    taurine: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text(
        "from taurine import Taurine\napp = Taurine('x', authorize=lambda request: 1 / 0)\n"
        "@app.job('note.write')\nasync def write(text: str) -> None: ...\n"
    )

    plain = await taurine("--app", "broken:app", "enqueue", "note.write", '"x"')
    debugged = await taurine("--debug", "--app", "broken:app", "enqueue", "note.write", '"x"')

    assert plain.code == debugged.code == 70
    assert plain.err == (
        "taurine: ZeroDivisionError: division by zero\nhint: `taurine --debug …` shows where that came from\n"
    )
    assert "broken.py" in debugged.err


# Waiting --------------------------------------------------------------------------------------------------------------------------------


async def test_waiting_prints_the_result_and_nothing_else_on_stdout(taurine: Callable[..., Any], app: Taurine) -> None:
    waiting, worked = await asyncio.gather(
        taurine("enqueue", "invite.send", ADA, "--wait", "--timeout", "60"),
        worked_off(taurine, app),
    )
    told = await taurine("enqueue", "invite.send", ADA, "--wait", "--timeout", "60", "--json")

    assert worked.code == 0
    assert (waiting.code, waiting.json) == (0, {"message": "m-ada"})
    assert "completed in " in waiting.err
    assert "\x1b" not in waiting.err
    assert (told.code, told.json["id"], told.json["status"]) == (0, "invite:ada", "completed")


async def worked_off(taurine: Callable[..., Any], app: Taurine) -> Any:
    """A worker that ends when all is done, begun once there is a job."""

    async def there_is_one() -> bool:
        return bool(await app.list(limit=1))

    await eventually(there_is_one, 20)
    return await taurine("worker", "--until-empty")


async def test_waiting_for_a_job_that_fails_exits_with_5(taurine: Callable[..., Any], app: Taurine) -> None:
    waiting, _ = await asyncio.gather(
        taurine("enqueue", "file.copy", '"a"', "--wait", "--timeout", "60"), worked_off(taurine, app)
    )

    assert (waiting.code, waiting.out) == (5, "")
    assert "failed in attempt 2 of 2: FileNotFoundError: a" in waiting.err
    assert "hint: `taurine job " in waiting.err


async def test_waiting_for_a_job_that_is_cancelled_exits_with_6_and_out_of_time_with_7(
    taurine: Callable[..., Any], app: Taurine
) -> None:
    late = await taurine("enqueue", "list.walk", '"gate"', "--id", "late", "--wait", "--timeout", "0.1")
    told = await taurine("enqueue", "list.walk", '"gate"', "--id", "late", "--wait", "--timeout", "0.1", "--json")
    cancelled = await taurine("cancel", "late", "--reason", "no more")
    again = await taurine("enqueue", "list.walk", '"gate"', "--id", "late", "--wait", "--timeout", "60")
    refused = await taurine("cancel", "late", "absent", "--json")

    assert late.code == 7
    assert "did not end within 0.1 s; it is queued and goes on" in late.err
    assert (told.code, told.json["id"], told.json["status"]) == (7, "late", "queued")
    assert (cancelled.code, cancelled.out) == (0, "late is cancelled\n")
    assert again.code == 6
    assert "was cancelled: no more" in again.err
    assert refused.code == 4
    assert [one["error"] for one in refused.json["refused"]] == ["TransitionRefused", "RecordNotFound"]


async def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    terminal: Callable[..., Terminal], variables: dict[str, str], tmp_path: Path
) -> None:
    """SEED-145, 148: a long job can be followed, here 3 of 10."""
    worker = terminal("worker", "--queue", "slow=1")
    waiting = terminal("enqueue", "list.walk", '"gate"', "--id", "w", "--wait", columns=60)
    await waiting.until(r"running .*3 of 10 \(30%\) walking")
    plain = terminal("job", "w", "--watch", TERM="dumb")
    await plain.until(r"running 3 of 10 \(30%\) walking\n")
    (tmp_path / "gate").touch()

    assert await waiting.ended() == 0
    assert "\x1b[" in waiting.seen
    assert waiting.text.rstrip().endswith("10")
    assert await plain.ended() == 0
    assert re.search(r"progress +10 of 10, walking", plain.text)
    assert "\x1b" not in plain.seen
    worker.press("\x03")
    assert await worker.ended() == 0


async def test_a_job_is_watched_as_json_lines(taurine: Callable[..., Any], tmp_path: Path, app: Taurine) -> None:
    (tmp_path / "gate").touch()
    await taurine("enqueue", "list.walk", '"gate"', "--id", "w")

    watched, worked = await asyncio.gather(taurine("job", "w", "--watch", "--json"), worked_off(taurine, app))

    statuses = [json.loads(line)["status"] for line in watched.out.splitlines()]
    assert (watched.code, worked.code) == (0, 0)
    assert statuses[-1] == "completed"
    assert statuses == sorted(statuses, key=["queued", "running", "completed"].index)


async def test_it_is_said_why_a_job_does_not_start(terminal: Callable[..., Terminal]) -> None:
    waiting = terminal("enqueue", "invite.send", ADA, "--wait")
    await waiting.until("it cannot start: no worker of queue 'mail' is connected")

    waiting.press("\x03")

    assert await waiting.ended() == 130
    assert "The job goes on. `taurine job invite:ada --watch` watches it" in waiting.text
    assert "Traceback" not in waiting.text


# Working --------------------------------------------------------------------------------------------------------------------------------


async def test_a_worker_works_until_nothing_is_left(taurine: Callable[..., Any], app: Taurine) -> None:
    """PEER-128: exit 0 at empty, retries included; a job of a later time is left.

    SEED-097 to 099, 104: each step is a line. SEED-254: a file is enough, nothing is built.
    """
    await taurine("enqueue", "invite.send", ADA)
    await taurine("enqueue", "file.copy", '"a"', "--id", "copied")
    await taurine("enqueue", "invite.send", ADA, "--id", "later", "--delay", "1d")

    worked = await taurine("worker", "--until-empty", "--queue", "mail=20", "--queue", "files")
    statuses = {record.id: record.status async for record in app.list()}

    assert (worked.code, worked.out) == (0, "")
    assert statuses == {"invite:ada": "completed", "copied": "failed", "later": "queued"}
    assert "shop works on mail (20 at once), files (5 at once), until nothing is left to do" in worked.err
    for words in (
        "job invite:ada (invite.send) starts, attempt 1 of 3",
        "job invite:ada (invite.send) completed in ",
        "job copied (file.copy) failed in attempt 1 of 2 and is tried again",
        "job copied (file.copy) is dead after 2 of 2 attempts",
        "is ready",
        "has ended",
    ):
        assert words in worked.err


async def test_log_lines_as_json_carry_the_job(taurine: Callable[..., Any]) -> None:
    """SEED-100: a line of the handler's own has the job's fields too. `--json` keeps stdout for events."""
    await taurine("enqueue", "invite.send", ADA)

    announced = await taurine("worker", "--drain", "--queue", "slow", TAURINE_LOG_FORMAT="json")
    worked = await taurine("worker", "--drain", "--json", TAURINE_LOG_FORMAT="json")
    lines = [json.loads(line) for line in worked.err.splitlines()]
    events = [json.loads(line) for line in worked.out.splitlines()]

    (sending,) = [line for line in lines if line["message"] == "sending"]
    assert (sending["job_id"], sending["job_type"], sending["queue"], sending["attempt"]) == (
        *("invite:ada", "invite.send", "mail"),
        1,
    )
    assert json.loads(announced.err.splitlines()[0])["message"].startswith("shop works on slow (5 at once)")
    assert [event["event"] for event in events] == ["started", "stopped"]
    assert events[0]["queues"] == {"mail": 5, "files": 5, "slow": 5}


async def test_several_processes_work_until_nothing_is_left(taurine: Callable[..., Any], app: Taurine) -> None:
    for number in range(4):
        await taurine("enqueue", "invite.send", ADA, "--id", f"i-{number}")

    worked = await taurine("worker", "--until-empty", "--processes", "2", "--queue", "mail")

    assert worked.code == 0, worked.err
    assert {record.status async for record in app.list()} == {"completed"}
    assert "in each of 2 processes" in worked.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--queue", "mial"], "no job type goes to queue 'mial'; did you mean 'mail'?"),
        (
            ["--queue", "mail=many"],
            "expected the slots of queue 'mail' to be a number from 1, 'io' or 'cpu', got 'many'",
        ),
        (["--concurrency", "0"], "expected --concurrency to be a number from 1"),
        (["--grace", "x"], "expected --grace to be seconds"),
    ],
)
async def test_a_worker_of_wrong_options(here: Callable[..., Any], words: list[str], said: str) -> None:
    ended = await here("worker", *words)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_worker_finishes_its_job_at_a_signal(
    terminal: Callable[..., Terminal], taurine: Callable[..., Any], app: Taurine, tmp_path: Path, number: int
) -> None:
    """SEED-102, 103, 221: the running job completes, and the exit code is 0."""
    await taurine("enqueue", "list.walk", '"gate"', "--id", "w")
    worker = terminal("worker")
    await eventually((tmp_path / "walking").exists, 20)

    worker.signal(number)
    await worker.until("stops: 1 jobs run, they have 30 s")
    (tmp_path / "gate").touch()

    assert await worker.ended() == 0
    record = await app.get("w")
    assert record is not None
    assert record.status == "completed"


async def test_a_second_ctrl_c_hands_the_running_job_back(
    terminal: Callable[..., Terminal], taurine: Callable[..., Any], app: Taurine, tmp_path: Path
) -> None:
    await taurine("enqueue", "list.walk", '"gate"', "--id", "w")
    worker = terminal("worker", "--grace", "1h")
    await eventually((tmp_path / "walking").exists, 20)
    worker.press("\x03")
    await worker.until("they have 3600 s")

    worker.press("\x03")

    assert await worker.ended() == 0
    record = await app.get("w")
    assert record is not None
    assert (record.status, record.attempts) == ("queued", 0)
    assert "Traceback" not in worker.text


@pytest.mark.parametrize("stage", ["import", "idle"])
async def test_ctrl_c_leaves_no_private_server_behind(
    terminal: Callable[..., Terminal], private: dict[str, str], tmp_path: Path, stage: str
) -> None:
    """SEED-101, 108: no server is named, so a private one is used, and it has ended with the command."""
    if stage == "import":
        (tmp_path / "shop.py").write_text("import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(60)\n")
    worker = terminal("worker", environment=private)
    if stage == "import":
        await eventually((tmp_path / "here").exists, 20)
    else:
        await worker.until("is ready")

    worker.press("\x03")

    assert await worker.ended() == (130 if stage == "import" else 0)
    assert "Traceback" not in worker.text
    await eventually(lambda: not processes_on(tmp_path), 15, "processes outlive the command")


@pytest.mark.parametrize("stage", ["import", "queued"])
async def test_ctrl_c_while_waiting_leaves_no_private_server_behind(
    terminal: Callable[..., Terminal], private: dict[str, str], tmp_path: Path, stage: str
) -> None:
    if stage == "import":
        (tmp_path / "shop.py").write_text("import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(60)\n")
    waiting = terminal("enqueue", "invite.send", ADA, "--wait", environment=private)
    if stage == "import":
        await eventually((tmp_path / "here").exists, 20)
    else:
        await waiting.until("queued")

    waiting.press("\x03")

    assert await waiting.ended() == 130
    assert "Traceback" not in waiting.text
    await eventually(lambda: not processes_on(tmp_path), 15, "processes outlive the command")
