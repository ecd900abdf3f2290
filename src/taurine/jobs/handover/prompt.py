"""Handing over in the call that recorded: at once, and without making its caller wait for a server that does not
answer.

The jobs are recorded, so nothing is lost and nothing is raised: what does not go is the outbox's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from taurine.clock import Clock
from taurine.errors import EmbeddedServerError, LedgerError, StoreError
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.ledger.records import JobRecord, NewRecord

__all__ = ["PromptHandOver"]

log = logging.getLogger("taurine.jobs")

_SECONDS = 0.5
"""Seconds that a caller waits for the queue to take the jobs; then it returns."""

_SECONDS_EACH = 0.001
"""Seconds beside those, for each job of a list."""

_PAUSE = 1.0
"""Seconds after a failure in which jobs are left to the outbox at once: nobody waits for a server that is down."""


class PromptHandOver:
    """Used on one event loop, by all calls that record jobs there.

    undelivered: told when jobs were recorded that the queue did not take.
    """

    def __init__(self, *, dispatcher: Dispatcher, undelivered: Callable[[], None], clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._undelivered = undelivered
        self._clock = clock
        self._down_until = 0.0

    async def hand_over(self, *, new: Sequence[NewRecord] = (), again: Sequence[JobRecord] = ()) -> None:
        """Give jobs to their queues that were recorded just now.

        new: of one request. again: new generations of jobs that were there.
        """
        if not new and not again:
            return
        if self._clock.monotonic() < self._down_until:
            self._undelivered()
            return
        within = _SECONDS + (len(new) + len(again)) * _SECONDS_EACH
        try:
            if new:
                await self._dispatcher.dispatch_new(new, within=within)
            if again:
                async with asyncio.timeout(within):
                    await self._dispatcher.dispatch(again)
        except (StoreError, EmbeddedServerError, TimeoutError) as error:
            self._pause(error)
        except LedgerError as error:
            # Only their stamps are missing, perhaps: they are added again then, which changes nothing.
            log.info("recorded jobs wait for the ledger: %s", error)
            self._undelivered()
        except asyncio.CancelledError:
            self._undelivered()
            raise
        except Exception:
            log.exception("recorded jobs could not be handed over; the outbox tries again")
            self._undelivered()

    def _pause(self, error: Exception) -> None:
        now = self._clock.monotonic()
        if now >= self._down_until:
            reason = str(error) or f"it gave no answer within {_SECONDS:g} s"
            log.warning("jobs are recorded and wait for the server of queues: %s", reason)
        self._down_until = now + _PAUSE
        self._undelivered()
