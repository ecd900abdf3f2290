"""Whether a process can do its work: do the servers answer, and are the tables those of this version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from taurine.errors import EmbeddedServerError, LedgerError, StoreError
from taurine.jobs.backend import Backend
from taurine.ledger.migrate import check_schema

__all__ = ["Readiness", "look_whether_ready"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """What stands in the way, in words that may name hosts; None for nothing.

    Jobs are accepted without the store, and not without the ledger.
    """

    ledger: str | None
    store: str | None

    @property
    def accepts(self) -> bool:
        """Whether jobs can be accepted and looked at."""
        return self.ledger is None

    @property
    def runs(self) -> bool:
        """Whether jobs can be run."""
        return self.ledger is None and self.store is None


async def look_whether_ready(backend: Backend, *, within: float) -> Readiness:
    """See `Taurine.readiness`."""
    return Readiness(
        *await asyncio.gather(
            _trouble(partial(_ask_ledger, backend), within), _trouble(partial(_ask_store, backend), within)
        )
    )


async def _ask_ledger(backend: Backend) -> None:
    await backend.ready()
    await check_schema(backend.database)


async def _ask_store(backend: Backend) -> None:
    await (await backend.connection()).call("PING")


async def _trouble(ask: Callable[[], Awaitable[None]], within: float) -> str | None:
    try:
        async with asyncio.timeout(within):
            await ask()
    except (LedgerError, StoreError, EmbeddedServerError) as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {within:g} s"
    return None
