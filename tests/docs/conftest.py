"""What the tests of pages share: settings over a prefix and a folder of the test's own, for programs and for code that
is run here.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def settings(redis_socket_url: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    """As variables, for a program."""
    return {"TAURINE_REDIS_URL": redis_socket_url, "TAURINE_PREFIX": prefix, "TAURINE_HOME": str(tmp_path)}


@pytest.fixture
def environment(settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings, which code that is run here finds too; it stands in the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return settings
