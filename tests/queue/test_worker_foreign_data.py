"""What else may stand in a queue that others write to: the loop goes on, and says what it met (A21)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.eventually import eventually
from support.site import Site
from taurine.queue.job import Job


class Recording:
    def __init__(self) -> None:
        self.seen: list[Job] = []

    async def __call__(self, job: Job) -> str:
        self.seen.append(job)
        return "done"

    @property
    def ids(self) -> list[str]:
        return [job.id for job in self.seen]


GOOD = {"name": "n", "data": "{}", "opts": "{}", "timestamp": "1", "delay": "0", "priority": "0"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", "{no json"),
        ("data", "\xff\xfe"),
        ("data", "[" * 100_000),
        ("opts", "{no json"),
        ("opts", "[]"),
        ("opts", '{"attempts":"many"}'),
        ("opts", '{"backoff":{"delay":1}}'),
        ("opts", '{"backoff":{"type":"exponential","delay":-5}}'),
        ("opts", '{"backoff":[1]}'),
        ("opts", '{"removeOnComplete":{"count":"x"}}'),
        ("opts", '{"removeOnFail":"yes"}'),
        ("opts", '{"stackTraceLimit":"two"}'),
        ("opts", '{"de":5}'),
        ("timestamp", "yesterday"),
        ("timestamp", None),
        ("data", None),
        ("name", None),
        ("opts", None),
        ("atm", "x"),
        ("ats", "x"),
        ("stc", "x"),
        ("priority", "x"),
        ("delay", "x"),
        ("stacktrace", "5"),
        ("stacktrace", "{no json"),
        ("progress", "{no json"),
        ("returnvalue", "{no json"),
        ("parent", "[]"),
        ("processedOn", "x"),
        ("finishedOn", "x"),
    ],
)
async def test_whatever_a_hash_holds_the_job_ends_and_the_loop_goes_on(
    site: Site, field: str, value: str | None
) -> None:
    """A field that must be read fails the job with a reason that names it; others may be anything."""
    handler = Recording()
    stored: dict[str, str | bytes] = {**GOOD, field: value or ""}
    if value is None:
        del stored[field]
    elif not value.isascii():
        stored[field] = value.encode("latin-1")
    await site.raw.hset(site.keys.job("bad"), mapping=stored)  # pyright: ignore[reportArgumentType] - bytes are fine
    await site.raw.lpush(site.keys.wait, "bad")
    await site.queue.add("work", job_id="good")
    async with site.working(handler, concurrency=1):
        await eventually(lambda: site.raw.zscore(site.keys.completed, "good"))

    counts = await site.counts()
    assert counts.get("failed", 0) + counts["completed"] == 2
    if counts.get("failed"):
        reason = await site.raw.hget(site.keys.job("bad"), "failedReason")
        assert reason is not None
        assert "bad" in reason
        assert field in reason


@pytest.mark.parametrize("left_out", ["delay", "priority"])
async def test_six_fields_that_are_not_those_of_a_new_job(site: Site, left_out: str) -> None:
    """A new job's are read by name, since that is all there are; here one of them is missing and another there."""
    handler = Recording()
    stored = {**GOOD, "data": '{"a":1}', "ats": "4"}
    del stored[left_out]
    await site.raw.hset(site.keys.job("odd"), mapping=stored)
    await site.raw.lpush(site.keys.wait, "odd")
    async with site.working(handler, concurrency=1):
        await eventually(lambda: site.raw.zscore(site.keys.completed, "odd"))

    (job,) = handler.seen
    assert (job.name, job.data, job.attempts_started) == ("n", {"a": 1}, 5)


@pytest.mark.parametrize("field", ["data", "opts"])
async def test_a_job_that_cannot_be_decoded_is_failed_with_a_reason_that_names_it(site: Site, field: str) -> None:
    handler = Recording()
    await site.queue.add("work", attempts=5, job_id="broken:one")
    stored = await site.raw.lindex(site.keys.wait, 0)
    await site.raw.hset(site.keys.job(stored), field, "{no json")
    async with site.working(handler):
        await site.until(failed=1)

    reason = (await site.hash(stored))["failedReason"]
    assert "'broken:one' of queue 'q'" in reason
    assert f"the stored {field} cannot be decoded" in reason
    assert handler.seen == []
    (trace,) = json.loads((await site.hash(stored))["stacktrace"])
    assert reason in trace


async def test_an_id_without_a_hash_is_dropped_and_reported(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    handler = Recording()
    await site.raw.lpush(site.keys.wait, "ghost")
    await site.raw.zadd(site.keys.prioritized, {"ghost-2": 2**32})
    await site.raw.zadd(site.keys.delayed, {"ghost-3": 4_096})
    await site.queue.add("work", job_id="real")
    async with site.working(handler, concurrency=1):
        await site.until(completed=1)
        await eventually(lambda: caplog.text.count("no job is stored under it") == 3)

    assert handler.ids == ["real"]
    assert all(f"'{ghost}'" in caplog.text for ghost in ("ghost", "ghost-2", "ghost-3"))
    assert await site.raw.keys(site.keys.job("ghost*")) == []


async def test_many_ids_without_a_hash_do_not_stop_the_loop(site: Site) -> None:
    handler = Recording()
    await site.raw.lpush(site.keys.wait, *(f"ghost-{number}" for number in range(9_000)))
    await site.queue.add("work", job_id="real")
    async with site.working(handler, concurrency=10):
        await site.until(completed=1)

    assert handler.ids == ["real"]


@pytest.mark.parametrize("place", ["wait", "prioritized", "delayed"])
@pytest.mark.parametrize("kind", ["string", "list", "zset"])
async def test_a_key_of_another_type_under_a_jobs_id_is_left_alone(
    site: Site, place: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Recording()
    key = site.keys.job("odd")
    if kind == "string":
        await site.raw.set(key, "text")
    elif kind == "list":
        await site.raw.rpush(key, "a")
    else:
        await site.raw.zadd(key, {"a": 1})
    if place == "wait":
        await site.raw.lpush(site.keys.wait, "odd")
    else:
        await site.raw.zadd(site.keys.key(place), {"odd": 4_096})
    await site.queue.add("work", job_id="real")
    async with site.working(handler, concurrency=1):
        await site.until(completed=1)
        await eventually(lambda: "'odd'" in caplog.text)

    assert handler.ids == ["real"]
    assert await site.raw.type(key) == kind


ODD_IDS: list[str] = [
    "0",
    "7",
    "-5",
    "12345678901234567890",
    "a:b",
    "a:b:c",
    "a:b:c:d",
    "0:x",
    "t%41",
    "t%",
    "100%",
    "ä/雪 😀",
    "id",
    "x" * 1_000,
    "' OR 1=1 --",
    "{tag}",
    "*",
]


async def test_ids_that_bullmq_would_refuse_come_back_as_given(site: Site) -> None:
    handler = Recording()
    ids = [job_id for job_id in ODD_IDS if job_id != "id"]
    for job_id in ids:
        job = await site.queue.add("work", {"id": job_id}, job_id=job_id)
        assert (job.id, job.duplicate) == (job_id, False)
    automatic = await site.queue.add("work", {"id": None})
    told: list[str] = []
    async with site.working(handler) as worker:
        worker.on("completed", lambda job, _: told.append(job.id))
        await site.until(completed=len(ids) + 1)
        await eventually(lambda: len(told) == len(ids) + 1)

    assert sorted(handler.ids) == sorted([*ids, automatic.id]) == sorted(told)
    assert all(job.data["id"] in {job.id, None} for job in handler.seen)
    for job_id in ids:
        again = await site.queue.add("work", {"id": "another"}, job_id=job_id)
        assert again.duplicate
        found = await site.queue.get_job(job_id)
        assert found is not None
        assert (found.id, found.data) == (job_id, {"id": job_id})


async def test_any_json_comes_back_as_given(site: Site) -> None:
    handler = Recording()
    payloads: list[Any] = [{}, [], "text", "", 0, -1.5, 2**60, True, False, {"a": [None, {"b": "ü\n\u2028😀\x00"}]}]
    for payload in payloads:
        await site.queue.add("work", payload)
    async with site.working(handler, concurrency=1):
        await site.until(completed=len(payloads))

    assert [job.data for job in handler.seen] == payloads
