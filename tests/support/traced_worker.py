"""A worker that writes its spans into a file; `TRACED_WORKER` in the environment has its settings, and `spans`, the
file. It ends with its input.

The application is this module's, so that the processes of its executor import it too, and write into the same file.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from pydantic import BaseModel

from taurine import Taurine
from taurine.observe.otel import OpenTelemetry

SETTINGS: dict[str, Any] = json.loads(os.environ["TRACED_WORKER"])


class Errand(BaseModel):
    to: str


class _IntoFile(SpanExporter):
    """A line for each span: what it is called, whose it is, and which process has told it."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(SETTINGS["spans"]).open("a") as file:
            for span in spans:
                context, parent = span.get_span_context(), span.parent
                assert context is not None
                line = {
                    "name": span.name,
                    "trace": f"{context.trace_id:032x}",
                    "span": f"{context.span_id:016x}",
                    "parent": None if parent is None else f"{parent.span_id:016x}",
                    "pid": os.getpid(),
                }
                file.write(f"{json.dumps(line)}\n")
        return SpanExportResult.SUCCESS


provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(_IntoFile()))
options = {name: value for name, value in SETTINGS.items() if name != "spans"}
app = Taurine("traced", telemetry=OpenTelemetry(provider), **options)


@app.job("errand.keep", queue="keeping")
async def keep(errand: Errand) -> str:
    return errand.to


@app.job("errand.compute", queue="computing", runs_in="process")
def compute(errand: Errand) -> str:
    with provider.get_tracer("handler").start_as_current_span("in a process of its own"):
        return keep.enqueue_sync(errand).id


async def main() -> None:
    async with app, app.worker(max_processes=1):
        await asyncio.to_thread(sys.stdin.read)
