"""Where the demo happens: what its processes must agree on."""

from __future__ import annotations

from pathlib import Path

from taurine.embedded import EmbeddedServer

__all__ = ["CONCURRENCY", "LEASE", "QUEUE", "STALLED_INTERVAL", "journal_path", "shared_server"]

QUEUE = "standard-library"

LEASE = 2.0
"""Seconds that a job stays with a worker that does not answer. A worker's default is 30: short here, so that one sees the recovery."""

STALLED_INTERVAL = 1.0
"""Seconds between looks for such jobs. A worker's default is 30. The second look puts them back."""

CONCURRENCY = 8


def shared_server(home: Path) -> EmbeddedServer:
    """The demo's Valkey server. Whoever starts it first makes it; the last to stop it ends it."""
    return EmbeddedServer(home / "server")


def journal_path(home: Path) -> Path:
    """Where the workers write down what they run."""
    return home / "journal"
