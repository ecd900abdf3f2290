"""What goes wrong: problem documents, SEED-036, CON-10, A22, A40."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from support.api import Client, problem
from support.server import ValkeyServer
from taurine import errors
from taurine.app import Taurine
from taurine.errors import PayloadInvalid, QuotaExceeded, TaurineError
from taurine.http import create_app
from taurine.http.problems import CODES, answer_to, pointer
from taurine.jobs.reporting.redaction import Redact

NOT_FROM_A_REQUEST = {
    # Of handlers, workers and the engine: no call of the API raises them.
    *("HandlerSignal", "Permanent", "RetryAfter", "Snooze", "Release", "RateLimited", "WaitForChildren", "Cancel"),
    *("AttemptError", "TimeLimitExceeded", "HandlerExited", "HandlerFailed", "WorkerLost", "WorkerProcessDied"),
    *("WorkerProcessNotStarted", "SupervisorGaveUp", "EffectError", "EffectUnknown", "EffectInProgress"),
    *("TaurineError", "LedgerError", "StoreError", "CatalogError", "StreamError", "StreamDropped"),
}


def test_every_error_that_a_request_may_meet_has_a_code() -> None:
    """One table: an error without a row would be answered with 500."""
    for name in errors.__all__:
        kind = getattr(errors, name)
        if not issubclass(kind, TaurineError) or name in NOT_FROM_A_REQUEST:
            continue
        error = kind.__new__(kind)
        error.args = ("it went wrong",)
        vars(error).update(errors=(), places=(), index=None, challenge="Bearer", retry_after=2.5)
        answer = answer_to(error, instance="/x", redact=Redact.NONE)
        assert b"internal_error" not in bytes(answer.body), name


def test_a_code_stands_for_one_status() -> None:
    assert all(code == kind.code for code, kind in CODES.items())
    assert all(400 <= kind.status <= 599 for kind in CODES.values())


def test_who_may_repeat_a_request_is_told_when() -> None:
    refused = QuotaExceeded("full", job_id="a", tenant="t", max_open=1, job_type=None)
    assert answer_to(refused, instance=None, redact=Redact.NONE).headers["retry-after"] == "5"
    unavailable = errors.LedgerUnavailable("away")
    assert answer_to(unavailable, instance=None, redact=Redact.NONE).headers["retry-after"] == "1"


def test_texts_are_redacted_and_members_are_pointed_at() -> None:
    """A42."""
    errors = [("a.b", "wrong: token=abc")]
    error = PayloadInvalid("token=abc", job_type="t", errors=errors, places=[("a/b", 0, "c~")])
    body = bytes(answer_to(error, instance=None, redact=Redact.DEFAULT).body).decode()

    assert "abc" not in body
    assert '"/payload/a~1b/0/c~0"' in body
    assert pointer() == ""


async def test_what_nobody_expected_is_500_without_a_word_of_it(
    app: Taurine, monkeypatch: pytest.MonkeyPatch, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A40, A42: it is told to the log, redacted, and to nobody else."""

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the secret of /srv/settings.py, password=hunter2")

    monkeypatch.setattr(app, "get", broken)
    with caplog.at_level(logging.ERROR, "taurine.http"):
        answer = await client.get("/v1/jobs/a")

    assert problem(answer) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "settings" not in answer.text
    assert "the secret of" in caplog.text
    assert "hunter2" not in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (404, "not_found")),
        ("GET", "/v2/jobs", (404, "not_found")),
        ("DELETE", "/v1/jobs/a", (405, "method_not_allowed")),
        ("TRACE", "/v1/jobs", (405, "method_not_allowed")),
        ("GET", "/docs", (404, "not_found")),
    ],
)
async def test_the_frameworks_own_refusals_are_documents_too(
    client: Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert problem(await client.request(method, path)) == expected


async def test_a_database_that_is_away_is_503_within_a_second(
    app: Taurine, tmp_path: Path, client_of: Callable[..., Client]
) -> None:
    """SEED-036, CON-10: somebody holds SQLite's lock for longer than a request waits."""
    client = client_of(app, answer_within=0.2)
    assert (await client.enqueue(job_id="before")).status_code == 202
    engine = create_engine(f"sqlite:///{tmp_path / 'taurine.db'}")
    try:
        with engine.connect() as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            refused = await client.enqueue(job_id="during")
            read = await client.get("/v1/jobs/before")
            other.rollback()
    finally:
        engine.dispose()

    assert problem(refused) == (503, "ledger_unavailable")
    assert refused.headers["retry-after"] == "1"
    assert refused.elapsed.total_seconds() < 1.0
    assert read.status_code == 200
    again = await client_of(app).enqueue(job_id="during")
    assert again.status_code == 202


async def test_a_server_of_queues_that_is_away_delays_a_job_and_refuses_none(
    app_factory: Callable[..., Taurine],
    client_of: Callable[..., Client],
    server_factory: Callable[..., ValkeyServer],
) -> None:
    """SEED-036: the record is what accepts."""
    server = server_factory()
    app = app_factory(redis_url=server.socket_url)
    app.declare("thing.keep", dict[str, int])
    client = client_of(app)
    assert (await client.enqueue("thing.keep", {}, job_id="before")).status_code == 202
    server.kill()
    accepted = await client.enqueue("thing.keep", {}, job_id="during")

    assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")
    assert (await client.get("/v1/jobs/during")).json()["status"] == "queued"


def test_a_lease_token_is_in_no_document(app: Taurine) -> None:
    """A22: nothing that the API shows lets anybody settle a job."""
    document = str(create_app(app).openapi()).lower()
    for word in ("fence", "lease_token", "worker_token", "trace'"):
        assert word not in document


def test_problem_of_any_error_text() -> None:
    """A lone surrogate in a message is no reason to fail again."""
    answer = answer_to(errors.InvalidOption("half \ud800"), instance="/\ud800", redact=Redact.NONE)
    assert answer.status_code == 400
    assert isinstance(answer.body, bytes | memoryview)
