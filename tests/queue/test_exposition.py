"""What a queue holds as text for Prometheus (BMQ-137)."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.site import Site
from taurine.errors import InvalidOption, Permanent
from taurine.queue import Job, Queue


async def work(job: Job) -> None:
    if job.data.get("fails"):
        raise Permanent("no")


async def test_a_scrape_parses_and_counts_bmq_137(site: Site) -> None:
    await site.queue.add_many([("work", {}), ("work", {}), ("work", {"fails": True})])
    async with site.working(work, metrics_points=60):
        await site.until(completed=2, failed=1)
    await site.queue.add("later", {}, delay=60)
    text = await site.queue.prometheus(labels={"env": "live"})
    samples = {
        (sample.name, sample.labels.get("state")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels["queue"] == site.queue.name and sample.labels["env"] == "live"
    }
    assert samples["bullmq_job_count", "completed"] == 2
    assert samples["bullmq_job_count", "delayed"] == 1
    assert samples["bullmq_job_completed_total", None] == 2
    assert samples["bullmq_job_failed_total", None] == 1
    assert len(samples) == len(await site.queue.counts()) + 2


async def test_values_are_escaped_bmq_137(site: Site) -> None:
    value = 'a "quoted" \\ back\nslash'
    (family, *_) = text_string_to_metric_families(await site.queue.prometheus(labels={"note": value}))
    assert {sample.labels["note"] for sample in family.samples} == {value}


@pytest.mark.parametrize("label", ["", "1st", "a-b", "__name__", "queue", "state", 'x"} 1\nforged{y="'])
async def test_a_label_that_cannot_be_one_is_refused(queue: Queue, label: str) -> None:
    with pytest.raises(InvalidOption, match="label"):
        await queue.prometheus(labels={label: "x"})
