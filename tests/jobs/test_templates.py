"""Texts made from payloads: two payloads share one only if they agree in every field (SEED-013, SEED-078, CON-13)."""

from __future__ import annotations

from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from taurine.errors import CatalogError, InvalidOption
from taurine.jobs.catalog.templates import Template

_values = st.text(alphabet="a:%-3A@x", min_size=1, max_size=6)


@pytest.mark.parametrize("text", ["{a}:{b}:{c}", "k:{a}-{b}x{c}", "{a}%{b}--{c}", "{a}a{b}:{c}:end", "{a}@{b}é{c}"])
@given(one=st.tuples(_values, _values, _values), other=st.tuples(_values, _values, _values))
def test_different_fields_never_give_the_same_text(text: str, one: tuple[str, ...], other: tuple[str, ...]) -> None:
    template = Template(text, of="t")
    first, second = (template.render(dict(zip("abc", values, strict=True))) for values in (one, other))
    assert (first == second) == (one == other)


@pytest.mark.parametrize("separator", [":", "-", "x", "--", "é", "%", "%2D"])
def test_a_separator_inside_a_value_does_not_shift_the_fields(separator: str) -> None:
    template = Template(f"k:{{a}}{separator}{{b}}", of="t")
    shifted = [{"a": f"p{separator}q", "b": "r"}, {"a": "p", "b": f"q{separator}r"}]
    assert template.render(shifted[0]) != template.render(shifted[1])


def test_one_tenant_cannot_write_itself_into_the_id_of_another() -> None:
    template = Template("invoice:{tenant}:{number}", of="t")
    assert template.render({"tenant": "a:b", "number": "c"}) != template.render({"tenant": "a", "number": "b:c"})


def test_a_template_of_one_field_gives_its_value_as_it_is() -> None:
    """A tenant with a colon in its name is that tenant."""
    assert Template("{tenant}", of="t").render({"tenant": "eu:acme%"}) == "eu:acme%"


class _Colour(Enum):
    RED = "red"


class _Owner(BaseModel):
    id: UUID
    colour: _Colour = _Colour.RED


class _Payload(BaseModel):
    owner: _Owner
    count: int = 0
    things: list[str] = []
    note: str | None = None

    @property
    def short(self) -> str:
        return str(self.owner.id)[:8]


_payload = _Payload(owner=_Owner(id=UUID(int=5)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x:{owner.id}", "x:00000000-0000-0000-0000-000000000005"),
        ("x:{owner.colour}", "x:red"),
        ("x:{count}", "x:0"),
        ("x:{short}", "x:00000000"),
    ],
)
def test_it_looks_inside_and_takes_plain_values(text: str, expected: str) -> None:
    assert Template(text, of="t").render(_payload) == expected


@pytest.mark.parametrize(
    ("text", "message"), [("x:{note}", "note, which is empty"), ("x:{gone}", "gone"), ("x:{things}", "got list")]
)
def test_an_empty_field_is_refused(text: str, message: str) -> None:
    """An id without its entity would be one job for everybody."""
    with pytest.raises(InvalidOption, match=message):
        Template(text, of="t").render(_payload)


def test_an_empty_text_is_refused_and_zero_is_not() -> None:
    template = Template("x:{a}", of="t")
    with pytest.raises(InvalidOption, match="empty"):
        template.render({"a": ""})
    assert template.render({"a": 0}) == "x:0"


@pytest.mark.parametrize("name", ["__class__", "_secret", "model.__dict__"])
def test_names_with_underscores_in_front_are_no_data(name: str) -> None:
    with pytest.raises(InvalidOption):
        Template(f"x:{{{name}}}", of="t").render(_payload)


@pytest.mark.parametrize("text", ["{", "x:{}", "x:{a!r}", "x:{a:>5}", "x:{0}", "x:{a}{b}", "x:{a[b]}", "x:{a.}"])
def test_what_is_no_template_is_refused_where_it_is_declared(text: str) -> None:
    with pytest.raises(CatalogError, match=r"^t: "):
        Template(text, of="t")


def test_a_field_that_the_payload_has_not_is_named_with_the_near_miss() -> None:
    with pytest.raises(CatalogError, match=r"no field 'tenant'.*did you mean 'tenant_id'"):
        Template("x:{tenant}", of="t", fields=["tenant_id", "summary"])


def test_a_payload_that_knows_no_fields_is_seen_at_its_first_use() -> None:
    template: Any = Template("x:{a}", of="t", fields=None)
    with pytest.raises(InvalidOption):
        template.render(5)
