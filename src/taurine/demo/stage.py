"""Where the demo happens: what its processes must agree on, above all the application and its job types."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from taurine.app import Taurine
from taurine.demo.counts import Counts
from taurine.embedded import EmbeddedServer
from taurine.jobs.catalog.job_type import JobType
from taurine.retry import Fixed, Retry

__all__ = ["CONCURRENCY", "LEASE", "LOOKS", "QUEUE", "Source", "Stage", "Watch", "journal_path", "shared_server"]

QUEUE = "standard-library"

LEASE = 2.0
"""Seconds that a job stays with a worker that does not answer. A worker's default is 30: short here, so that one sees the recovery."""

LOOKS = 1.0
"""Seconds between looks for such jobs, and for jobs that the queue has lost. The defaults are 30 and 10."""

CONCURRENCY = 8


class Source(BaseModel):
    """A file to look at: a path below the standard library, or an absolute one."""

    file: str


class Watch(BaseModel):
    """What to watch, until somebody says that it is enough."""

    folder: str


class Stage:
    """The application, declared without its handlers: those are the worker's.

    home: the demo's directory, where the ledger is. redis_url: where the queues are. Both are given, and not looked for in the environment: what the demo
    does to its server must not happen to another one.
    """

    def __init__(self, home: Path, redis_url: str) -> None:
        self.app = Taurine(
            "taurine-demo",
            redis_url=redis_url,
            database_url=f"sqlite:///{home / 'ledger.db'}",
            home=home,
            prefix="demo",
            concurrency=CONCURRENCY,
            lease=LEASE,
        )
        self.index: JobType[Source, Counts] = self.app.declare(
            "library.index", Source, Counts, queue=QUEUE, job_id="index:{file}"
        )
        self.digest: JobType[Source, str] = self.app.declare(
            "library.digest", Source, str, queue="digests", job_id="digest:{file}", retry=Retry(2, Fixed(0.2))
        )
        self.watch: JobType[Watch, int] = self.app.declare("library.watch", Watch, int, queue="watches")


def shared_server(home: Path) -> EmbeddedServer:
    """The demo's Valkey server. Whoever starts it first makes it; the last to stop it ends it."""
    return EmbeddedServer(home / "server")


def journal_path(home: Path) -> Path:
    """Where the workers write down what they run."""
    return home / "journal"
