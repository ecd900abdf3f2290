"""The garbage collector is set only in a process that is the worker's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, gc, sys
from taurine import Taurine

app = Taurine("collected", home=sys.argv[1])

@app.job("noop")
async def noop(payload: int) -> None: ...

async def main():
    worker = app.worker()
    async with app:
        running = asyncio.create_task(worker.run(handle_signals=sys.argv[2] == "own"))
        while not worker.is_ready:
            assert not running.done(), running.result()
            await asyncio.sleep(0.01)
        await worker.stop()
        await running
    print(gc.get_freeze_count() > 10_000, gc.get_threshold()[0] >= 10_000)

asyncio.run(main())
"""


@pytest.mark.parametrize(("whose", "printed"), [("own", "True True"), ("shared", "False False")])
def test_only_a_process_of_its_own_is_changed(tmp_path: object, whose: str, printed: str) -> None:
    """A worker beside a web server leaves the collector as the program has it."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), whose], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.strip() == printed, ended.stderr
