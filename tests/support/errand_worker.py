"""A program with an application of errands, whose settings are in the environment: `python -m support.errand_worker
'{…}'`.

Its argument is a JSON object: the options of Taurine.worker. It works until a signal, as any worker does, and is
imported by the worker processes that it makes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from support.errands import declare_errands
from support.history import History
from taurine.app import Taurine

__all__ = ["app"]

_name = os.environ.get("ERRANDS_WORKER") or f"p{os.getpid()}"

app = Taurine("errands")
errands = declare_errands(app, History(Path(os.environ["ERRANDS_HISTORY"])), worker=_name)


async def main(options: dict[str, Any]) -> None:
    async with app:
        await app.worker(**options).run(handle_signals=True)
    print("ended", len(asyncio.all_tasks()), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s", stream=sys.stderr)
    asyncio.run(main(json.loads(sys.argv[1])))
