"""One trace, told by three processes: this one asks, a worker has the job, a process of its executor runs the handler,
and that enqueues another job.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from support.eventually import eventually
from support.telemetry import Recorded, id_of, trace_of
from taurine import Taurine

TESTS = Path(__file__).parents[1]
WORKER = "import asyncio; from support.traced_worker import main; asyncio.run(main())"


async def test_a_trace_goes_through_all_processes(redis_url: str, prefix: str, tmp_path: Path) -> None:
    recorded, told = Recorded(), tmp_path / "spans"
    told.touch()
    settings = {
        "redis_url": redis_url,
        "database_url": f"sqlite:///{tmp_path / 'taurine.db'}",
        "home": str(tmp_path),
        "prefix": prefix,
    }
    app = Taurine("traced", telemetry=recorded.telemetry, **settings)  # pyright: ignore[reportArgumentType] - they are its own
    compute = app.declare("errand.compute", dict[str, str], str, queue="computing")
    app.declare("errand.keep", dict[str, str], str, queue="keeping")
    with recorded.tracer.start_as_current_span("request"):
        handle = await compute.enqueue({"to": "Ada"})
    own = {"TRACED_WORKER": json.dumps({**settings, "spans": str(told)}), "PYTHONPATH": str(TESTS)}
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER), stdin=asyncio.subprocess.PIPE, env={**os.environ, **own}
    )
    try:
        inner = await handle.result(timeout=30)
        assert await app.wait(inner, timeout=30)
        await eventually(lambda: "process keeping" in _by_name(told), within=20)
    finally:
        await app.close()
        assert worker.stdin is not None
        worker.stdin.close()
        await asyncio.wait_for(worker.wait(), 30)

    spans, enqueue = _by_name(told), recorded.one("enqueue errand.compute")
    assert {span["trace"] for span in spans.values()} == {trace_of(recorded.one("request"))}
    chain = ["process computing", "in a process of its own", "enqueue errand.keep", "process keeping"]
    parents = [f"{id_of(enqueue):016x}", *(spans[name]["span"] for name in chain)]
    assert [spans[name]["parent"] for name in chain] == parents[:-1]
    assert spans["in a process of its own"]["pid"] == spans["enqueue errand.keep"]["pid"] != worker.pid
    assert spans["process computing"]["pid"] == spans["process keeping"]["pid"] == worker.pid


def _by_name(file: Path) -> dict[str, dict[str, Any]]:
    """The spans that were told so far."""
    spans = [json.loads(line) for line in file.read_text().splitlines()]
    return {span["name"]: span for span in spans}
