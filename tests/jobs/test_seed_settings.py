"""Where the queues are, and what they are called: said once, and wrong settings are told at the start (SEED-005, 006,
101, 241).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.queue import Queue


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TAURINE_") or name == "REDIS_URL":
            monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["ticket-triage", "ticket-sorting"])
async def test_a_queues_name_is_said_once(
    app_factory: Callable[..., Taurine], raw: RawStore, prefix: str, name: str
) -> None:
    """SEED-005: producer and worker share the declaration, so a renamed queue is renamed for both."""

    def declare(app: Taurine):
        return app.declare("ticket.triage", int, int, queue=name)

    producer, consumer = app_factory(), app_factory()
    triage = declare(producer)

    @declare(consumer).handler
    async def run(number: int) -> int:
        return number + 1

    handle = await triage.enqueue(1)
    assert await raw.llen(f"{prefix}:{name}:wait") == 1
    async with consumer.worker() as worker:
        assert worker.queues == [name]
        assert await handle.result(timeout=10) == 2


async def test_names_of_the_queue_the_job_and_the_code_are_mapped_in_one_place(
    app: Taurine, raw: RawStore, prefix: str
) -> None:
    """SEED-241: the queue's is written as queues are, the function's as Python is, and each is found from the others."""

    @app.job("data-export.run", queue="data-exports")
    async def run_data_export(number: int) -> None: ...

    @app.job("account-deletion.run", queue="account-deletions")
    async def run_account_deletion(number: int) -> None: ...

    for queue, job, function in (
        ("data-exports", "data-export.run", "run_data_export"),
        ("account-deletions", "account-deletion.run", "run_account_deletion"),
    ):
        (declared,) = app.catalog.on_queue(queue)
        assert (declared.name, declared.function.__name__) == (job, function)
        assert app.catalog.get(job) is declared
        handle = await declared.enqueue(1)
        assert await raw.hget(f"{prefix}:{queue}:{handle.id}", "name") == job


# The address of the store ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bare_environment")
async def test_production_without_an_address_is_an_error_at_the_start(tmp_path: Path) -> None:
    """SEED-006: and not queues of each machine's own that nobody has asked for."""
    home = tmp_path / "home"
    app = Taurine("shop", home=home, env="production")

    @app.job("number.square")
    async def square(number: int) -> int:
        return number * number

    for start in (lambda: square.enqueue(3), lambda: app.worker().run(), app.__aenter__, lambda: app.get("x")):
        with pytest.raises(InvalidOption, match="TAURINE_REDIS_URL or REDIS_URL, in production"):
            await start()
    await app.close()

    assert not home.exists(), "nothing was made or started"


@pytest.mark.usefixtures("bare_environment")
@pytest.mark.parametrize("variable", ["TAURINE_REDIS_URL", "REDIS_URL"])
async def test_production_takes_the_address_from_the_environment(
    redis_socket_url: str, sqlite_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """SEED-006."""
    monkeypatch.setenv(variable, redis_socket_url)
    app = Taurine("shop", env="production", database_url=sqlite_url, prefix=prefix)

    await app.declare("number.square", int).enqueue(3)
    await app.close()

    async with Queue("jobs", redis_socket_url, prefix=prefix) as queue:
        assert (await queue.counts())["waiting"] == 1


@pytest.mark.usefixtures("bare_environment")
async def test_development_without_an_address_has_a_store_of_its_own(tmp_path: Path, raw: RawStore) -> None:
    """SEED-101: a real server in the home, and none of those that others use."""
    app = Taurine("shop", home=tmp_path / "home")

    @app.job("number.square")
    async def square(number: int) -> int:
        return number * number

    async with app, app.worker():
        assert await (await square.enqueue(3)).result(timeout=10) == 9
        assert (await app._backend().redis_url()).startswith("unix://")

    assert not await raw.keys("bull:*")
