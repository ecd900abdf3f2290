"""API keys that were revoked or have expired: which of ours a refused one is, so that operators find who still uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from math import inf

from taurine.clock import Clock
from taurine.errors import LedgerError
from taurine.jobs.credentials.api_keys import KEY_PATTERN, ApiKey, ApiKeys

__all__ = ["EndedKeys"]

_PAUSE = 15.0
"""Seconds between two reads: who shows wrong keys causes no more of them."""

_PAGES = 10
"""Of 500 keys each, the newest first."""


class EndedKeys:
    """Keys that are over, by the ids in what callers show. Of more than 5,000 keys the newest are known.

    What it keeps is read from the ledger alone, at most every 15 seconds.
    """

    def __init__(self, keys: ApiKeys, *, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._ending: Mapping[str, ApiKey] = {}
        self._read_again_at = -inf
        self._reading = asyncio.Lock()

    async def find(self, text: str) -> ApiKey | None:
        """The key of ours whose id a refused text has, if it is over; None for all others, and while the ledger is away.

        The secret is not compared: who has the id of a key that is over can be taken for its user.
        """
        match = KEY_PATTERN.fullmatch(text)
        if match is None:
            return None
        key = (await self._ending_now()).get(match[1])
        return None if key is None or key.valid(self._clock.now()) else key

    async def _ending_now(self) -> Mapping[str, ApiKey]:
        async with self._reading:
            if self._clock.monotonic() >= self._read_again_at:
                # First, so that a ledger that is slow or away is not asked for each refusal.
                self._read_again_at = self._clock.monotonic() + _PAUSE
                with suppress(LedgerError):
                    self._ending = await self._read()
        return self._ending

    async def _read(self) -> Mapping[str, ApiKey]:
        ending: dict[str, ApiKey] = {}
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await self._keys.list(cursor=cursor)
            ending |= {key.id: key for key in page if key.revoked is not None or key.expires is not None}
            if (cursor := page.next_cursor) is None:
                break
        return ending
