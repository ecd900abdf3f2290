"""The libraries that are measured, and what each can do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Database = Literal["sqlite", "postgresql"]

NO_BULK = frozenset({"add_many"})
ROOT = Path(__file__).parents[2]
NODE = (sys.executable, str(ROOT / "tools" / "node.py"), "node")
BULLMQ_MANIFEST = ROOT / "node_modules" / "bullmq" / "package.json"

# Of the peers whose requirements contradict those of the others; `make bench` sets it up.
SQL_PYTHON = str(ROOT / ".venv-bench-sql" / "bin" / "python")

# Prints the versions of the packages named, without those that are not installed.
_VERSIONS = """\
import sys, json, importlib.metadata as metadata
found = {name: [d.version for d in metadata.distributions(name=name)] for name in sys.argv[1:]}
print(json.dumps({name: versions[0] for name, versions in found.items() if versions}))
"""


@dataclass(frozen=True)
class Peer:
    """One column of the table.

    database: where it keeps its jobs or their records in SQL; None for a library that does not.
    lacks: actions that the library has no call for.
    jobs_share: its share of the jobs that BullMQ and Taurine get, so that a slow library does not hold up the run.
    on_bullmq_wire: its keys are BullMQ's, so that what it did can be checked on the server.
    ended: SQL that counts the jobs that have ended well, and open: those that have not ended, for the same check in
    SQL.
    """

    key: str
    title: str
    command: Sequence[str]
    packages: Sequence[str] = ()
    database: Database | None = None
    lacks: frozenset[str] = frozenset()
    jobs_share: float = 1.0
    on_bullmq_wire: bool = False
    ended: str = ""
    open: str = ""

    def can(self, action: str) -> bool:
        return action not in self.lacks

    def missing(self) -> str | None:
        """Why it cannot run here; None when it can."""
        if self.key == BULLMQ.key:
            return _node_missing()
        versions = self.versions()
        for package in self.packages:
            if package not in versions:
                return f"the package {package} is not installed; `make bench` does that"
        return None

    def versions(self) -> dict[str, str]:
        """Names and versions of what is measured, as far as it is installed."""
        if self.key == BULLMQ.key:
            return {"bullmq on npm": json.loads(BULLMQ_MANIFEST.read_text())["version"]}
        python = self.command[0]
        if not Path(python).exists():
            return {}
        answer = subprocess.run([python, "-c", _VERSIONS, *self.packages], capture_output=True, text=True, check=True)
        return json.loads(answer.stdout)


def _node_missing() -> str | None:
    if subprocess.run([*NODE, "--version"], capture_output=True, check=False).returncode:
        return "there is no Node 20 or later"
    if not BULLMQ_MANIFEST.exists():
        return "its packages are not installed; run: npm ci --ignore-scripts"
    return None


def _module(name: str, python: str = sys.executable) -> Sequence[str]:
    return (python, "-m", f"benchmarks.peers.{name}")


BULLMQ = Peer("bullmq", "BullMQ on Node", (*NODE, "benchmarks/node/bullmq.mjs"), on_bullmq_wire=True)
TAURINE = Peer("taurine", "Taurine", _module("taurine_queue"), ("taurine", "redis", "hiredis"), on_bullmq_wire=True)
TAURINE_UVLOOP = Peer(
    "taurine-uvloop",
    "Taurine + uvloop",
    (*TAURINE.command, "--uvloop"),
    ("taurine", "uvloop"),
    on_bullmq_wire=True,
)
BULLMQ_PYTHON = Peer(
    "bullmq-python", "BullMQ on Python", _module("bullmq_python"), ("bullmq",), jobs_share=0.2, on_bullmq_wire=True
)
STREAQ = Peer("streaq", "streaq", _module("streaq_worker"), ("streaq",), jobs_share=0.2)
ARQ = Peer("arq", "arq", _module("arq_worker"), ("arq",), lacks=NO_BULK, jobs_share=0.1)
SAQ = Peer("saq", "SAQ", _module("saq_worker"), ("saq",), lacks=NO_BULK, jobs_share=0.1)
TASKIQ = Peer("taskiq", "taskiq", _module("taskiq_worker"), ("taskiq", "taskiq-redis"), lacks=NO_BULK, jobs_share=0.1)
DRAMATIQ = Peer(
    "dramatiq",
    "dramatiq",
    _module("dramatiq_worker"),
    ("dramatiq",),
    # Its calls block, so there is nothing to await together.
    lacks=NO_BULK | {"add_concurrent"},
    jobs_share=0.1,
)

_RECORDS_ENDED = "SELECT count(*) FROM taurine_job WHERE status = 'completed'"
_RECORDS_OPEN = "SELECT count(*) FROM taurine_job WHERE status <> 'completed'"

TAURINE_SQLITE = Peer(
    "taurine-sqlite",
    "Taurine, records in SQLite",
    _module("taurine_records"),
    ("taurine", "sqlalchemy", "pydantic"),
    "sqlite",
    on_bullmq_wire=True,
    ended=_RECORDS_ENDED,
    open=_RECORDS_OPEN,
)
TAURINE_POSTGRESQL = Peer(
    "taurine-postgresql",
    "Taurine, records in PostgreSQL",
    _module("taurine_records"),
    ("taurine", "sqlalchemy", "asyncpg"),
    "postgresql",
    on_bullmq_wire=True,
    ended=_RECORDS_ENDED,
    open=_RECORDS_OPEN,
)
PROCRASTINATE = Peer(
    "procrastinate",
    "procrastinate",
    _module("procrastinate_worker", SQL_PYTHON),
    ("procrastinate", "psycopg"),
    "postgresql",
    jobs_share=0.05,
    ended="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
    open="SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'",
)
PGQUEUER = Peer(
    "pgqueuer",
    "pgqueuer",
    # As its command `pgq run` runs a worker.
    (*_module("pgqueuer_worker", SQL_PYTHON), "--uvloop"),
    ("pgqueuer", "asyncpg", "uvloop"),
    "postgresql",
    ended="SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'",
    open="SELECT count(*) FROM pgqueuer",
)

_NO_WORK = frozenset({"fill", "add_many", "add_concurrent", "add_one", "pace", "drain", "grow", "listen", "idle"})

TAURINE_API = Peer(
    "taurine-api",
    "Taurine's API, records in SQLite",
    _module("taurine_api"),
    ("taurine", "fastapi", "starlette", "uvicorn"),
    "sqlite",
    lacks=_NO_WORK,
)
FASTAPI_ALONE = Peer(
    "fastapi", "FastAPI alone", _module("fastapi_alone"), ("fastapi", "starlette", "uvicorn"), lacks=_NO_WORK
)

ALL: tuple[Peer, ...] = (
    *(BULLMQ, TAURINE, TAURINE_UVLOOP, BULLMQ_PYTHON, STREAQ, ARQ, SAQ, TASKIQ, DRAMATIQ),
    *(TAURINE_SQLITE, TAURINE_POSTGRESQL, PROCRASTINATE, PGQUEUER),
    *(TAURINE_API, FASTAPI_ALONE),
)
