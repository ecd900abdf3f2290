"""What is this machine alone."""

from __future__ import annotations

from ipaddress import ip_address

from starlette.requests import HTTPConnection

__all__ = ["calls_from_here", "is_loopback"]

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""What proxies say of who called them: then nobody calls from this machine, whatever the address says."""


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, is this machine's own and no other reaches it."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def calls_from_here(connection: HTTPConnection) -> bool:
    """Whether somebody on this machine calls, by a name of its own: directly, not through a proxy, and not by a page
    whose name has come to point here.
    """
    client = connection.client
    if client is None or not is_loopback(client.host) or not is_loopback(connection.url.hostname or ""):
        return False
    return not any(name in connection.headers for name in _FORWARDED)
