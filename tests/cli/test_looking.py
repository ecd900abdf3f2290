"""The commands that look and mend: `jobs`, `queues`, `dead`, `retry`, `verify`, `doctor`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from cli.terminal import Terminal
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.retry import Retry


async def some_jobs(app: Taurine) -> None:
    """Three that completed, two that failed for good, one that waits."""

    @app.job("note.write", queue="notes", retry=Retry.NONE)
    async def write(text: str) -> str:
        if text.startswith("bad"):
            raise ValueError(text)
        return text

    @app.job("late.write", queue="late")
    async def late(text: str) -> None: ...

    async with app.worker(queues=["notes"]):
        for number, text in enumerate(("a", "b", "c", "bad x", "bad y")):
            handle = await write.enqueue(text, job_id=f"n-{number}", tags=["red"] if number < 2 else [], tenant="acme")
            await app.wait(handle.id, 20)
    await late.enqueue("later", job_id="waits")


# Jobs -----------------------------------------------------------------------------------------------------------------------------------


async def test_jobs_by_filter_and_page(app: Taurine, taurine: Callable[..., Any]) -> None:
    await some_jobs(app)

    async def ids(*words: str) -> list[str]:
        listed = await taurine("jobs", "--json", *words)
        assert (listed.code, listed.err) == (0, "")
        return [job["id"] for job in listed.json["jobs"]]

    everything, failed, red, of_type, of_queue, of_tenant, recent = await asyncio.gather(
        ids(),
        ids("--status", "failed"),
        ids("--tag", "red"),
        ids("--type", "late.write"),
        ids("--queue", "notes", "--limit", "2"),
        ids("--tenant", "globex"),
        ids("--since", "1h"),
    )
    first = await taurine("jobs", "--limit", "4", "--json")
    second = await ids("--limit", "4", "--cursor", first.json["next_cursor"])

    assert everything == recent == ["waits", "n-4", "n-3", "n-2", "n-1", "n-0"]
    assert (failed, red, of_type) == (["n-4", "n-3"], ["n-1", "n-0"], ["waits"])
    assert (of_queue, of_tenant) == (["n-4", "n-3"], [])
    assert second == ["n-1", "n-0"]


async def test_jobs_as_a_table(app: Taurine, taurine: Callable[..., Any], terminal: Callable[..., Terminal]) -> None:
    """As wide as it needs in a pipe; laid out for the terminal, where an id stands whole if it fits at all."""
    await some_jobs(app)

    piped = await taurine("jobs", "--limit", "3")
    narrow = terminal("jobs", columns=40)
    coloured = await taurine("jobs", FORCE_COLOR="1")
    plain = await taurine("jobs", FORCE_COLOR="1", NO_COLOR="1")
    set_width = await taurine("jobs", COLUMNS="30")

    assert piped.out.splitlines()[0].split() == ["id", "type", "queue", "status", "attempts", "age", "error"]
    assert "ValueError: bad y" in piped.out
    assert not any(line != line.rstrip() for line in piped.out.splitlines())
    assert piped.err.startswith("hint: there are more: add --cursor ")
    assert await narrow.ended() == 0
    assert max(map(len, narrow.text.splitlines())) <= 40
    assert max(map(len, set_width.out.splitlines())) <= 30
    assert "\x1b[" in coloured.out
    assert "\x1b" not in plain.out


async def test_jobs_are_watched(
    app: Taurine, taurine: Callable[..., Any], terminal: Callable[..., Terminal], variables: dict[str, str]
) -> None:
    await some_jobs(app)
    watching = terminal("jobs", "--watch", "--status", "cancelled")
    as_lines = terminal("jobs", "--watch", "--json", "--status", "cancelled", columns=2000)
    await as_lines.until("next_cursor")

    await app.cancel("waits")

    await watching.until("waits +late.write")
    # To its end: Ctrl-C has the terminal throw away what it has not shown yet.
    await as_lines.until('"id": "waits".*\n')
    for one in (watching, as_lines):
        one.press("\x03")
        assert await one.ended() == 130
        assert "Traceback" not in one.text
    first, second = (json.loads(line) for line in as_lines.text.splitlines() if line.startswith("{"))
    assert (len(first["jobs"]), len(second["jobs"])) == (0, 1)


# Queues ---------------------------------------------------------------------------------------------------------------------------------


async def test_queues_say_what_waits_and_who_works(app: Taurine, taurine: Callable[..., Any]) -> None:
    await some_jobs(app)
    async with app.worker(queues=["notes"]):
        shown, told = await asyncio.gather(taurine("queues"), taurine("queues", "--json"))

    assert shown.code == told.code == 0
    head, *rows = shown.out.splitlines()
    assert head.split() == [
        "queue",
        "queued",
        "running",
        "retrying",
        "failed",
        "completed",
        "dead",
        "oldest",
        "workers",
    ]
    late, notes = (
        next(row for row in rows if row.startswith("late")),
        next(row for row in rows if row.startswith("notes")),
    )
    assert late.split()[:7] == ["late", "1", "0", "0", "0", "0", "0"]
    assert notes.split()[:7] == ["notes", "0", "0", "0", "2", "3", "2"]
    assert "hint: nobody works on queue late: `taurine worker --queue late`" in shown.err
    queues = {queue["name"]: queue for queue in told.json}
    assert len(queues["notes"]["standing"]["workers"]) == 1
    assert queues["late"]["oldest_waiting"] > 0
    assert queues["late"]["standing"]["counts"]["waiting"] == 1
    assert queues["mail"]["declared"]


async def test_a_queue_is_paused_and_resumed(app: Taurine, taurine: Callable[..., Any]) -> None:
    await some_jobs(app)

    paused = await taurine("queues", "pause", "late", "notes", "--user", "ada")
    seen = await taurine("queues", "list")
    why = await app.why("waits")
    resumed = await taurine("queues", "resume", "late", "--json")
    misspelt = await taurine("queues", "pause", "lat")

    assert (paused.code, paused.out) == (0, "late is paused\nnotes is paused\n")
    assert seen.out.count("paused") == 2
    assert "paused" in why.sentence
    assert [queue["standing"]["paused"] for queue in resumed.json] == [False]
    assert misspelt.code == 1
    assert "did you mean 'late'?" in misspelt.err


async def test_a_queue_is_drained_after_a_question(
    app: Taurine, taurine: Callable[..., Any], terminal: Callable[..., Terminal]
) -> None:
    await some_jobs(app)
    nobody = await taurine("queues", "drain", "late")
    no = terminal("queues", "drain", "late")
    await no.until(r"Cancel those that are due of the 1 jobs that wait in queue late\? \[y/N\] ")
    no.press("\r")
    broken_off = terminal("queues", "drain", "late")
    await broken_off.until("y/N")
    broken_off.press("\x03")
    assert (await no.ended(), await broken_off.ended()) == (4, 130)
    assert "Traceback" not in broken_off.text
    kept = await app.get("waits")

    yes = terminal("queues", "drain", "late", "--reason", "not needed")
    await yes.until("y/N")
    yes.press("y\r")

    assert await yes.ended() == 0
    assert nobody.code == 2
    assert "say --yes" in nobody.err
    assert kept is not None
    assert kept.status == "queued"
    record = await app.get("waits")
    assert record is not None
    assert (record.status, record.cancel_reason) == ("cancelled", "not needed")
    assert (await taurine("queues", "drain", "late", "--yes", "--json")).json == {"queue": "late", "cancelled": 0}


async def test_queues_without_their_server_show_the_records(
    app: Taurine, taurine: Callable[..., Any], server_factory: Callable[..., ValkeyServer]
) -> None:
    await some_jobs(app)
    server = server_factory()
    server.stop()

    shown = await taurine("queues", TAURINE_REDIS_URL=server.url)
    paused = await taurine("queues", "pause", "late", TAURINE_REDIS_URL=server.url)
    enqueued = await taurine("enqueue", "file.copy", '"a"', TAURINE_REDIS_URL=server.url)
    top, told = await asyncio.gather(
        taurine("top", "--once", TAURINE_REDIS_URL=server.url),
        taurine("top", "--once", "--json", TAURINE_REDIS_URL=server.url),
    )

    assert shown.code == enqueued.code == top.code == 0
    assert "these are the records alone" in shown.err
    assert "the server of queues did not answer, and these are the records alone: " in top.err
    assert any(line.startswith("files ") and line.endswith("1 not handed over") for line in top.out.splitlines())
    (files,) = [queue for queue in told.json["queues"] if queue["queue"] == "files"]
    assert (files["undelivered"], bool(files["error"])) == (1, True)
    assert paused.code == 3
    assert "hint: is the server of queues up? `taurine doctor`" in paused.err


# Dead letters ---------------------------------------------------------------------------------------------------------------------------


async def test_dead_letters_are_looked_at(app: Taurine, taurine: Callable[..., Any]) -> None:
    """SEED-217: data, error and count are kept, and there is a tool to look and retry."""
    await some_jobs(app)

    shown, told = await asyncio.gather(taurine("dead"), taurine("dead", "list", "--json", "--type", "note.write"))
    entry = told.json["dead_letters"][0]
    one, data = await asyncio.gather(
        taurine("dead", "show", entry["id"]), taurine("dead", "show", entry["id"], "--json")
    )
    absent, by_job = await asyncio.gather(taurine("dead", "show", "nothing"), taurine("dead", "show", "n-4"))

    assert by_job.out == one.out
    assert "`taurine dead` lists what there is" in absent.err
    assert shown.out.count("note.write") == 2
    assert {"n-3", "n-4", entry["error_fingerprint"]} <= {*shown.out.split()}
    narrow = await taurine("dead", COLUMNS="120")
    assert "n-4" in narrow.out
    assert entry["error_fingerprint"] not in narrow.out
    assert (entry["payload"], entry["error"]["message"], entry["attempts"]) == ("bad y", "bad y", 1)
    for words in ("n-4", "exhausted, after 1 attempts", '"bad y"', "ValueError: bad y", "Traceback"):
        assert words in one.out
    assert [attempt["outcome"] for attempt in data.json["attempts"]] == ["failed"]
    assert (absent.code, absent.out) == (1, "")


async def test_a_dead_letter_is_redriven_with_an_edit_and_all_by_a_filter(
    app: Taurine, taurine: Callable[..., Any], terminal: Callable[..., Terminal], tmp_path: Any
) -> None:
    """SEED-217: one and all, with edit. A bulk asks first, with the number and the filter in words."""
    await some_jobs(app)
    (tmp_path / "notes.py").write_text(
        "from taurine import Taurine\napp = Taurine('shop')\n"
        "@app.job('note.write', queue='notes')\nasync def write(text: str) -> None: ...\n"
    )
    listed = await taurine("dead", "--json")
    first = listed.json["dead_letters"][0]["id"]

    wrong = await taurine("dead", "redrive", first, "--edit", "7", TAURINE_APP="notes:app")
    edited = await taurine("dead", "redrive", first, "--edit", '"good"', "--json", TAURINE_APP="notes:app")
    again = await taurine("dead", "redrive", first)
    nothing_said = await taurine("dead", "redrive")
    bulk = terminal("dead", "redrive", "--queue", "notes")
    await bulk.until(r"Run again 1 dead letters of queue notes\? \[y/N\]")
    bulk.press("y\r")

    assert await bulk.ended() == 0
    assert (wrong.code, wrong.out) == (2, "")
    assert [job["payload"] for job in edited.json["jobs"]] == ["good"]
    assert again.code == 4
    assert nothing_said.code == 2
    assert "--all" in nothing_said.err
    assert (await taurine("dead", "--json")).json["dead_letters"] == []


async def test_dead_letters_are_put_aside(app: Taurine, taurine: Callable[..., Any]) -> None:
    await some_jobs(app)

    one = await taurine("dead", "discard", "--all", "--limit", "1", "--yes")
    rest = await taurine("dead", "discard", "--all", "--yes", "--json", "--user", "ada")
    listed = await taurine("dead", "list", "--status", "discarded", "--json")

    assert one.code == 0
    assert one.out.endswith(" is put aside\n")
    assert len(rest.json["dead_letters"]) == 1
    assert {entry["resolved_by"] for entry in listed.json["dead_letters"]} == {None, "ada"}


async def test_jobs_are_retried(app: Taurine, taurine: Callable[..., Any]) -> None:
    await some_jobs(app)

    again = await taurine("retry", "n-3", "n-4")
    refused = await taurine("retry", "waits", "n-0", "--json")

    assert (again.code, again.out) == (0, "n-3 is queued again\nn-4 is queued again\n")
    assert refused.code == 4
    assert [job["id"] for job in refused.json["jobs"]] == ["n-0"]


# The whole ------------------------------------------------------------------------------------------------------------------------------


async def test_verify_finds_what_the_queues_have_lost(
    app: Taurine, taurine: Callable[..., Any], raw: Any, prefix: str
) -> None:
    ada = '{"user": "ada", "address": "a@b.c"}'
    await taurine("enqueue", "invite.send", ada)
    well = await taurine("verify")
    await raw.delete(f"{prefix}:mail:wait")

    differs, told = await asyncio.gather(taurine("verify"), taurine("verify", "--json"))

    assert (well.code, well.out) == (
        0,
        "Records and queues agree: 2 looked at. Jobs that have ended are not compared.\n",
    )
    assert differs.code == told.code == 1
    assert "open records whose job is stored and in no line" in differs.out
    assert (told.json["differences"], told.json["stranded"]) == (1, 1)


async def test_doctor_is_content(app: Taurine, taurine: Callable[..., Any]) -> None:
    await app.migrate()

    looked, told = await asyncio.gather(taurine("doctor"), taurine("doctor", "--json"))

    assert looked.code == 0, looked.out
    checks = {finding["check"]: finding for finding in told.json["findings"]}
    assert told.json["ok"]
    assert {"settings", "records", "tables", "queues", "clock", "memory", "disk", "queue mail"} <= checks.keys()
    assert checks["queue mail"]["level"] == "warn"
    assert "start one: `taurine worker --queue mail`" in looked.out


@pytest.mark.parametrize(
    ("variables_", "check", "said"),
    [
        ({"TAURINE_REDIS_URL": "redis://:pa55word@127.0.0.1:1"}, "queues", "see whether the server is up"),
        (
            {"TAURINE_DATABASE_URL": "postgresql://me:pa55word@127.0.0.1:1/x"},
            "records",
            "see whether the database is up",
        ),
    ],
)
async def test_doctor_names_what_fails_and_no_secret(
    taurine: Callable[..., Any], variables_: dict[str, str], check: str, said: str
) -> None:
    looked = await taurine("doctor", **variables_)
    told = await taurine("doctor", "--json", **variables_)

    assert looked.code == told.code == 1
    finding = next(finding for finding in told.json["findings"] if finding["check"] == check)
    assert (finding["level"], told.json["ok"]) == ("fail", False)
    assert said in looked.out
    assert "pa55word" not in looked.out + looked.err + told.out


async def test_doctor_warns_of_a_server_that_forgets(
    taurine: Callable[..., Any], server_factory: Callable[..., ValkeyServer]
) -> None:
    """A policy that deletes jobs is a failure, a server without a file a warning."""
    server = server_factory(**{"maxmemory-policy": "allkeys-lru", "appendonly": "no"})

    told = await taurine("doctor", "--json", TAURINE_REDIS_URL=server.url)

    levels = {finding["check"]: finding["level"] for finding in told.json["findings"]}
    assert (told.code, levels["memory"], levels["persistence"]) == (1, "fail", "warn")


# Schedules ------------------------------------------------------------------------------------------------------------------------------

_REPORTS = """
from taurine import Context, Taurine

app = Taurine("shop")


@app.cron("0 3 * * *", tz="Europe/Berlin", id="nightly", description="The figures of the day.")
async def report(ctx: Context) -> None: ...
"""


async def test_schedules_in_words_and_out_of_turn(taurine: Callable[..., Any], tmp_path: Any) -> None:
    """SEED-183: words beside the pattern, and the description. SEED-280: to look at a schedule installs none."""
    (tmp_path / "reports.py").write_text(_REPORTS)
    application = {"TAURINE_APP": "reports:app"}

    before = await taurine("schedules", **application)
    worked = await taurine("worker", "--until-empty", **application)
    listed, shown, told = await asyncio.gather(
        taurine("schedules", "list", "--json", **application),
        taurine("schedules", "show", "nightly", **application),
        taurine("doctor", "--json", **application),
    )
    triggered = await taurine("schedules", "trigger", "nightly", **application)
    refused = await taurine("schedules", "remove", "nightly", "--yes", **application)
    misspelt = await taurine("schedules", "show", "nihgtly", **application)

    assert before.code == worked.code == 0, worked.err
    assert "not installed: no worker has started" in before.out
    assert "The figures of the day." in before.out
    (schedule,) = listed.json
    assert (schedule["pattern"], schedule["tz"], len(schedule["next_runs"])) == ("0 3 * * *", "Europe/Berlin", 5)
    assert shown.out.count("03:00:00 CE") == 5
    assert "03:00" in schedule["text"]
    assert {finding["check"]: finding["level"] for finding in told.json["findings"]}["schedule nightly"] == "ok"
    assert triggered.code == 0
    assert refused.code == 2
    assert (misspelt.code, "did you mean 'nightly'?" in misspelt.err) == (1, True)
