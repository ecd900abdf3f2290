"""The examples as their readers have them: started as programs, or imported onto the server that the tests share."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import taurine
from embedded.processes import SOURCE, processes_on

EXAMPLES = SOURCE.parent / "examples"


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., str]:
    """`started("csv_export")` runs that program in an empty folder, with the embedded server, and returns what it
    prints.
    """

    def start(name: str, *arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert not processes_on(tmp_path), "processes outlive the program"
        return ended.stdout

    return start


@pytest.fixture
async def imported(
    redis_socket_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Any]]:
    """`imported("csv_export", clock=clock)` imports it, its application on the shared server with these options of
    `Taurine`.
    """
    modules: list[Any] = []
    usual: dict[str, Any] = {"redis_url": redis_socket_url, "home": tmp_path, "prefix": prefix}

    def load(name: str, **options: Any) -> Any:
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # where the types of its functions are looked up
        with monkeypatch.context() as patched:
            patched.setattr(taurine, "Taurine", partial(taurine.Taurine, **(usual | options)))
            spec.loader.exec_module(module)
        modules.append(module)
        return module

    yield load
    for module in modules:
        await module.app.close()
