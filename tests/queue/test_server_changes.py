"""Which process of a server answers, and who makes good what it may have lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.eventually import eventually
from support.server import ValkeyServer
from support.store import RawStore
from taurine.queue.connection import Connection
from taurine.queue.server_changes import ServerChanges

NOW = 1_800_000_000_000


@pytest.fixture
def changes(connection: Connection, prefix: str) -> ServerChanges:
    return ServerChanges(connection, prefix)


async def test_a_server_that_is_seen_first_has_changed_now_and_then_no_more(changes: ServerChanges) -> None:
    first = await changes.latest(NOW)
    assert (first.since_ms, first.made_good) == (0, False), "nothing is left from before"
    assert await changes.latest(NOW + 5000) == first


async def test_another_process_is_a_change_that_reaches_back_over_skewed_clocks(
    changes: ServerChanges, raw: RawStore, prefix: str
) -> None:
    await changes.made_good(await changes.latest(NOW))
    await raw.set(f"{prefix}::taurine:server", f"another-process {NOW}")

    change = await changes.latest(NOW + 1000)

    assert (change.since_ms, change.made_good) == (NOW + 11_000, False)
    assert await changes.latest(NOW + 2000) == change


async def test_a_server_that_is_restarted_is_another_process(
    server_factory: Callable[..., ValkeyServer], prefix: str
) -> None:
    server = server_factory(appendonly="yes")
    connection = Connection.to(server.url)
    changes = ServerChanges(connection, prefix)
    await changes.made_good(await changes.latest(NOW))
    assert (await changes.latest(NOW)).made_good

    server.stop()
    server.start()

    assert not (await changes.latest(NOW)).made_good
    await connection.close()


async def test_a_server_that_has_lost_everything_has_changed(
    changes: ServerChanges, raw: RawStore, prefix: str
) -> None:
    await changes.made_good(await changes.latest(NOW))
    await raw.delete(*[key async for key in raw.scan_iter(match=f"{prefix}:*")])

    change = await changes.latest(NOW + 1000)

    assert (change.since_ms, change.made_good) == (0, False)


async def test_a_second_loss_of_everything_is_another_change(
    changes: ServerChanges, raw: RawStore, prefix: str
) -> None:
    """What was made good was the first one."""
    first = await changes.latest(NOW)
    await raw.delete(*[key async for key in raw.scan_iter(match=f"{prefix}:*")])
    await changes.latest(NOW + 1)

    await changes.made_good(first)

    assert not (await changes.latest(NOW + 2)).made_good


async def test_what_is_made_good_is_of_one_change(changes: ServerChanges, raw: RawStore, prefix: str) -> None:
    change = await changes.latest(NOW)
    await raw.set(f"{prefix}::taurine:server", f"another-process {NOW}")
    later = await changes.latest(NOW)

    await changes.made_good(change)
    assert not (await changes.latest(NOW)).made_good
    await changes.made_good(later)
    assert (await changes.latest(NOW)).made_good


async def test_one_has_the_claim_until_it_runs_out(changes: ServerChanges) -> None:
    assert await changes.claim("a", 60)
    assert not await changes.claim("b", 60)
    assert await changes.claim("a", 60), "who has it keeps it"
    assert await changes.claim("a", 0.01)

    async def free() -> bool:
        return await changes.claim("c", 60)

    await eventually(free, 5, "the claim of one that died did not run out")
