"""A FastAPI application that answers 202 and keeps nothing: what its users have before there is a job behind it.

On one uvicorn process, as Taurine's API.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from benchmarks.peers.program import OnDone, OnStart, Payload, Program, run
from taurine.http.serving import listen, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

KEY = "bench"


class Noop(BaseModel):
    i: int
    user: str


class Envelope(BaseModel):
    payload: Noop


class Accepted(BaseModel):
    id: str
    type: str
    status: str
    created_at: datetime
    links: dict[str, str]


async def caller(request: Request) -> str:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise HTTPException(401)
    return "bench"


api = FastAPI()


@api.post("/v1/jobs/{type}", status_code=202)
async def accept(type: str, envelope: Envelope, name: Annotated[str, Depends(caller)]) -> Accepted:  # noqa: A002 - as in Taurine's
    job_id = uuid.uuid4().hex
    return Accepted(
        id=job_id, type=type, status="queued", created_at=datetime.now(UTC), links={"self": f"/v1/jobs/{job_id}"}
    )


class FastApiAlone(Program):
    @asynccontextmanager
    async def serving(self, port: int, key_file: str) -> AsyncGenerator[None]:
        await asyncio.to_thread(Path(key_file).write_text, KEY)
        ready = asyncio.Event()
        serving = asyncio.create_task(serve(api, listen("127.0.0.1", port), ready=ready.set, lifespan=False))
        await ready.wait()
        yield
        serving.cancel()

    def producing(self) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError

    async def add(self, payload: Payload) -> None:
        raise NotImplementedError

    def working(
        self, queue: str, concurrency: int, on_start: OnStart, on_done: OnDone
    ) -> AbstractAsyncContextManager[Any]:
        raise NotImplementedError


if __name__ == "__main__":
    run(FastApiAlone)
