"""A program that forks workers, one after the other, each of which is killed at the moment of the test's choice.

    python dying_workers.py '{"redis_url": …, "database_url": …, "prefix": …, "home": …, "kills": 50, "points":
    ["before", "during", "after"]}'

Each worker takes orders that fail, and kills itself (SIGKILL) once, at the first last failure that it meets: before its
commit, during it, or after it and before the queue is told; or, at the point "handler", while the first handler runs.
Ends when `kills` workers are dead; prints how many died by each point.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from jobs.operated import Order, declare_orders
from taurine.app import Taurine
from taurine.ledger.endings import Ending
from taurine.ledger.group_commit import GroupCommit
from taurine.retry import Retry

__all__ = ["make_app"]


def make_app(settings: dict[str, Any]) -> Taurine:
    """The application of the workers and of the test."""
    return Taurine("dying", **{name: settings[name] for name in ("redis_url", "database_url", "prefix", "home")})


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(point: str) -> None:
    """Arm the group commit of this process."""
    submit = GroupCommit.submit

    async def deadly(self: GroupCommit, apply: Any, item: Any) -> Any:
        if not isinstance(item, Ending) or item.status != "failed":
            return await submit(self, apply, item)
        if point == "before":
            die()
        if point == "during":
            asyncio.get_running_loop().call_later(random.SystemRandom().uniform(0, 0.004), die)
        answer = await submit(self, apply, item)
        die()
        return answer

    GroupCommit.submit = deadly  # pyright: ignore[reportAttributeAccessIssue] - the failpoint


async def work(settings: dict[str, Any], point: str) -> None:
    app = make_app(settings)
    if point == "handler":

        @app.job("order", queue="orders")
        async def order(payload: Order) -> None:
            die()

    else:
        die_at(point)
        declare_orders(app, retry=Retry.NONE)
    await app.worker(concurrency=1, lease=0.5, stalled_interval=0.1, max_crashes=settings["max_crashes"]).run()


def main() -> None:
    settings = json.loads(sys.argv[1])
    points = settings["points"]
    died: Counter[str] = Counter()
    for number in range(settings["kills"]):
        point = points[number % len(points)]
        child = os.fork()
        if child == 0:
            asyncio.run(work(settings, point))
            os._exit(1)
        _, status = os.waitpid(child, 0)
        died[point] += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    print(json.dumps(died))


if __name__ == "__main__":
    main()
