"""Texts made from a payload's fields: `"ticket-triage:{tenant_id}:{ticket_id}"`.

Two payloads have the same text only if they agree in every field that the template names. So in a text of several parts
a value's own colons and percent signs are percent-encoded, and so is the character that stands behind its field; a
template that is one field and nothing else gives the value as it is.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple, cast
from uuid import UUID

from taurine.errors import CatalogError, InvalidOption, did_you_mean

__all__ = ["Template"]

_PLAIN = (str, int, float, Decimal, UUID, date, datetime, time)
"""Values whose text says all that there is to them."""


class _Field(NamedTuple):
    """One field of a template.

    path: its name, and the names inside it. escapes: by character number, empty for a value that stays as it is.
    """

    path: tuple[str, ...]
    escapes: Mapping[int, str]


class Template:
    """A text with fields of a payload in braces; `{user.id}` looks inside.

    of: what errors name. fields: the payload's fields. Default: not known, so a missing one is seen at the first
    payload.
    Raises CatalogError for a field that the payload has not, and for a text that is no template.
    """

    def __init__(self, text: str, *, of: str, fields: Collection[str] | None = None) -> None:
        self.text = text
        self._of = of
        parts = _parsed(text, of)
        for part in parts:
            if isinstance(part, tuple) and fields is not None and part[0] not in fields:
                near = did_you_mean(part[0], list(fields))
                raise CatalogError(f"{of}: the payload has no field {part[0]!r} for the template {text!r}{near}")
        self._parts: list[str | _Field] = [
            part if isinstance(part, str) else _Field(part, _escapes_at(parts, position))
            for position, part in enumerate(parts)
        ]

    @property
    def names_fields(self) -> bool:
        """False for a text without braces, which is the same for every payload."""
        return any(isinstance(part, _Field) for part in self._parts)

    def render(self, payload: Any) -> str:
        """The text for one payload. Raises InvalidOption for a field that is missing, None, empty, or no plain value."""
        return "".join([part if isinstance(part, str) else self._value(payload, part) for part in self._parts])

    def _value(self, payload: Any, field: _Field) -> str:
        value = payload
        for name in field.path:
            value = _member(value, name)
        if isinstance(value, Enum):
            value = value.value
        if value is None or value == "":
            raise InvalidOption(
                f"{self._of}: the template {self.text!r} needs the payload's {_dotted(field)}, which is empty"
            )
        if not isinstance(value, _PLAIN):
            raise InvalidOption(
                f"{self._of}: the template {self.text!r} needs text or a number in the payload's {_dotted(field)}, "
                f"got {type(value).__name__}"
            )
        return str(value).translate(field.escapes) if field.escapes else str(value)


def _parsed(text: str, of: str) -> list[str | tuple[str, ...]]:
    """The literal texts of a template, and the paths of its fields."""
    parts: list[str | tuple[str, ...]] = []
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise CatalogError(f"{of}: the template {text!r} cannot be read: {error}") from None
    for literal, name, spec, conversion in parsed:
        if literal:
            parts.append(literal)
        if name is None:
            continue
        if spec or conversion or not all(part.isidentifier() for part in name.split(".")):
            raise CatalogError(f"{of}: expected plain {{field}} names in the template {text!r}, got {{{name}}}")
        if parts and isinstance(parts[-1], tuple):
            raise CatalogError(
                f"{of}: expected a separator between the fields of {text!r}, for example a colon, before {{{name}}}"
            )
        parts.append(tuple(name.split(".")))
    return parts


def _escapes_at(parts: list[str | tuple[str, ...]], position: int) -> Mapping[int, str]:
    """What is encoded in the value of the field at `position`: with it, the first `behind` character after a value is
    the one of the template.
    """
    if len(parts) == 1:
        return {}
    behind = parts[position + 1][0] if position + 1 < len(parts) else ":"
    return {ord(character): _encoded(character) for character in ("%", ":", behind)}


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _dotted(field: _Field) -> str:
    return ".".join(field.path)


def _member(owner: Any, name: str) -> Any:
    if isinstance(owner, Mapping):
        return cast("Mapping[str, Any]", owner).get(name)
    # Names with underscores in front are no data of a payload.
    return None if name.startswith("_") else getattr(owner, name, None)
