from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any

from taurine.testing import drain


def test_the_program_enqueues_and_its_worker_works(started: Callable[..., str]) -> None:
    archived = [f"archived 2026-03-0{day}" for day in range(8, 1, -1)]

    assert started("plain_script").splitlines() == ["7 jobs accepted", *archived]
    assert started("plain_script").splitlines() == ["0 jobs accepted", *archived]


async def test_what_a_script_enqueues_waits_for_a_worker(imported: Callable[..., Any]) -> None:
    example = imported("plain_script")
    job_ids = await asyncio.to_thread(example.enqueue_week, date(2026, 3, 8))
    await asyncio.to_thread(example.app.close_sync)

    drained = await drain(example.app)

    assert {record.id: record.output for record in drained.completed} == {
        f"archive:2026-03-0{day}": f"archived 2026-03-0{day}" for day in range(2, 9)
    }
    assert sorted(job_ids) == sorted(drained)
