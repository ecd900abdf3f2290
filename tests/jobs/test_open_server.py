"""A server of queues that anybody on the network may use is worth a warning (A52)."""

from __future__ import annotations

import pytest

from taurine.jobs.operations.diagnosis import open_to_the_world


@pytest.mark.parametrize(
    "url", ["redis://queues.example:6379", "rediss://user@10.0.0.7/0", "redis://[2001:db8::1]:6379"]
)
def test_one_elsewhere_without_a_password_is_warned_of(url: str) -> None:
    (finding,) = open_to_the_world(url)
    assert finding.level == "warn"
    assert "user" not in finding.text.replace("***", "")
    assert finding.remedy is not None


@pytest.mark.parametrize(
    "url",
    [
        None,
        *("redis://localhost:6379", "redis://127.0.0.1", "redis://[::1]:6379", "unix:///run/valkey.sock", "redis://"),
        *("redis://:secret@queues.example", "rediss://user:secret@queues.example:6380/1"),
    ],
)
def test_one_here_or_with_a_password_is_not(url: str | None) -> None:
    assert open_to_the_world(url) == []
