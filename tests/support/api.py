"""Calling an API in the process of the test: what FastAPI answers, without a socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
from pydantic import BaseModel, Field
from starlette.types import ASGIApp

from taurine.app import Taurine

__all__ = ["Answer", "Client", "Invite", "declare_invites", "problem"]

Answer = httpx2.Response


class Invite(BaseModel):
    user: str
    address: str = Field(min_length=3)


class Client(httpx2.AsyncClient):
    """Calls an ASGI application as a browser or curl would from this machine.

    address: where the call seems to come from.
    """

    def __init__(
        self,
        api: ASGIApp,
        *,
        base_url: str = "http://localhost",
        headers: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        transport = httpx2.ASGITransport(api, client=(address, 50_000))
        super().__init__(transport=transport, base_url=base_url, headers=dict(headers or {}))

    async def enqueue(self, job_type: str = "invite.send", payload: Any = None, **options: Any) -> Answer:
        """Enqueue a job, an invitation of Ada's unless `payload` says otherwise."""
        given = {"user": "ada", "address": "ada@example.com"} if payload is None else payload
        return await self.post(f"/v1/jobs/{job_type}", json={"payload": given, **options})


def problem(answer: Answer) -> tuple[int, str]:
    """The status and code of a problem document, which is one in full."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"] == f"urn:taurine:problem:{document['code']}"
    assert document["title"]
    assert isinstance(document["detail"], str)
    assert "Traceback" not in answer.text
    return answer.status_code, document["code"]


def declare_invites(app: Taurine) -> None:
    """Declare `invite.send`, whose job fails for a user called "nobody", and `thing.keep`, whose payload may be
    anything.
    """

    @app.job("invite.send", queue="mail", description="An invitation by e-mail.")
    async def send_invite(invite: Invite) -> dict[str, str]:
        if invite.user == "nobody":
            raise LookupError("no such user")
        return {"message": f"m-{invite.user}"}

    @app.job("thing.keep", queue="things")
    async def keep(thing: Any) -> Any:
        return thing

    del send_invite, keep  # the catalog has them
