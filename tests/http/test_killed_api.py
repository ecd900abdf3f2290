"""F58: the API's process is killed between the commit and the answer, and its client asks again with the same
Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.api import Client
from taurine.app import Taurine

PROGRAM = Path(__file__).parents[1] / "support" / "dying_api.py"
MOMENTS = ("asked", "recorded", "answering", "half answered")


@asynccontextmanager
async def dying_apis(settings: dict[str, str], number: int) -> AsyncGenerator[list[str]]:
    """The URLs of as many; all of them have to be killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), json.dumps(settings), str(number)),
        env={"PYTHONPATH": str(PROGRAM.parents[1])},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            yield [(await process.stdout.readline()).decode().strip() for _ in range(number)]
            assert int(await process.stdout.readline()) == number, "not all were killed"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@pytest.fixture
def settings(sqlite_url: str, redis_socket_url: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    return {"database_url": sqlite_url, "redis_url": redis_socket_url, "prefix": prefix, "home": str(tmp_path)}


async def test_f58_who_asks_again_after_a_kill_gets_the_same_job(
    app: Taurine, client: Client, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job for each key, whatever the moment, and one answer; and each runs once."""
    # A job that nobody handed over is left to the call that accepted it for some seconds; here they are over.
    monkeypatch.setattr("taurine.jobs.handover.outbox.YOUNG_MS", 0)
    monkeypatch.setattr("taurine.jobs.handover.dispatch.YOUNG_MS", 0)
    await app.migrate()

    async def killed_at(moment: str, url: str) -> None:
        async with httpx2.AsyncClient(base_url=url, timeout=30) as caller:
            with pytest.raises(httpx2.TransportError):
                await post(caller, moment, **{"X-Dies": moment})

    async def post(caller: httpx2.AsyncClient, moment: str, **headers: str) -> httpx2.Response:
        body = {"payload": {"user": moment, "address": "ada@example.com"}}
        return await caller.post("/v1/jobs/invite.send", json=body, headers={"Idempotency-Key": moment, **headers})

    async with dying_apis(settings, len(MOMENTS)) as urls:
        await asyncio.gather(*map(killed_at, MOMENTS, urls))
    recorded = {record.payload["user"]: record.id for record in (await app.list()).items}
    assert recorded.keys() == {*MOMENTS} - {"asked"}

    answers: dict[str, Any] = {}
    for moment in MOMENTS:
        first, again = await post(client, moment), await post(client, moment)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["duplicate"] == (moment in recorded)
        assert again.json() == {**first.json(), "duplicate": True}
        assert first.json()["id"] == recorded.get(moment, first.json()["id"])
        answers[moment] = first.json()["id"]

    async with app.worker():
        for job_id in answers.values():
            assert (await app.wait(job_id, timeout=30)) is not None
    records = (await app.list()).items
    assert {record.payload["user"]: record.id for record in records} == answers
    assert [(record.status, record.attempts, record.generation) for record in records] == [("completed", 1, 0)] * 4
