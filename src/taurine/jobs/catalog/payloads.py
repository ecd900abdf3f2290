"""Payloads and results: checked where they come in and where they go out, and JSON in between.

One rule for what JSON cannot hold exactly: NaN and infinities, half surrogate pairs, null characters, values nested too
deeply to be read back, and numbers of thousands of digits are refused with PayloadError before anything is stored.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from taurine.errors import CatalogError, PayloadError, PayloadInvalid, PayloadTooLarge
from taurine.jobs.catalog.strict_json import NULL_CHARACTER

__all__ = ["MAX_BYTES", "WARN_BYTES", "Codec", "encode_metadata"]

log = logging.getLogger("taurine.jobs")

WARN_BYTES = 32 * 1024
"""A payload above this many bytes is stored, with a warning in the log."""

MAX_BYTES = 1024 * 1024
"""The most bytes of JSON that a payload or a result may have, unless its job type says otherwise."""

_MAX_METADATA_BYTES = 64 * 1024

ValueT = TypeVar("ValueT")

_WITHOUT_FIELDS = (str, int, float, bool, bytes)


class Codec(Generic[ValueT]):
    """One type's way to JSON and back.

    what: what errors call the value, for example "the payload". max_bytes: the most that its JSON may have.
    Raises CatalogError for a type that Pydantic cannot check.
    """

    def __init__(self, annotation: Any, *, job_type: str, what: str, max_bytes: int = MAX_BYTES) -> None:
        self._job_type = job_type
        self._what = what
        self._max_bytes = max_bytes
        self._light_bytes = min(WARN_BYTES, max_bytes)
        try:
            self._adapter: TypeAdapter[ValueT] = TypeAdapter(annotation)
        except Exception as error:
            raise CatalogError(
                f"{job_type}: {what} is declared as {annotation!r}, which cannot be checked: {error}; use a Pydantic model, "
                "a dataclass, a TypedDict or plain JSON types"
            ) from error
        self.annotation: Any = annotation

    @cached_property
    def fields(self) -> list[str] | None:
        """The names that a template may use; None where they are not known."""
        if not isinstance(self.annotation, type):
            return None
        annotation = cast("type[Any]", self.annotation)
        if issubclass(annotation, BaseModel):
            return [*annotation.model_fields, *annotation.model_computed_fields, *_properties_of(annotation)]
        if dataclasses.is_dataclass(annotation):
            return [*(field.name for field in dataclasses.fields(annotation)), *_properties_of(annotation)]
        if hasattr(annotation, "__required_keys__") or hasattr(annotation, "_fields"):  # a TypedDict, a NamedTuple
            return list(annotation.__annotations__)
        return [] if issubclass(annotation, _WITHOUT_FIELDS) else None

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
        return self._written(value).decode()

    def accept(self, value: Any) -> tuple[ValueT, str]:
        """`value` checked, as whoever reads its JSON will see it, and that JSON.

        An object that was changed after it was made, or made without its checks, is refused here and not when the job
        runs.
        Raises PayloadInvalid, PayloadError and PayloadTooLarge.
        """
        written = self._written(self.check(value))
        return self.decode(written), written.decode()

    def _written(self, value: ValueT) -> bytes:
        try:
            written = self._adapter.dump_json(value, by_alias=True, warnings="none")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
            raise PayloadError(
                f"{self._job_type}: {self._what} cannot be stored as JSON: {_without_values(error)}; "
                "pass ids and plain data, no clients or requests"
            ) from None
        if b"null" in written and value is not None and self._holds_no_number(value):
            raise PayloadError(f"{self._job_type}: {self._what} holds NaN or an infinity, which is no JSON number")
        if b"\\u0000" in written and NULL_CHARACTER.search(written):
            raise PayloadError(f"{self._job_type}: {self._what} holds a null character, which cannot be stored")
        if len(written) > self._light_bytes:
            self._weigh(len(written))
        return written

    def _holds_no_number(self, value: ValueT) -> bool:
        """True for a value with NaN or an infinity in it: Pydantic writes null for them."""
        plain = self._adapter.dump_python(value, warnings="none")
        try:
            json.dumps(plain, allow_nan=False, skipkeys=True, default=_members_of)
        except ValueError:
            return True
        return False

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

    def _invalid(self, error: ValidationError) -> PayloadInvalid:
        found = error.errors(include_url=False, include_context=False)
        problems = [(".".join(map(str, problem["loc"])) or "(itself)", _message_of(problem)) for problem in found]
        listed = "; ".join(f"{field}: {message}" for field, message in problems[:5])
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        return PayloadInvalid(
            f"{self._job_type}: {self._what} is not valid: {listed}{more}",
            job_type=self._job_type,
            errors=problems,
            places=[problem["loc"] for problem in found],
        )


def encode_metadata(metadata: Any) -> str:
    """A mapping of plain data as JSON text. Raises PayloadError, and PayloadTooLarge above 64 KiB."""
    if not isinstance(metadata, Mapping):
        raise PayloadError(f"expected metadata to be a mapping, got {type(metadata).__name__}")
    try:
        text = json.dumps(
            dict(cast("Mapping[Any, Any]", metadata)), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        written = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"metadata cannot be stored as JSON: {error}; pass plain data") from None
    if NULL_CHARACTER.search(written):
        raise PayloadError("metadata holds a null character, which cannot be stored")
    if len(written) > _MAX_METADATA_BYTES:
        raise PayloadTooLarge(f"metadata is {len(written):,} bytes of JSON, above the limit of {_MAX_METADATA_BYTES:,}")
    return text


def _properties_of(annotation: type) -> list[str]:
    return [
        name
        for owner in annotation.__mro__
        for name, member in vars(owner).items()
        if isinstance(member, property | cached_property) and owner not in (object, BaseModel)
    ]


def _members_of(value: Any) -> list[Any]:
    """What a value that `json` does not know holds; of dates and their like nothing that matters here."""
    return list(value) if isinstance(value, set | frozenset) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _without_values(error: Exception) -> str:
    """A serializer's error. That of the payload's own function may hold anything, so it is only named."""
    return str(error).partition(": ")[0] if str(error).startswith("Error calling function") else str(error)


_OWN_WORDS = frozenset({"value_error", "assertion_error"})
"""Types of Pydantic's errors whose text is that of the payload's own validators."""


def _message_of(problem: ErrorDetails) -> str:
    """What is wrong with a field, in words that hold no value of it."""
    if problem["type"] == "union_tag_invalid":
        return "Input tag is none of the expected ones"
    if problem["type"] in _OWN_WORDS and any(text in problem["msg"] for text in _texts_in(problem["input"])):
        return "Refused by its validator"
    return problem["msg"]


def _texts_in(value: Any, depth: int = 3) -> list[str]:
    """The values inside an input, as an error's text might show them."""
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        value = vars(value)
    if depth and isinstance(value, Mapping | list | tuple | set | frozenset):
        members = cast("Mapping[Any, Any]", value).values() if isinstance(value, Mapping) else cast("list[Any]", value)
        return [text for member in members for text in _texts_in(member, depth - 1)]
    return [] if value is None or value == "" else [str(value)]
