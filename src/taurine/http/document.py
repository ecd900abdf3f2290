"""The OpenAPI document: every route, every problem, and the payload of every declared job type."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any, cast
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from taurine.app import Taurine
from taurine.http.calls import ReadCall
from taurine.http.problems import PROBLEM_JSON
from taurine.http.representations import Accepted, Batch, Problem, json_response
from taurine.http.routes.enqueueing import MOST_PAYLOADS
from taurine.jobs.catalog.job_type import JobType
from taurine.options import MAX_PRIORITY

__all__ = ["describe", "operation_id"]

_REFERENCE = "#/components/schemas/{model}"

_OPTIONS: dict[str, Any] = {
    "delay": {"type": "number", "minimum": 0, "description": "Start this many seconds later."},
    "run_at": {
        "type": "string",
        "format": "date-time",
        "description": "Start at this time; not together with `delay`.",
    },
    "expires_in": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Seconds that the job may wait for its start.",
    },
    "priority": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_PRIORITY,
        "description": "0 is none and runs before all others, then lower numbers first.",
    },
    "tags": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 255}, "maxItems": 100},
    "metadata": {"type": "object", "description": "Kept with the record; handlers do not see it. At most 64 KiB."},
    "tenant": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "description": "Whose job it is. Default: the caller's tenant.",
    },
}
_OWN_OPTIONS: dict[str, Any] = {
    "job_id": {
        "type": "string",
        "minLength": 1,
        "maxLength": 1024,
        "description": "Default: what the job type declares.",
    },
    "on_duplicate": {
        "enum": ["return", "error", "rerun"],
        "default": "return",
        "description": "What to do when the id is taken.",
    },
}


def operation_id(route: APIRoute) -> str:
    """What generated clients call a route: its tag and its function, as in `queues_pause`."""
    return _as_name(" ".join([*map(str, route.tags), route.name]))


def describe(asgi: FastAPI, app: Taurine, *, serve: bool) -> None:
    """Give an application its document. serve: at `openapi.json` too, for callers who may read."""
    made: dict[int, dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        # Job types may be declared after the API was made.
        if (document := made.get(len(app.catalog))) is None:
            made.clear()
            document = made[len(app.catalog)] = _document_of(asgi, app)
        return document

    asgi.openapi = openapi
    if not serve:
        return

    @asgi.get("/openapi.json", include_in_schema=False)
    async def serve_document(request: Request, _: ReadCall) -> Response:
        root = cast("str", request.scope.get("root_path", "")).rstrip("/")
        return json_response({**openapi(), "servers": [{"url": quote(root) or "/"}]})

    del serve_document  # FastAPI has it


def _document_of(asgi: FastAPI, app: Taurine) -> dict[str, Any]:
    document = deepcopy(
        get_openapi(
            title=asgi.title,
            version="1",
            summary="Background jobs: accept them, look at them, and run their affairs.",
            routes=asgi.routes,
        )
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    paths = document.setdefault("paths", {})
    for model in (Problem, Accepted, Batch):
        _add_schema(schemas, model.__name__, TypeAdapter[Any](model), "serialization")
    taken = {operation["operationId"] for operations in paths.values() for operation in operations.values()}
    for job_type in app.catalog:
        _add_schema(schemas, _payload_name(job_type), TypeAdapter[Any](job_type.payload.annotation), "validation")
        at = f"/v1/jobs/{quote(job_type.name, safe='')}"
        one, many = _free(f"enqueue {job_type.name}", taken), _free(f"enqueue many {job_type.name}", taken)
        paths[at] = {"post": {"operationId": one, **_enqueue(job_type)}}
        paths[f"{at}/batch"] = {"post": {"operationId": many, **_enqueue_many(job_type)}}
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key or a public token."}
    }
    document["security"] = [{"key": []}]
    for operations in paths.values():
        for operation in operations.values():
            _add_problems(operation)
    return document


def _as_name(words: str) -> str:
    """With nothing in it that a program's name may not hold."""
    return re.sub(r"\W", "_", words, flags=re.ASCII)


def _free(words: str, taken: set[str]) -> str:
    """A name that no other operation has: `a.b` and `a_b` may both be declared. It is taken then."""
    name = plain = _as_name(words)
    number = 1
    while name in taken:
        number += 1
        name = f"{plain}_{number}"
    taken.add(name)
    return name


def _add_schema(schemas: dict[str, Any], name: str, adapter: TypeAdapter[Any], mode: Any) -> None:
    try:
        schema = adapter.json_schema(ref_template=_REFERENCE, mode=mode)
    except PydanticInvalidForJsonSchema:  # a type of the application's own that has no such description
        schema = {}
    schemas |= {**schema.pop("$defs", {}), name: schema}


def _payload_name(job_type: JobType[Any, Any]) -> str:
    """A component's name may hold letters, digits, `.`, `-` and `_`."""
    return "payload." + "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in ".-_") else "_" for letter in job_type.name
    )


def _enqueue(job_type: JobType[Any, Any]) -> dict[str, Any]:
    properties = {"payload": {"$ref": _REFERENCE.format(model=_payload_name(job_type))}, **_OWN_OPTIONS, **_OPTIONS}
    location = {"description": "The job's path.", "schema": {"type": "string"}}
    return {
        "tags": ["enqueue"],
        "summary": f"Enqueue {job_type.name}",
        "description": job_type.options.description or "Accept a job.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "A key of the client's own: a repeat within its life gives the same job; the same key for another request is refused.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        ],
        "requestBody": _body_of(["payload"], properties),
        "responses": {"202": _answer("Accepted", "The job is recorded, or was there already.", {"Location": location})},
    }


def _enqueue_many(job_type: JobType[Any, Any]) -> dict[str, Any]:
    payloads = {
        "type": "array",
        "items": {"$ref": _REFERENCE.format(model=_payload_name(job_type))},
        "minItems": 1,
        "maxItems": MOST_PAYLOADS,
    }
    return {
        "tags": ["enqueue"],
        "summary": f"Enqueue many {job_type.name}",
        "description": "Accept up to 1,000 jobs, all or none of them.",
        "requestBody": _body_of(["payloads"], {"payloads": payloads, **_OPTIONS}),
        "responses": {"202": _answer("Batch", "The jobs are recorded.")},
    }


def _body_of(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties, "additionalProperties": False}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answer(model: str, description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(model=model)}
    answer: dict[str, Any] = {"description": description, "content": {"application/json": {"schema": schema}}}
    return answer | ({"headers": headers} if headers else {})


_PROBLEM_ANSWER = {
    "description": "A problem document; `code` says which.",
    "content": {PROBLEM_JSON: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
}


def _add_problems(operation: dict[str, Any]) -> None:
    """Every operation may be refused; what FastAPI would say of validation is said by problem documents here."""
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)
    responses["default"] = _PROBLEM_ANSWER
