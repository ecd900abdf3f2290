"""`taurine bench`: what it measures, and that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from cli.terminal import Terminal
from embedded.processes import processes_on
from support.eventually import eventually
from taurine.app import Taurine


async def what_is_left(app: Taurine, raw: Redis, prefix: str) -> tuple[int, list[str]]:
    """Records of it, and keys of its queues."""
    records = [record async for record in app.list(type="taurine.bench")]
    return len(records), [key async for key in raw.scan_iter(f"{prefix}:taurine-bench*")]


async def test_it_measures_and_removes_what_it_has_added(
    taurine: Callable[..., Any], app: Taurine, raw: Redis, prefix: str
) -> None:
    for_people, for_programs = (
        await taurine("bench", "--jobs", "1500"),
        await taurine("bench", "--jobs", "50", "--concurrency", "5", "--json"),
    )

    assert for_people.code == 0, for_people.err
    assert "jobs a second (1,500 in " in for_people.out
    assert "enqueue 1,000 of 1,500 (67%)" in for_people.err
    assert for_programs.json["jobs"] == 50
    assert all(value > 0 for value in for_programs.json.values())
    assert await what_is_left(app, raw, prefix) == (0, [])


@pytest.mark.parametrize("stage", ["enqueue", "run", "one by one"])
async def test_ctrl_c_at_every_stage_leaves_nothing(
    terminal: Callable[..., Terminal], app: Taurine, raw: Redis, prefix: str, stage: str
) -> None:
    jobs = {"enqueue": "300000", "run": "3000", "one by one": "10"}[stage]
    bench = terminal("bench", "--jobs", jobs, "--concurrency", "1" if stage == "run" else "100")
    await bench.until(rf"{stage}\b.* of ")

    bench.press("\x03")

    assert await bench.ended(60) == 130
    assert "Traceback" not in bench.text
    assert await what_is_left(app, raw, prefix) == (0, [])


async def test_private_servers_end_with_it(
    terminal: Callable[..., Terminal], private: dict[str, str], tmp_path: Path
) -> None:
    bench = terminal("bench", "--jobs", "20", environment=private)

    assert await bench.ended() == 0
    await eventually(lambda: not processes_on(tmp_path), 15, "processes outlive the command")
