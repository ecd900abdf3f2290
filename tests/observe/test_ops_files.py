"""The dashboard and the alert rules in `ops/`: made of metrics that there are, checked by promtool, evaluated by a real
Prometheus.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.eventually import eventually
from support.prometheus import binary
from taurine import Context
from taurine.app import Taurine
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.worker.worker import JobWorker
from taurine.observe.health_port import WorkerHealth

ROOT = Path(__file__).parents[2]
RULES = ROOT / "ops" / "prometheus" / "taurine.rules.yml"
DASHBOARD = ROOT / "ops" / "grafana" / "taurine.json"
GUIDE = ROOT / "docs" / "guides" / "metrics-and-health.md"

NAME = re.compile(r"\b(?:taurine|bullmq)_[a-z_]+")
SELECTOR = re.compile(r"\b((?:taurine|bullmq)_[a-z_]+)\{([^}]*)\}")

Exposed = dict[str, set[str]]
"""Names of samples, each with the names of its labels."""


async def nothing(ctx: Context) -> None: ...


@pytest.fixture
async def worker(app: Taurine) -> AsyncIterator[JobWorker]:
    """A worker with a health port that has run a job."""

    @app.job("report.render", queue="reports")
    async def render(_: int) -> None: ...

    app.cron("0 3 * * *", id="nightly", queue="reports")(nothing)
    async with app:
        await render.enqueue(1)
        async with app.worker(health_port=0, upkeep=Upkeep(report_every=0.05, reconcile_every=0.05)) as running:
            await eventually(lambda: _counted(app))
            yield running


async def _counted(app: Taurine) -> bool:
    return any(one.of("completed") for one in await app.totals())


def port_of(worker: JobWorker) -> int:
    health = worker._health
    assert isinstance(health, WorkerHealth)
    assert health.port
    return health.port


@pytest.fixture
async def exposed(worker: JobWorker) -> Exposed:
    answer = await asyncio.to_thread(httpx2.get, f"http://127.0.0.1:{port_of(worker)}/metrics")
    found: Exposed = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[str]:
    """Those of the rules, and of the dashboard."""
    rules = RULES.read_text()
    board = json.loads(DASHBOARD.read_text())
    targets = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    queries = [variable["query"]["query"] for variable in board["templating"]["list"] if "refresh" in variable]
    # Of the rules, what is no annotation.
    lines = [line for line in rules.splitlines() if "summary:" not in line and "description:" not in line]
    return [*targets, *queries, *lines]


async def test_rules_and_dashboard_ask_for_metrics_that_there_are(exposed: Exposed) -> None:
    """SEED-072, 073, 152, 179, 187 to 189: also where no promtool is."""
    asked = {name for text in expressions() for name in NAME.findall(text)}
    assert len(asked) > 15
    assert asked - exposed.keys() == set()
    for text in expressions():
        for name, selector in SELECTOR.findall(text):
            labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))
            assert labels <= exposed[name], f"{name} has no label {labels - exposed[name]}"


async def test_each_metric_is_in_the_guide(exposed: Exposed) -> None:
    """SEED-248: own names and aliases are documented."""
    guide = GUIDE.read_text()
    for name in exposed:
        plain = re.sub(r"_(?:bucket|sum|count|created)$", "", name) if "_seconds_" in name else name
        assert f"`{plain}`" in guide, f"{plain} is not in {GUIDE.name}"


def test_the_dashboards_panels_do_not_lie_over_each_other() -> None:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_promtool_takes_the_rules_and_they_fire_when_they_should() -> None:
    """SEED-072, 073, 179, 187 to 189."""
    promtool = binary("promtool")
    for words in (["check", "rules", RULES.name], ["test", "rules", "taurine.rules.test.yml"]):
        run = subprocess.run([promtool, *words], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


async def test_a_real_prometheus_scrapes_and_evaluates(worker: JobWorker, tmp_path: Path) -> None:
    """SEED-071, ING-84, CON-25: the scrape has no error, and each rule is evaluated without one."""
    prometheus, port = binary("prometheus"), _free_port()
    (tmp_path / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: ["{RULES}"]
scrape_configs:
  - job_name: taurine
    static_configs: [{{targets: ["127.0.0.1:{port_of(worker)}"]}}]
""")
    process = await asyncio.create_subprocess_exec(
        prometheus,
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:

            async def asked(path: str, **query: str) -> Any:
                try:
                    return (await client.get(path, params=query)).json()["data"]
                except (httpx2.TransportError, ValueError, KeyError) as error:
                    raise AssertionError(f"no answer yet: {error}") from None

            async def scraped() -> Any:
                query = 'taurine_job_outcomes_total{queue="reports", outcome="completed"}'
                return (await asked("/query", query=query))["result"]

            async def evaluated() -> Any:
                (group,) = (await asked("/rules"))["groups"]
                assert all(rule["health"] == "ok" for rule in group["rules"]), group["rules"]
                return group["rules"]

            found = await eventually(scraped, 30, "nothing was scraped", every=0.1)
            assert [sample["value"][1] for sample in found] == ["1"]
            (target,) = (await asked("/targets"))["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            rules = await eventually(evaluated, 30, "the rules are not evaluated", every=0.1)
            assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    finally:
        process.terminate()
        await process.wait()
