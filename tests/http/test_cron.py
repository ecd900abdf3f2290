"""`/cron/{id}`: SEED-142 to SEED-144; A29, why one GET changes something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from support.api import Client, problem
from support.eventually import eventually
from taurine.app import Taurine
from taurine.jobs.handler.context import Context
from taurine.jobs.operations.alerts import AlertView
from taurine.retry import Retry
from taurine.testing import TestClock

SECRET = "correct horse battery staple"
KNOWN = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def app(app_factory: Callable[..., Taurine]) -> Taurine:
    """An application with the schedules `clean-up`, `broken` and `nightly`; workers see to the last."""
    app = app_factory(cron_secret=SECRET)

    @app.cron("*/5 * * * *", id="clean-up", by="http", queue="things", description="Deletes old sessions.")
    async def clean_up(_: Context) -> dict[str, int]:
        return {"deleted": 12}

    @app.cron("0 4 * * *", id="broken", by="http", queue="things", retry=Retry.NONE)
    async def broken(_: Context) -> None:
        raise LookupError("no such table")

    @app.cron("0 3 * * *", id="nightly", queue="things")
    async def nightly(_: Context) -> None: ...

    del clean_up, broken, nightly
    return app


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_result_of_the_job_is_the_answer(app: Taurine, client: Client, method: str) -> None:
    """SEED-144."""
    async with app.worker():
        answer = await client.request(method, "/cron/clean-up", headers=KNOWN)

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["result"]) == ("completed", {"deleted": 12})
    record = await app.get(answer.json()["id"])
    assert record is not None
    assert record.created_by == "cron"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": SECRET},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer gr\xfc\xdfe".encode("latin-1").decode("latin-1")},
        {"X-Cron-Secret": SECRET},
    ],
)
async def test_without_the_secret(app: Taurine, client: Client, headers: dict[str, str]) -> None:
    """SEED-143: 401 as a JSON document, whether there is such a schedule or not, and nothing runs."""
    sent = {name: value.encode("latin-1") for name, value in headers.items()}

    for path in ("/cron", "/cron/clean-up", "/cron/nobody"):
        answer = await client.get(path, headers=sent)  # pyright: ignore[reportArgumentType] - bytes, as a client may send them
        assert problem(answer) == (401, "unauthenticated"), path
        assert "[redacted]" not in answer.json()["detail"]
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert [record async for record in app.list()] == []


@pytest.mark.parametrize("path", ["/cron", "/cron/clean-up", "/cron/nobody"])
async def test_operators_hear_of_who_guesses_the_secret(app: Taurine, client: Client, path: str) -> None:
    """Ten wrong ones are told, once; calls that show none are no guesses."""
    guesses = [{"Authorization": f"Bearer guess-{number}"} for number in range(9)]
    for headers in [*guesses, *[{"Authorization": "Bearer "}] * 10, *[{}] * 10]:
        assert problem(await client.get(path, headers=headers)) == (401, "unauthenticated")
    before = await app.alerts.list(all=True)
    for headers in guesses:
        await client.get(path, headers=headers)

    async def told() -> Sequence[AlertView]:
        return await app.alerts.list(all=True)

    (alert,) = await eventually(told)
    assert before == []
    assert (alert.kind, alert.subject) == ("access_refused", "wrong cron secrets")
    assert "guess-" not in alert.message


async def test_it_is_off_without_a_secret(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    """SEED-143: an empty header is no secret either."""
    off = app_factory()

    @off.cron("0 3 * * *", id="nightly", by="http")
    async def nightly(_: Context) -> None: ...

    del nightly
    client = client_of(off)

    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        assert problem(await client.get("/cron/nightly", headers=headers)) == (404, "not_found")
        assert problem(await client.get("/cron", headers=headers)) == (404, "not_found")


async def test_a_repeat_within_the_minute_runs_nothing_twice(app: Taurine, client: Client) -> None:
    """One job for each time that a call is for; the answer says that it was there."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    times = [at.isoformat(), at.isoformat(), (at + timedelta(minutes=5)).isoformat()]

    answers = [await client.get("/cron/clean-up", params={"at": one, "wait": 0}, headers=KNOWN) for one in times]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert [answer.json()["duplicate"] for answer in answers] == [False, True, False]
    assert answers[0].json()["id"] == answers[1].json()["id"] != answers[2].json()["id"]
    assert answers[0].json()["scheduled_for"] == times[0]
    assert len([record async for record in app.list()]) == 2


async def test_the_minute_of_the_call_is_its_time(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    """Where the caller says no time: a cache, or an impatient client, that calls again within the minute."""
    clock = TestClock(1_900_000_065.0)
    app = app_factory(cron_secret=SECRET, clock=clock)

    @app.cron("* * * * *", id="pulse", by="http")
    async def pulse(_: Context) -> None: ...

    del pulse
    client = client_of(app)
    query = {"wait": 0}

    first = (await client.get("/cron/pulse", params=query, headers=KNOWN)).json()
    clock.advance(10)
    again = (await client.get("/cron/pulse", params=query, headers=KNOWN)).json()
    clock.advance(10)
    later = (await client.get("/cron/pulse", params=query, headers=KNOWN)).json()

    assert first["scheduled_for"] == "2030-03-17T17:47:00+00:00"
    assert (first["duplicate"], again["duplicate"], later["duplicate"]) == (False, True, False)
    assert later["scheduled_for"] == "2030-03-17T17:48:00+00:00"


async def test_one_that_takes_longer_is_found_by_its_path(app: Taurine, client: Client) -> None:
    answer = await client.get("/cron/clean-up", params={"wait": 0}, headers=KNOWN)

    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["location"] == answer.json()["links"]["job"]
    assert (await client.get(answer.headers["location"])).json()["id"] == answer.json()["id"]


async def test_one_that_fails_is_seen_to_fail(app: Taurine, client: Client) -> None:
    """The service that calls shows what is not 2xx, and nothing else."""
    async with app.worker():
        answer = await client.get("/cron/broken", headers=KNOWN)

    assert problem(answer) == (500, "cron_job_failed")
    assert "LookupError: no such table" in answer.json()["detail"]


async def test_the_table_of_what_is_to_be_called(client: Client) -> None:
    """SEED-142: paths and patterns, in the form in which platforms take them; what workers see to is not among them."""
    answer = await client.get("/cron", headers=KNOWN)

    assert answer.json()["crons"] == [
        {"path": "/cron/broken", "schedule": "0 4 * * *", "tz": "UTC", "description": ""},
        {"path": "/cron/clean-up", "schedule": "*/5 * * * *", "tz": "UTC", "description": "Deletes old sessions."},
    ]


async def test_workers_leave_it_alone(app: Taurine, client: Client) -> None:
    """A schedule that somebody outside sees to stands in no queue, and shows its next time all the same."""
    async with app.worker():
        infos = {info.id: info for info in await app.schedules.list()}

    assert (infos["clean-up"].by, infos["nightly"].by) == ("http", "workers")
    assert infos["clean-up"].next_run is not None


async def test_what_cannot_be_asked(app: Taurine, client: Client) -> None:
    """A14, A31, A32."""
    far = ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "tomorrow", "2026-01-01")
    for query in (*(f"at={one}" for one in far), "wait=-1", "wait=61", "wait=1e308", "x=1"):
        assert problem(await client.get(f"/cron/clean-up?{query}", headers=KNOWN)) == (400, "invalid_request"), query
    assert [record async for record in app.list()] == []


async def test_a_schedule_that_is_none(client: Client) -> None:
    assert problem(await client.get("/cron/clean-upp", headers=KNOWN)) == (404, "schedule_not_found")


async def test_one_that_workers_tick_is_not_called(app: Taurine, client: Client) -> None:
    """SEED-144: the call would be a second run of a time that has one already."""
    answer = await client.get("/cron/nightly", headers=KNOWN)

    assert problem(answer) == (404, "schedule_not_found")
    assert "is ticked by workers" in answer.json()["detail"]
    assert await app.list() == []


async def test_nobody_else_has_the_id_of_a_run_to_come(app: Taurine, client: Client) -> None:
    """A37: it can be guessed, and whoever had it would keep the schedule from running."""

    @app.job("thing.keep", queue="things")
    async def keep(_: dict[str, str]) -> None: ...

    del keep
    time = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)
    run = f"clean-up:{time:%Y-%m-%dT%H:%M:%SZ}"
    taking = await client.post("/v1/jobs/thing.keep", json={"payload": {}, "job_id": run})
    assert problem(taking) == (409, "job_id_unusable")

    called = await client.get("/cron/clean-up", params={"at": time.isoformat(), "wait": 0}, headers=KNOWN)
    assert (called.status_code, called.json()["id"]) == (202, run)
    other = await client.post("/v1/jobs/thing.keep", json={"payload": {}, "job_id": run.replace("clean-up", "mine")})
    assert other.status_code == 202
