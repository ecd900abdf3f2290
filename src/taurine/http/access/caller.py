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
    issuer: who has made the public token; None for no token, and for one that the application has made itself.
    """

    name: str
    scopes: frozenset[Scope]
    tenant: str | None = None
    job_id: str | None = None
    tag: str | None = None
    job_type: str | None = None
    issuer: str | None = None

    @property
    def answerable(self) -> str:
        """Who answers for what this caller does: for a public token whoever has made it, since its name is free."""
        return self.name if self.issuer is None else self.issuer

    def may(self, scope: Scope) -> bool:
        """Whether the caller has this scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def bound(self) -> bool:
        """Whether this caller reaches one job, the jobs of one tag, or one job type alone."""
        return self.job_id is not None or self.tag is not None or self.job_type is not None

    @property
    def sees_all(self) -> bool:
        """Whether the caller belongs to no tenant and is bound to nothing, so that it may know of what all share, such as
        queues and workers.
        """
        return self.tenant is None and not self.bound
