"""Who calls: what all ways of saying so come to."""

from __future__ import annotations

from dataclasses import dataclass

from taurine.jobs.credentials.scopes import SCOPES, Scope

__all__ = ["SCOPES", "Caller", "Scope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """name: as it is written into the audit. scopes: each stands for itself, and "admin" for all.

    tenant: the only one whose jobs there are for this caller; None for all, those without a tenant included.
    job_id, tag, job_type: what a public token is bound to; None for no such bound. See `taurine.http.calls` for what a
    bound caller reaches.
    """

    name: str
    scopes: frozenset[Scope]
    tenant: str | None = None
    job_id: str | None = None
    tag: str | None = None
    job_type: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller has this scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def bound(self) -> bool:
        """Whether this caller reaches one job, the jobs of one tag, or one job type alone."""
        return self.job_id is not None or self.tag is not None or self.job_type is not None
