"""Migrators that die: forked from a process that has imported everything, so that a death at each statement costs
little.

Run as a program, it reads lines of JSON `{"url", "die_at", "scripts", "version"}` and answers each with how many
statements were run.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from taurine.ledger import migrate as module
from taurine.ledger.database import open_database
from taurine.ledger.migrate import migrate


def _run(url: str, die_at: int | None, scripts: str | None, version: str | None) -> None:
    """Migrate, and die by SIGKILL after the statement of this number, counted from 1; COMMIT counts as well, before it
    is sent.
    """
    if scripts is not None and version is not None:
        module._MIGRATIONS, module.VERSION = Path(scripts), version
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", count)
    event.listen(Engine, "commit", count)

    async def main() -> None:
        database = open_database(url)
        try:
            await migrate(database, wait=20.0)
        finally:
            await database.close()

    asyncio.run(main())
    print(json.dumps({"statements": seen}), flush=True)


def _forked(request: dict[str, Any]) -> None:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            print(json.dumps({"killed": os.WTERMSIG(status)}), flush=True)
        elif os.WEXITSTATUS(status):
            print(json.dumps({"failed": os.WEXITSTATUS(status)}), flush=True)
        return
    code = 1
    try:
        _run(request["url"], request.get("die_at"), request.get("scripts"), request.get("version"))
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for slow in ("asyncpg", "alembic.operations", "alembic.runtime.migration", "alembic.script"):
        importlib.import_module(slow)  # once, for all children
    for line in sys.stdin:
        _forked(json.loads(line))
