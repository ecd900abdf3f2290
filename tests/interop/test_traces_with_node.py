"""Spans of Node and ours are of one trace, whichever side adds and whichever runs: BMQ-138.

What Node's side writes into a job and reads from it is as `bullmq-otel` has it: the JSON of W3C's headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.eventually import eventually
from support.node import NodeProcess
from support.telemetry import Recorded, id_of, parent_of, trace_of
from taurine.options import JobTelemetry
from taurine.queue import Job, Queue, Worker

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Node:
    """The script, its answers and the spans that it has told of."""

    def __init__(self, process: NodeProcess) -> None:
        self._process = process
        self.spans: list[dict[str, Any]] = []

    async def call(self, **message: Any) -> Any:
        self._process.send(message)
        while "done" not in (line := await self._process.receive()):
            self.spans.append(line["span"])
        return line["done"]

    async def span(self, name: str, job: str) -> dict[str, Any]:
        """The first span of this name that is about jobs of that name."""
        while not (found := [span for span in self.spans if (span["name"], span.get("job")) == (name, job)]):
            self.spans.append((await self._process.receive())["span"])
        return found[0]


@pytest.fixture
async def node(redis_url: str, prefix: str) -> AsyncIterator[Node]:
    async with NodeProcess("traces.mjs", redis_url, prefix, "q") as process:
        yield Node(process)


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
async def queue(redis_url: str, prefix: str, recorded: Recorded) -> AsyncIterator[Queue]:
    async with Queue("q", redis_url, prefix=prefix, telemetry=recorded.telemetry) as queue:
        yield queue


async def test_node_adds_and_we_run(node: Node, queue: Queue, recorded: Recorded, redis_url: str, prefix: str) -> None:
    async def handler(job: Job) -> None:
        if job.name == "again":
            await queue.add("inner", {})

    await node.call(add="again", within={"trace": TRACE, "span": SPAN})
    await node.call(bulk=["a", "b"])
    async with Worker("q", handler, redis_url, prefix=prefix, telemetry=recorded.telemetry):
        await eventually(lambda: len(recorded.spans("process q")) == 4)
    add = await node.span("add q.again", "again")
    assert (add["trace"], add["parent"]) == (TRACE, SPAN)
    ran = {str((span.attributes or {})["bullmq.job.name"]): span for span in recorded.spans("process q")}
    inner = recorded.one("add q.inner")
    assert (trace_of(ran["again"]), f"{parent_of(ran['again']):016x}") == (TRACE, add["span"])
    assert (parent_of(inner), parent_of(ran["inner"])) == (id_of(ran["again"]), id_of(inner))
    (bulk,) = [span for span in node.spans if span["name"] == "addBulk q"]
    assert {f"{parent_of(ran[name]):016x}" for name in ("a", "b")} == {bulk["span"]}


async def test_we_add_and_node_runs_and_adds_and_so_on(node: Node, queue: Queue, recorded: Recorded) -> None:
    with recorded.tracer.start_as_current_span("request"):
        await queue.add("again", {})
        await queue.add("omitted", {}, telemetry=JobTelemetry(omit_context=True))
    await node.call(work=True)

    add, trace_id = recorded.one("add q.again"), trace_of(recorded.one("request"))
    process = await node.span("process q", "again")
    inner = await node.span("add q.inner", "inner")
    ran = await node.span("process q", "inner")
    assert (process["trace"], process["parent"]) == (trace_id, f"{id_of(add):016x}")
    assert (inner["trace"], inner["parent"]) == (trace_id, process["span"])
    assert (ran["trace"], ran["parent"]) == (trace_id, inner["span"])
    assert (await node.span("process q", "omitted"))["trace"] != trace_id


async def test_attempts_of_both_sides_are_siblings(
    node: Node, queue: Queue, recorded: Recorded, redis_url: str, prefix: str
) -> None:
    """A job that has failed here, and is tried again there."""

    async def handler(job: Job) -> None:
        raise ValueError("not here")

    job = await queue.add("moved", {}, attempts=2, backoff=60)
    async with Worker("q", handler, redis_url, prefix=prefix, telemetry=recorded.telemetry):
        await eventually(lambda: recorded.measures().get("bullmq.jobs.delayed"))
    await queue.promote_jobs()
    await node.call(work=True)

    theirs = await node.span("process q", "moved")
    assert theirs["parent"] == f"{id_of(recorded.one('add q.moved')):016x}"
    stored = await queue.get_job(job.id)
    assert stored is not None
    assert f"{id_of(recorded.one('process q')):016x}" in str(stored.failed_trace)
