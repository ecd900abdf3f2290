"""What the jobs of the interop and fault tests do: their data says it, and Node's workers read it alike
(node/bullmq.mjs).

ms: take this long · hold: never end · failures: how many attempts fail, with `error`; final: for good ·
children: return what the children left · size: return a text of this length · result: return this.
"""

from __future__ import annotations

import asyncio
from typing import Any

from taurine.errors import Permanent
from taurine.queue import Job

__all__ = ["perform"]


async def perform(job: Job) -> Any:
    task = job.data
    if "ms" in task:
        await asyncio.sleep(task["ms"] / 1000)
    if task.get("hold"):
        await asyncio.Event().wait()
    if job.attempts_made < task.get("failures", 0):
        raise (Permanent if task.get("final") else RuntimeError)(task["error"])
    if task.get("children"):
        return {"results": await job.children_values(), "ignored": dict((await job.dependencies()).ignored)}
    return "x" * task["size"] if "size" in task else task.get("result")
