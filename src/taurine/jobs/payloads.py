"""Payloads and results: checked where they come in and where they go out, and JSON in between."""

from __future__ import annotations

import logging
from math import isfinite
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from taurine.errors import CatalogError, PayloadError, PayloadInvalid, PayloadTooLarge

__all__ = ["MAX_BYTES", "WARN_BYTES", "Codec"]

log = logging.getLogger("taurine.jobs")

WARN_BYTES = 32 * 1024
"""A payload above this many bytes is stored, with a warning in the log."""

MAX_BYTES = 1024 * 1024
"""The most bytes of JSON that a payload or a result may have, unless its job type says otherwise."""

ValueT = TypeVar("ValueT")


class Codec(Generic[ValueT]):
    """One type's way to JSON and back.

    what: what errors call the value, for example "the payload". max_bytes: the most that its JSON may have.
    Raises CatalogError for a type that Pydantic cannot check.
    """

    def __init__(self, annotation: Any, *, job_type: str, what: str, max_bytes: int = MAX_BYTES) -> None:
        self._job_type = job_type
        self._what = what
        self._max_bytes = max_bytes
        try:
            self._adapter: TypeAdapter[ValueT] = TypeAdapter(annotation)
        except Exception as error:
            raise CatalogError(
                f"{job_type}: {what} is declared as {annotation!r}, which cannot be checked: {error}; use a Pydantic model, "
                "a dataclass, a TypedDict or plain JSON types"
            ) from error
        self.annotation: Any = annotation

    @property
    def fields(self) -> list[str] | None:
        """The names of its fields, where they are known."""
        annotation = cast("object", self.annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return list(annotation.model_fields)
        declared: dict[str, Any] | None = getattr(annotation, "__annotations__", None)
        return list(declared) if declared else None

    def check(self, value: Any) -> ValueT:
        """`value` as this type. Raises PayloadInvalid, which names the fields and holds no value of theirs."""
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            raise self._invalid(error) from None

    def decode(self, text: str | bytes) -> ValueT:
        """The value of stored JSON. Raises PayloadInvalid."""
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            raise self._invalid(error) from None

    def encode(self, value: ValueT) -> str:
        """`value` as JSON text. Raises PayloadError for what JSON cannot hold exactly, and PayloadTooLarge."""
        try:
            raw = self._adapter.dump_json(value, warnings="error")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
            raise PayloadError(
                f"{self._job_type}: {self._what} cannot be stored as JSON: {error}; pass ids and plain data, no clients or requests"
            ) from None
        # Pydantic writes null for NaN and infinities, and a null character is text that PostgreSQL cannot hold.
        if b"null" in raw or b"\\u0000" in raw:
            self._refuse_inexact(self._adapter.dump_python(value, mode="python", warnings=False))
        if len(raw) > WARN_BYTES:
            self._weigh(len(raw))
        return raw.decode()

    def _weigh(self, size: int) -> None:
        if size > self._max_bytes:
            raise PayloadTooLarge(
                f"{self._job_type}: {self._what} is {size:,} bytes of JSON, above the limit of {self._max_bytes:,}; store it elsewhere and pass "
                "its id or URL, or raise max_bytes"
            )
        log.warning(
            "%s: %s is %s bytes of JSON; pass an id or URL instead of the data itself",
            self._job_type,
            self._what,
            f"{size:,}",
        )

    def _refuse_inexact(self, value: Any) -> None:
        if isinstance(value, float) and not isfinite(value):
            raise PayloadError(f"{self._job_type}: {self._what} holds {value}, which is no JSON number")
        if isinstance(value, str) and "\0" in value:
            raise PayloadError(f"{self._job_type}: {self._what} holds a null character, which cannot be stored")
        if isinstance(value, dict):
            for key, member in cast("dict[Any, Any]", value).items():
                self._refuse_inexact(key)
                self._refuse_inexact(member)
        elif isinstance(value, list | tuple | set | frozenset):
            for member in cast("list[Any]", value):
                self._refuse_inexact(member)

    def _invalid(self, error: ValidationError) -> PayloadInvalid:
        problems = [
            (".".join(map(str, problem["loc"])) or "(itself)", problem["msg"])
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        listed = "; ".join(f"{field}: {message}" for field, message in problems[:5])
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        return PayloadInvalid(
            f"{self._job_type}: {self._what} is not valid: {listed}{more}", job_type=self._job_type, errors=problems
        )
