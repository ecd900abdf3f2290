"""An example of a payload, made of its JSON schema: for the OpenAPI document, and for the line that is printed when the
API is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter

from taurine.errors import PayloadError
from taurine.jobs.catalog.job_type import JobType

__all__ = ["example_of"]

_DEEPEST = 8

_FORMATS = {
    "date-time": "2030-01-31T09:00:00Z",
    "date": "2030-01-31",
    "time": "09:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "uuid": "7f6f3c1e-3f1b-4c2e-9a57-0d9b5c1f2a34",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def example_of(job_type: JobType[Any, Any]) -> tuple[Any] | None:
    """A payload that the job type takes, in a tuple; None where none is found, as for one with validators of its own."""
    try:
        schema = TypeAdapter[Any](job_type.payload.annotation).json_schema()
        example = _example(schema, schema.get("$defs", {}), 0)
        job_type.payload.check(example)
    except PayloadError:
        return None
    except Exception:  # noqa: BLE001 - foreign types and validators may do anything; it is only an example
        return None
    return (example,)


def _example(schema: Mapping[str, Any], named: Mapping[str, Any], depth: int) -> Any:
    if "$ref" in schema:
        schema = named[str(schema["$ref"]).rpartition("/")[2]]
        depth += 1
    for ready in ("const", "default"):
        if ready in schema:
            return schema[ready]
    for ready in ("examples", "enum"):
        if schema.get(ready):
            return schema[ready][0]
    if depth > _DEEPEST:
        return None
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return _example(schema[choice][0], named, depth + 1)
    return _of_type(schema, named, depth)


def _of_type(schema: Mapping[str, Any], named: Mapping[str, Any], depth: int) -> Any:
    match schema.get("type"):
        case "object":
            required = cast("list[str]", schema.get("required", []))
            return {name: _example(schema["properties"][name], named, depth + 1) for name in required}
        case "array":
            members = schema.get("prefixItems") or [schema.get("items", {})] * int(schema.get("minItems", 0))
            return [_example(member, named, depth + 1) for member in members]
        case "string":
            text = _FORMATS.get(str(schema.get("format")), "text")
            return text.ljust(int(schema.get("minLength", 0)), "x")[: int(schema.get("maxLength", len(text) + 100))]
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return {}
