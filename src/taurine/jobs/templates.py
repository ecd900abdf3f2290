"""Texts made from a payload's fields: `"ticket-triage:{tenant_id}:{ticket_id}"`."""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping
from typing import Any, cast

from taurine.errors import CatalogError, InvalidOption, did_you_mean

__all__ = ["Template"]


class Template:
    """A text with fields of a payload in braces; `{user.id}` looks inside.

    A colon or percent sign inside a value is percent-encoded, so that two payloads have the same text only if they agree in every field.
    Raises CatalogError for a field that the payload has not (where its fields are known), and for a text that is no template.
    """

    def __init__(self, text: str, *, of: str, fields: Collection[str] | None = None) -> None:
        self.text = text
        self._of = of
        self._parts: list[str | tuple[str, ...]] = []
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise CatalogError(f"{of}: the template {text!r} cannot be read: {error}") from None
        for literal, name, spec, conversion in parsed:
            if literal:
                self._parts.append(literal)
            if name is None:
                continue
            if not name or spec or conversion:
                raise CatalogError(f"{of}: expected plain {{field}} names in the template {text!r}, got {{{name}}}")
            path = tuple(name.split("."))
            if fields is not None and path[0] not in fields:
                near = did_you_mean(path[0], list(fields))
                raise CatalogError(f"{of}: the payload has no field {path[0]!r} for the template {text!r}{near}")
            self._parts.append(path)

    def render(self, payload: Any) -> str:
        """The text for one payload. Raises InvalidOption for a field that is missing, None or empty."""
        return "".join(part if isinstance(part, str) else self._value(payload, part) for part in self._parts)

    def _value(self, payload: Any, path: tuple[str, ...]) -> str:
        value = payload
        for name in path:
            value = _member(value, name)
        text = "" if value is None else str(value)
        if not text:
            raise InvalidOption(
                f"{self._of}: the template {self.text!r} needs the payload's {'.'.join(path)}, which is empty"
            )
        return text.replace("%", "%25").replace(":", "%3A") if "%" in text or ":" in text else text


def _member(owner: Any, name: str) -> Any:
    if isinstance(owner, Mapping):
        return cast("Mapping[str, Any]", owner).get(name)
    # Names with underscores in front are no data of a payload.
    return None if name.startswith("_") else getattr(owner, name, None)
