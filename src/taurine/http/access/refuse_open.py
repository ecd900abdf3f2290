"""Serving beyond loopback without any credential: refused before the port is open."""

from __future__ import annotations

from taurine.errors import InvalidOption
from taurine.http.access.gate import Gate
from taurine.http.access.loopback import is_loopback

__all__ = ["refuse_open"]


async def refuse_open(host: str, gate: Gate, *, anyway: bool = False) -> None:
    """Return when it is safe to listen on this host. anyway: the operator has said that it is.

    Raises InvalidOption for an address beyond loopback, the empty one and 0.0.0.0 included, as long as nobody has said
    who may call; LedgerUnavailable.
    """
    if anyway or is_loopback(host) or await gate.configured():
        return
    raise InvalidOption(
        f"expected credentials before the API is served on {host or 'all addresses'!r}, beyond this machine: make a key with `taurine keys create NAME --scope …` or an admin with "
        "`taurine admins add NAME`, or give Access a host_login or oidc"
    )
