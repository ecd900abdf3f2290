"""What a user writes of pipelines.

A line that ends in `error: rule` must be refused by the type checker for that rule, and no other line may be.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_type

from taurine import Context, JobType, Pipeline, Stage, StageEvent, StageObserver, StageProgress, Taurine

app = Taurine("support-desk")


@dataclass
class Ticket:
    summary: str


@dataclass
class Loaded:
    words: list[str]


@dataclass
class LoadedFast(Loaded):
    pass


@dataclass
class Triage:
    category: str


async def load(ticket: Ticket, ctx: Context) -> LoadedFast:
    await ctx.progress(1, 2)
    return LoadedFast(ticket.summary.split())


def classify(loaded: Loaded) -> Triage:
    return Triage(loaded.words[0])


def classify_for(language: str, loaded: Loaded, ctx: Context) -> Triage:
    return Triage(loaded.words[0] + language)


async def route(triage: Triage) -> str:
    return triage.category


def notify(queue: str, ctx: Context) -> None: ...


async def same(queue: str) -> str:
    return queue


# What a tuple of stages takes and returns is known, and that they fit.

assert_type(Pipeline("p", (load,)), Pipeline[Ticket, LoadedFast])
assert_type(Pipeline("p", (load, classify)), Pipeline[Ticket, Triage])
assert_type(Pipeline("p", (load, classify, route)), Pipeline[Ticket, str])
assert_type(Pipeline("p", (load, classify, route, notify)), Pipeline[Ticket, None])
assert_type(Pipeline("p", (load, classify, route, same, same, same, same, notify)), Pipeline[Ticket, None])
assert_type(Pipeline("p", (load, classify, route, same, same, same, same, same, same, notify)), Pipeline[Ticket, Any])
assert_type(Pipeline("p", (load, Stage("c", classify, weight=3), Stage("r", route))), Pipeline[Ticket, str])
assert_type(Pipeline("p", (load, partial(classify_for, "de"), route)), Pipeline[Ticket, str])
assert_type(Stage("load", load), Stage[Ticket, LoadedFast])
assert_type(Stage("classify", classify, weight=0.5), Stage[Loaded, Triage])

Pipeline("p", (load, route))  # error: reportArgumentType
Pipeline("p", (classify, load))  # error: reportArgumentType
Pipeline("p", (load, classify, notify))  # error: reportArgumentType
Pipeline("p", (load, classify, route, Stage("c", classify)))  # error: reportArgumentType
Pipeline("p", (load, classify, route, same, same, same, same, route))  # error: reportArgumentType
Pipeline("p", (load, 3))  # error: reportArgumentType
Pipeline("p", ())  # error: reportArgumentType
Pipeline("p", [load, 3])  # error: reportArgumentType
Pipeline("p", (load,), observer=None)  # error: reportCallIssue
Stage("load", load, "heavy")  # error: reportCallIssue
Stage("load", load, weight="heavy")  # error: reportArgumentType

# A list is of one type: what comes out of it has to be said.

from_list: Pipeline[Ticket, str] = Pipeline("p", [load, classify, route])
assert_type(Pipeline("p", [load, classify]), Pipeline[Any, Any])

triage = Pipeline("ticket-triage", (load, classify, route))
triage_job = app.pipeline(triage, queue="triage", timeout=60)
assert_type(triage_job, JobType[Ticket, str])
app.pipeline(triage, name="ticket.triage", ques="triage")  # error: reportCallIssue
app.pipeline(load)  # error: reportArgumentType


class Told(StageObserver):
    async def stage_started(self, event: StageEvent) -> None:
        print(event.stage, event.job_id, event.trace)

    def stage_progressed(self, event: StageProgress) -> None:
        print(event.share, event.message)


class Plain:
    """An observer that is derived from nothing."""

    def stage_started(self, event: StageEvent) -> None: ...

    def stage_progressed(self, event: StageEvent) -> None: ...

    def stage_completed(self, event: StageEvent) -> None: ...

    async def stage_failed(self, event: StageEvent) -> None: ...


class Half:
    def stage_started(self, event: StageEvent) -> Awaitable[None] | None: ...


Pipeline("p", (load,), observers=[Told(), Plain()])
Pipeline("p", (load,), observers=[Half()])  # error: reportArgumentType


async def use(ctx: Context) -> None:
    assert_type(await triage.run(Ticket("no invoice")), str)
    assert_type(await from_list.run(Ticket("no invoice"), ctx, observers=[Told()]), str)
    assert_type(await (await triage_job.enqueue(Ticket("no invoice"))).result(timeout=5), str)
    await triage.run(Triage("billing"))  # error: reportArgumentType
    await triage_job.enqueue(Loaded([]))  # error: reportArgumentType
