"""What is declared of queues, on a server that has forgotten it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from taurine.jobs.catalog.catalog import Catalog
from taurine.queue import Queue

__all__ = ["restore_rules"]


async def restore_rules(catalog: Catalog, queue_of: Callable[[str], Awaitable[Queue]]) -> None:
    """Set what is declared of a queue and is not set, as after a loss of the server's data.

    What an operator has set otherwise stays.

    queue_of: the queue of a name. Raises StoreUnavailable, StoreRefused.
    """
    for name in catalog.queues:
        rules = catalog.rules_of(name)
        if rules.concurrency is None and rules.rate_limit is None:
            continue
        queue = await queue_of(name)
        meta = await queue.meta()
        if rules.concurrency is not None and meta.concurrency is None:
            await queue.set_concurrency(rules.concurrency)
        if rules.rate_limit is not None and meta.rate_limit is None:
            await queue.set_rate_limit(rules.rate_limit)
