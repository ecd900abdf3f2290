"""What may be said once: parameters and idempotency keys (A05, A20, A31)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from support.api import Client, problem
from taurine.app import Taurine
from taurine.http import create_app

BODY = {"payload": {"user": "ada", "address": "ada@example.com"}}


@pytest.mark.parametrize("query", ["type=a&type=b", "type=a&type=a", "type=&type", "ty%70e=a&type=b", "q=x&limit=1&q="])
async def test_a_parameter_that_is_given_twice_is_refused(client: Client, query: str) -> None:
    """A05, A31: none of the two counts, however they are written; a layer in front may have looked at the other."""
    answer = await client.get(f"/v1/jobs?{query}")

    assert problem(answer) == (400, "invalid_request")
    name = "q" if query.startswith("q") else "type"
    assert answer.json()["detail"] == f"the parameter '{name}' is given more than once; give it once"
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/query/{name}"]
    once = await client.get("/v1/jobs?type=invite.send&queue=mail&tag=a")
    assert once.status_code == 200, once.text


async def test_the_value_of_such_a_parameter_is_not_shown(client: Client) -> None:
    answer = await client.get("/v1/jobs?access_token=taurine_public_x&access_token=hunter2")

    assert problem(answer) == (400, "invalid_request")
    assert "hunter2" not in answer.text


def test_a_websocket_with_such_a_parameter_is_none(app: Taurine) -> None:
    asked = TestClient(create_app(app), base_url="http://localhost", client=("127.0.0.1", 5))

    with pytest.raises(WebSocketDisconnect), asked.websocket_connect("/v1/events?tag=a&tag=b"):
        pass


@pytest.mark.parametrize("path", ["/v1/jobs/invite.send", "/v1/jobs/thing.keep/batch"])
async def test_an_idempotency_key_that_is_given_twice_is_refused(app: Taurine, client: Client, path: str) -> None:
    """A20: also when both are the same; nothing is put in."""
    for keys in (["k-1", "k-2"], ["k-1", "k-1"]):
        answer = await client.post(path, json=BODY, headers=[("Idempotency-Key", key) for key in keys])

        assert problem(answer) == (400, "invalid_request")
        assert "more than once" in answer.json()["detail"]
    assert [record async for record in app.list()] == []


@pytest.mark.parametrize("key", ["", " ", "\t  "])
async def test_an_idempotency_key_of_blanks_is_none(app: Taurine, client: Client, key: str) -> None:
    """A20: clients whose key was never filled in would get one another's job."""
    answer = await client.post("/v1/jobs/invite.send", json=BODY, headers={"Idempotency-Key": key})

    assert problem(answer) == (400, "invalid_request")
    assert "is empty" in answer.json()["detail"]
    assert [record async for record in app.list()] == []


async def test_what_is_refused_so_is_read_by_pages_that_may(app: Taurine, client_of: Callable[..., Client]) -> None:
    """The layer is behind those that say who may read an answer."""
    answer = await client_of(app).get("/v1/jobs?type=a&type=b")

    assert answer.headers["x-content-type-options"] == "nosniff"
