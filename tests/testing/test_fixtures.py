"""The fixtures, as pytest runs that are not ours have them: in plain tests, and with either plugin for async ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from embedded.processes import SOURCE

CONFTEST = 'pytest_plugins = ["taurine.testing.fixtures"]\n'

ASYNC = """
import pytest
from taurine.testing import drain
{mark}

@pytest.fixture
async def worker(taurine_app):
    @taurine_app.job("word.shout")
    async def shout(word: str) -> str:
        return word.upper()
    async with taurine_app.worker():
        yield shout

async def test_a_job_is_done(worker):
    assert await (await worker.enqueue("moo")).result(timeout=20) == "MOO"

async def test_tests_do_not_see_one_anothers_jobs(taurine_app_factory, taurine_clock):
    first, second = taurine_app_factory("first"), taurine_app_factory("second", clock=taurine_clock)
    assert first.settings.prefix != second.settings.prefix
    handle = await first.declare("word.sing", str).enqueue("la")
    assert await first.get(handle.id) is not None
    assert await second.get(handle.id) is None

async def test_what_is_enqueued_is_recorded(taurine_app, taurine_recorder):
    await taurine_app.declare("word.sing", str).enqueue("la")
    taurine_recorder.assert_enqueued("word.sing", payload="la")
    assert not taurine_app.loops
"""

PLAIN = """
from taurine.testing import drain_sync

def test_a_job_is_done(taurine_app):
    @taurine_app.job("word.shout")
    def shout(word: str) -> str:
        return word.upper()
    handle = shout.enqueue_sync("moo")
    assert drain_sync(taurine_app)[handle.id].output == "MOO"
    assert handle.result_sync(timeout=5) == "MOO"

def test_it_is_recorded(taurine_app, taurine_recorder):
    taurine_app.declare("word.sing", str).enqueue_sync("la")
    taurine_recorder.assert_enqueued("word.sing", times=1)
"""

ASYNCIO = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
ANYIO = "pytestmark = pytest.mark.anyio\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"


@pytest.mark.parametrize(
    ("module", "options"),
    [
        pytest.param(ASYNC.format(mark=""), ASYNCIO, id="pytest-asyncio"),
        pytest.param(ASYNC.format(mark=ANYIO), ("-p", "no:asyncio"), id="anyio"),
        pytest.param(PLAIN, ("-p", "no:asyncio", "-p", "no:anyio"), id="plain"),
    ],
)
def test_they_work_and_leave_nothing_open(module: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """A warning is an error there: of a socket, a database or a loop that is left open too."""
    (tmp_path / "conftest.py").write_text(CONFTEST, "utf-8")
    (tmp_path / "test_words.py").write_text(module, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", "utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", *options, "test_words.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{module.count('def test_')} passed" in run.stdout


def test_importing_the_kit_does_not_import_pytest() -> None:
    code = "import sys, taurine.testing; print([name for name in sys.modules if name.partition('.')[0] in ('pytest', '_pytest')])"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "[]"


def test_importing_taurine_does_not_import_the_kit() -> None:
    code = (
        "import sys, taurine, taurine.app; print([name for name in sys.modules if name.startswith('taurine.testing')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "[]"
