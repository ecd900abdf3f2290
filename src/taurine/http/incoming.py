"""What comes in: bodies and queries, which refuse what they do not know, and the words in them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from taurine.http.paths import LONGEST, printable

__all__ = ["Body", "Cursor", "Parameters", "Word"]

Word: TypeAlias = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(printable)]
"""A name or an id."""

Cursor: TypeAlias = Annotated[str, Field(max_length=4096)]
"""`next_cursor` of a page before."""


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid")


class Parameters(BaseModel):
    """The parameters of a query."""

    model_config = ConfigDict(extra="forbid")

    access_token: str | None = Field(
        default=None,
        exclude=True,
        description="A public token, where a browser can send no header of ours, as with EventSource and WebSocket.",
    )
