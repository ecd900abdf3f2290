"""The OpenAPI document, and what calls made of it come to: A24, SEED-213, ING-86."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from support.api import Client, problem
from taurine.app import Taurine
from taurine.http import Access, Caller, create_app
from taurine.http.examples import example_of
from taurine.http.representations import (
    Accepted,
    AttemptPage,
    AuditPage,
    Counts,
    Job,
    JobPage,
    LogPage,
    Lookup,
    Problem,
    WhyAnswer,
)


async def test_each_declared_type_has_a_path_with_its_payload(client: Client) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/jobs/invite.send"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]

    assert operation["description"] == "An invitation by e-mail."
    assert body["properties"]["payload"] == {"$ref": "#/components/schemas/payload.invite.send"}
    assert document["components"]["schemas"]["payload.invite.send"]["properties"]["address"]["minLength"] == 3
    assert "/v1/jobs/invite.send/batch" in document["paths"]
    assert body["additionalProperties"] is False


async def test_a_type_that_is_declared_later_is_in_it_too(app: Taurine, client: Client) -> None:
    await client.get("/openapi.json")
    app.declare("later.on", dict[str, int])
    assert "/v1/jobs/later.on" in (await client.get("/openapi.json")).json()["paths"]


def test_every_operation_says_what_it_does_and_how_it_is_refused(app: Taurine) -> None:
    document = create_app(app).openapi()
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 15
    for name, operation in operations:
        assert operation.get("summary"), name
        assert operation.get("description"), name
        assert "422" not in operation["responses"], name
        assert "application/problem+json" in operation["responses"]["default"]["content"], name


def test_operations_have_names_that_a_generated_client_can_use(app: Taurine) -> None:
    """Types whose names differ in nothing else than that get a number."""
    for name in ("a.b", "a-b", "many.a.b"):
        app.declare(name, dict[str, int])

    paths = create_app(app).openapi()["paths"]
    ids = {operation["operationId"]: path for path, methods in paths.items() for operation in methods.values()}

    assert len(ids) == sum(map(len, paths.values()))
    assert all(name.isidentifier() and name.isascii() for name in ids)
    assert {name: path for name, path in ids.items() if name.startswith(("enqueue_a_b", "enqueue_many_a_b"))} == {
        "enqueue_a_b": "/v1/jobs/a.b",
        "enqueue_a_b_2": "/v1/jobs/a-b",
        "enqueue_many_a_b": "/v1/jobs/a.b/batch",
        "enqueue_many_a_b_2": "/v1/jobs/a-b/batch",
        "enqueue_many_a_b_3": "/v1/jobs/many.a.b",
    }
    assert ids["queues_pause"] == "/v1/queues/{name}/pause"


def test_no_two_paths_are_the_same_but_for_a_name(app: Taurine) -> None:
    """OpenAPI forbids it: a client could not tell which is meant."""
    import re

    shapes = [re.sub(r"\{[^}]*\}", "{}", path) for path in create_app(app).openapi()["paths"]]
    assert len(shapes) == len(set(shapes))


async def test_it_is_shown_to_callers_who_may_read(app: Taurine, client_of: Callable[..., Client]) -> None:
    """A24."""

    async def login(connection: Any) -> Caller | None:
        return Caller(name="x", scopes=frozenset({"enqueue"})) if "x-user" in connection.headers else None

    client = client_of(app, access=Access(host_login=login))
    assert problem(await client.get("/openapi.json")) == (401, "unauthenticated")
    assert problem(await client.get("/openapi.json", headers={"x-user": "1"})) == (403, "forbidden")
    assert problem(await client_of(app, docs=False).get("/openapi.json")) == (404, "not_found")


async def test_documents_are_as_they_are_described(app: Taurine, client: Client) -> None:
    """The documents are made by hand; the models say what is in them, and that there is nothing else."""
    accepted = (await client.enqueue(job_id="a", tags=["t"], metadata={"x": 1})).json()
    await client.enqueue(job_id="b", payload={"user": "nobody", "address": "a@b.c"})
    await client.post("/v1/jobs/b/cancel")
    async with app.worker():
        await app.wait("a", timeout=20)

    def check(model: type[BaseModel], document: Any) -> None:
        TypeAdapter(model).validate_python(document)

    check(Accepted, accepted)
    for job_id in ("a", "b"):
        check(Job, (await client.get(f"/v1/jobs/{job_id}")).json())
        for part, model in (("attempts", AttemptPage), ("logs", LogPage), ("audit", AuditPage), ("why", WhyAnswer)):
            check(model, (await client.get(f"/v1/jobs/{job_id}/{part}")).json())
    check(JobPage, (await client.get("/v1/jobs?q=a")).json())
    check(Lookup, (await client.post("/v1/lookup", json={"ids": ["a", "x"]})).json())
    check(Counts, (await client.get("/v1/counts")).json())
    check(Problem, (await client.get("/v1/jobs/x")).json())


class Address(BaseModel):
    street: str
    number: int


class Order(BaseModel):
    number: int
    to: Address
    notes: list[str] = []


@pytest.mark.parametrize(
    "payload", [Order, int, str, bool, list[Order], dict[str, int], Order | None, tuple[int, str], float, Any]
)
def test_an_example_is_one_that_the_type_takes(app: Taurine, payload: Any) -> None:
    example = example_of(app.declare("example.of", payload))
    assert example is not None
    assert example_of(app.declare("example.none", NeverValid)) is None


class NeverValid(BaseModel):
    number: int

    def model_post_init(self, _: Any) -> None:
        raise ValueError("never")
