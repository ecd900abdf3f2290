"""What a caller may do, in four words; and roles, which stand for some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, cast, get_args

from taurine.errors import InvalidOption, did_you_mean

__all__ = ["ROLES", "SCOPES", "SCOPES_OF", "Role", "Scope", "checked_scopes", "scopes_of"]

Scope: TypeAlias = Literal["enqueue", "read", "operate", "admin"]
"""What a caller may do: accept jobs; look at them; change jobs and queues; all of it, and who else may."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

Role: TypeAlias = Literal["viewer", "operator", "admin"]
"""What a person may do: look; run the affairs of jobs and queues too; all of it, and who else may."""

ROLES: tuple[Role, ...] = get_args(Role)

SCOPES_OF: Mapping[Role, frozenset[Scope]] = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "enqueue", "operate"}),
    "admin": frozenset({"admin"}),
}
"""The scopes that each role stands for."""


def checked_scopes(scopes: Iterable[str]) -> frozenset[Scope]:
    """`scopes`, at least one and each a word of ours. Raises InvalidOption, with the near miss."""
    if isinstance(scopes, str):
        raise InvalidOption(f'expected scopes to be a list of words, such as ["{scopes:.20}"], got a text')
    words = frozenset(scopes)
    if not words:
        raise InvalidOption(f"expected at least one scope of {', '.join(SCOPES)}")
    for word in sorted(words - {*SCOPES}):
        raise InvalidOption(
            f"expected a scope to be {', '.join(SCOPES[:-1])} or {SCOPES[-1]}, got {word!r:.40}{did_you_mean(word, SCOPES)}"
        )
    return cast("frozenset[Scope]", words)


def scopes_of(role: str) -> frozenset[Scope]:
    """The scopes of a role. Raises InvalidOption for a word that is none, with the near miss."""
    if role not in SCOPES_OF:
        raise InvalidOption(
            f"expected the role to be {', '.join(ROLES[:-1])} or {ROLES[-1]}, got {role!r:.40}{did_you_mean(role, ROLES)}"
        )
    return SCOPES_OF[cast("Role", role)]
