"""Taurine's HTTP API on one uvicorn process: each job has its record committed before it is answered."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.program import run
from benchmarks.peers.taurine_records import TaurineRecords
from taurine.http import create_app
from taurine.http.serving import listen, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class TaurineApi(TaurineRecords):
    async def some_ids(self, count: int) -> list[str]:
        async with self.app:
            return [record.id async for record in self.app.list()][:count]

    @asynccontextmanager
    async def serving(self, port: int, key_file: str) -> AsyncGenerator[None]:
        async with self.app:
            key = await self.app.api_keys.create("bench", scopes=["enqueue", "read"])
            await asyncio.to_thread(Path(key_file).write_text, key.text)
            ready = asyncio.Event()
            api = create_app(self.app)
            serving = asyncio.create_task(serve(api, listen("127.0.0.1", port), ready=ready.set, lifespan=False))
            await ready.wait()
            yield
            serving.cancel()


if __name__ == "__main__":
    run(TaurineApi)
