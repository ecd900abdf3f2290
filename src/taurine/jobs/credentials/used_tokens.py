"""Public tokens of one use: the first use counts, in whichever process."""

from __future__ import annotations

from collections.abc import Callable

from taurine.clock import now_ms
from taurine.jobs.backend import Backend
from taurine.ledger.used_tokens import use_token

__all__ = ["UsedTokens"]


class UsedTokens:
    """The tokens of one use that were used: `Taurine.used_tokens`."""

    def __init__(self, backend: Callable[[], Backend]) -> None:
        self._backend_here = backend

    async def use(self, token_id: str, *, expires: float) -> bool:
        """Use a token; False where it was used before, by anybody.

        expires: when it may be forgotten, wall seconds. Atomic. Raises LedgerUnavailable.
        """
        backend = self._backend_here()
        await backend.ready()
        now = now_ms(backend.clock)
        until = round(expires * 1000)
        return await backend.database.write(lambda connection: use_token(connection, token_id, now, until))
