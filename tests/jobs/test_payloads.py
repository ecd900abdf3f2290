"""Payloads: what is accepted, what is refused and how little the refusal tells (SEED-002, SEED-004, SEED-168 to 170,
A03 to A08).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator
from sqlalchemy import create_engine
from typing_extensions import TypedDict  # Pydantic's demand below Python 3.12

from support.desk import Ticket, declare_triage, recorded, ticket
from taurine import Taurine
from taurine.errors import CatalogError, PayloadError, PayloadInvalid, PayloadTooLarge
from taurine.jobs.catalog.payloads import WARN_BYTES, Codec, encode_metadata

SECRET = "hunter2-4711"


def codec(annotation: Any, **options: Any) -> Codec[Any]:
    return Codec(annotation, job_type="t", what="the payload", **options)


class _Anything(BaseModel):
    value: Any
    number: float | None = None


@dataclass
class _Point:
    x: int
    label: str = ""


@dataclass
class _Labelled(_Point):
    colour: str = "red"


class _Row(TypedDict):
    id: str
    count: int


class _Pair(NamedTuple):
    left: int
    right: str


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Ticket, ticket(), '{"tenant_id":"acme","ticket_id":"7","summary":"it does not print"}'),
        (Ticket, ticket().model_dump(), '{"tenant_id":"acme","ticket_id":"7","summary":"it does not print"}'),
        (_Point, _Point(1, "a"), '{"x":1,"label":"a"}'),
        (_Row, {"id": "a", "count": 2}, '{"id":"a","count":2}'),
        (_Pair, _Pair(1, "b"), '[1,"b"]'),
        (dict[str, int], {}, "{}"),
        (list[int], [], "[]"),
        (str, "é ü 🎉", '"é ü 🎉"'),
        (int, 2**63 + 1, "9223372036854775809"),
        (None, None, "null"),
        (datetime, datetime.fromisoformat("2027-01-15T08:00:00+00:00"), '"2027-01-15T08:00:00Z"'),
        (int | str, 5, "5"),
        (_Anything, {"value": None}, '{"value":null,"number":null}'),
    ],
)
def test_what_a_payload_may_be(annotation: Any, value: Any, text: str) -> None:
    """SEED-170, A06, A07: models, dataclasses, TypedDicts and plain data; whole numbers stay exact, and {} is not []."""
    accepted, written = codec(annotation).accept(value)
    assert written == text
    assert codec(annotation).decode(written) == accepted


@pytest.mark.parametrize(
    ("annotation", "fields"),
    [
        (Ticket, ["tenant_id", "ticket_id", "summary"]),
        (_Labelled, ["x", "label", "colour"]),
        (_Row, ["id", "count"]),
        (_Pair, ["left", "right"]),
        (str, []),
        (Any, None),
        (dict[str, Any], None),
        (Annotated[Ticket, "x"], None),
    ],
)
def test_the_fields_that_templates_may_use(annotation: Any, fields: list[str] | None) -> None:
    assert codec(annotation).fields == fields


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        ({"tenant_id": "acme", "ticket_id": "7", "summary": ""}, ["summary"]),
        ({"ticket_id": "7", "summary": SECRET}, ["tenant_id"]),
        ({"tenant_id": 5, "ticket_id": SECRET, "summary": None}, ["tenant_id", "summary"]),
        (SECRET, ["(itself)"]),
        (_Point(1, SECRET), ["(itself)"]),
    ],
)
async def test_a_wrong_payload_is_refused_by_its_fields_and_without_its_values(
    app: Taurine, payload: Any, fields: list[str]
) -> None:
    """SEED-002, SEED-041: before any write."""
    with pytest.raises(PayloadInvalid) as refusal:
        await declare_triage(app).enqueue(payload)
    assert [field for field, _ in refusal.value.errors] == fields
    assert refusal.value.job_type == "ticket.triage"
    assert SECRET not in str(refusal.value)
    assert all(field in str(refusal.value) for field in fields)
    assert refusal.value.__cause__ is None
    assert await recorded(app) == []


class _Own(BaseModel):
    kind: str = ""
    password: str = ""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        assert kind in ("", "a"), f"{kind} is unknown"
        return kind

    @model_validator(mode="after")
    def _fits(self) -> _Own:
        if self.password:
            raise ValueError(f"{self.password} is too weak")
        return self


class _Cat(BaseModel):
    kind: Literal["cat"]


class _Dog(BaseModel):
    kind: Literal["dog"]


class _Tagged(BaseModel):
    pet: Annotated[_Cat | _Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(_Own, {"kind": SECRET}), (_Own, {"password": SECRET}), (_Tagged, {"pet": {"kind": SECRET}})],
)
def test_a_validators_own_words_do_not_show_the_value(annotation: Any, value: Any) -> None:
    with pytest.raises(PayloadInvalid) as refusal:
        codec(annotation).check(value)
    assert SECRET not in str(refusal.value)


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


def test_a_validators_own_words_are_kept_where_they_show_no_value() -> None:
    with pytest.raises(PayloadInvalid, match="must be even"):
        codec(Annotated[int, AfterValidator(_even)]).check(7)


@pytest.mark.parametrize("value", [create_engine("sqlite://"), logging.getLogger(), object(), lambda: None])
async def test_clients_and_requests_are_refused(app: Taurine, value: Any) -> None:
    """SEED-004."""
    anything = app.declare("anything.take", _Anything)
    with pytest.raises(PayloadError, match="pass ids and plain data"):
        await anything.enqueue(_Anything(value={"client": value}))


def _nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


_INEXACT = {
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "NaN inside": {"a": [1, {"b": float("nan")}]},
    "NaN in a set": {float("nan")},
    "half a pair": "a\ud800",
    "half a pair as a key": {"\udfff": 1},
    "null character": "a\0b",
    "null character as a key": {"\0": 1},
    "null character behind a backslash": "\\\0",
    "nested": _nested(100_000),
    "nested a little too much": _nested(250),
    "digits": 10**5000,
}


@pytest.mark.parametrize("value", _INEXACT.values(), ids=_INEXACT)
async def test_one_rule_for_what_json_cannot_hold(app: Taurine, value: Any) -> None:
    """A03, A04, A05: refused with a PayloadError at enqueue, in each place where JSON is given; nothing is stored."""
    anything = app.declare("anything.take", _Anything)
    with pytest.raises(PayloadError):
        await anything.enqueue(_Anything(value=value))
    assert await recorded(app) == []


def test_nan_in_a_number_is_refused_though_null_would_be_allowed() -> None:
    with pytest.raises(PayloadError, match="NaN"):
        codec(_Anything).accept(_Anything(value=1, number=float("nan")))


@pytest.mark.parametrize("value", ["\\u0000", "\\\\u0000", "null", {"null": [None, {1, 2}]}])
def test_texts_that_only_look_so_are_stored(value: Any) -> None:
    accepted, text = codec(_Anything).accept(_Anything(value=value))
    assert '"value":' in text
    if isinstance(value, str):
        assert accepted.value == value


@pytest.mark.parametrize("value", [{"py/object": "os.system"}, {"__class__": "x"}, {"$ref": "#"}, "!!python/object:os"])
def test_data_that_names_objects_stays_data(value: Any) -> None:
    """A08."""
    accepted, _ = codec(_Anything).accept(_Anything(value=value))
    assert accepted.value == value


def test_what_was_made_without_checks_is_refused_at_enqueue_and_not_in_the_worker() -> None:
    """SEED-230: the model's own constructor can be passed by."""
    unchecked = Ticket.model_construct(tenant_id="acme", ticket_id="7", summary="")
    with pytest.raises(PayloadInvalid, match="summary"):
        codec(Ticket).accept(unchecked)
    changed = ticket()
    changed.summary = ""
    with pytest.raises(PayloadInvalid, match="summary"):
        codec(Ticket).accept(changed)


class _Camel(BaseModel):
    tenant_id: str = Field(alias="tenantId")


class _TwoNames(BaseModel):
    tenant_id: str = Field(validation_alias="tenant", serialization_alias="tenantId")


def test_names_on_the_wire_are_those_that_a_reader_takes() -> None:
    accepted, text = codec(_Camel).accept({"tenantId": "acme"})
    assert text == '{"tenantId":"acme"}'
    assert accepted.tenant_id == "acme"
    with pytest.raises(PayloadInvalid, match="tenant"):
        codec(_TwoNames).accept({"tenant": "acme"})


async def test_a_large_payload_is_stored_with_a_warning(app: Taurine, caplog: pytest.LogCaptureFixture) -> None:
    """SEED-168."""
    triage = declare_triage(app)
    with caplog.at_level(logging.WARNING, logger="taurine.jobs"):
        await triage.enqueue(ticket(1, summary="x" * (WARN_BYTES - 200)))
        assert caplog.messages == []
        await triage.enqueue(ticket(2, summary="x" * WARN_BYTES))
    (line,) = caplog.messages
    assert "ticket.triage" in line
    assert "bytes" in line


async def test_a_payload_above_the_cap_is_refused(app: Taurine) -> None:
    """SEED-168, A01: the limit is in bytes, and named."""
    small = declare_triage(app, max_bytes=200)
    await small.enqueue(ticket(1, summary="é" * 50))
    with pytest.raises(PayloadTooLarge, match="above the limit of 200"):
        await small.enqueue(ticket(2, summary="é" * 100))
    assert len(await recorded(app)) == 1


def test_the_cap_is_one_mebibyte() -> None:
    with pytest.raises(PayloadTooLarge, match="1,048,576"):
        codec(str).accept("x" * 1024 * 1024)


def test_a_type_that_cannot_be_checked_is_refused_where_it_is_declared() -> None:
    with pytest.raises(CatalogError, match="cannot be checked"):
        codec(type(logging.getLogger()))


@pytest.mark.parametrize(
    "metadata",
    [{"a": float("nan")}, {"a": "\ud800"}, {"a": "x\0"}, {"a": object()}, ["a"], "a", {"a": _nested(100_000)}],
)
def test_metadata_follow_the_same_rule(metadata: Any) -> None:
    with pytest.raises(PayloadError):
        encode_metadata(metadata)


def test_metadata_have_a_cap() -> None:
    with pytest.raises(PayloadTooLarge, match="metadata"):
        encode_metadata({"a": "x" * 70_000})
