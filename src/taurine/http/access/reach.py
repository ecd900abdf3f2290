"""What a caller with a public token reaches: what the parameters of a route's path name, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from taurine.http.access.caller import Caller
from taurine.http.paths import path_text

if TYPE_CHECKING:
    from taurine.app import Taurine

__all__ = ["reaches"]


async def reaches(caller: Caller, connection: HTTPConnection, app: Taurine, *, heeds_tag: bool) -> bool:
    """Whether a bound caller may use the route of this request.

    heeds_tag: see `taurine.http.calls`. Raises LedgerUnavailable.
    """
    if caller.job_type is not None:
        return _named(connection, "type") == caller.job_type and _puts_in_one(connection)
    job_id = _named(connection, "job_id")
    if caller.job_id is not None:
        return job_id == caller.job_id
    if job_id is not None:
        record = await app.get(job_id, tenant=caller.tenant)
        return record is not None and caller.tag in record.tags
    if (tag := _named(connection, "tag")) is not None:
        return tag == caller.tag
    return heeds_tag and connection.query_params.getlist("tag") == [caller.tag]


def _named(connection: HTTPConnection, parameter: str) -> str | None:
    """What the path names by this parameter."""
    segment: Any = connection.path_params.get(parameter)
    if not isinstance(segment, str):
        return None
    try:
        return path_text(segment)
    except ValueError:
        return None


def _puts_in_one(connection: HTTPConnection) -> bool:
    """Whether the route ends with the job type: what comes after it, as for a batch, is not for a token that one job is
    put in with.
    """
    return str(getattr(connection.scope.get("route"), "path", "")).endswith("{type}")
