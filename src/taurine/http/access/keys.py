"""API keys as requests bring them: `Authorization: Bearer taurine_…`."""

from __future__ import annotations

from hashlib import sha256

from taurine.clock import Clock
from taurine.errors import Unauthenticated
from taurine.http.access.caller import Caller
from taurine.http.access.recent import Recent
from taurine.jobs.credentials.api_keys import ApiKey, ApiKeys

__all__ = ["KeyRing"]

_REMEMBERED = 10_000
"""Keys that one process remembers, some hundred bytes each."""


class KeyRing:
    """The keys that were seen of late, so that a busy one costs no read for each request. heard_within: seconds."""

    def __init__(self, keys: ApiKeys, *, heard_within: float, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._recent: Recent[ApiKey] = Recent(seconds=heard_within, size=_REMEMBERED, clock=clock)

    async def caller(self, text: str) -> Caller:
        """Whose key this is. Raises Unauthenticated, LedgerUnavailable."""
        name = sha256(text.encode(errors="replace")).digest()  # so that no memory of ours holds a key
        key = self._recent.get(name)
        if key is None:
            key = await self._keys.verify(text)
            self._recent.put(name, key)
        elif not key.valid(self._clock.now()):
            raise Unauthenticated("the API key has expired")
        return Caller(name=key.name, scopes=key.scopes, tenant=key.tenant)
