"""Where worker processes find the application: real programs, started in each of the ways that people start them."""

from __future__ import annotations

import asyncio
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import taurine
from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.jobs.worker.import_path import application_at, import_path_of

SOURCE = str(Path(taurine.__file__).parents[1])

# Ends by itself when one of its two processes has run a job, or when they do not start.
PROGRAM = """
import asyncio, logging, os
from taurine.app import Taurine

app = Taurine("shop", {options})

@app.job("parcel.pack", queue="parcels")
async def pack(number: int) -> int:
    return os.getpid()

async def main():
    async with app:
        handle = await pack.enqueue(1)
        worker = app.worker(processes=2)
        run = asyncio.create_task(worker.run())
        result = asyncio.create_task(handle.result())
        await asyncio.wait((run, result), return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            result.cancel()
            run.result()
        packer = result.result()
        print("packed by another process:", packer != os.getpid() and packer in worker.pids.values(), flush=True)
        await worker.stop()
        await run

{guard}
    asyncio.run(main())
"""

GUARD = 'if __name__ == "__main__":'


@pytest.fixture
def environment(redis_url: str, sqlite_url: str, prefix: str) -> dict[str, str]:
    names = ("REDIS_URL", "DATABASE_URL", "PREFIX")
    return {
        **os.environ,
        **{f"TAURINE_{name}": value for name, value in zip(names, (redis_url, sqlite_url, prefix), strict=True)},
        "PYTHONPATH": SOURCE,
    }


async def run(environment: dict[str, str], folder: Path, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=folder, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode()


def program(path: Path, *, guard: str = GUARD, options: str = "") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(PROGRAM.format(guard=guard, options=options))


async def test_a_script(environment: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "scripts" / "shop.py")
    code, said = await run(environment, tmp_path, "scripts/shop.py")
    assert code == 0
    assert said.startswith("packed by another process: True\n")


async def test_a_module(environment: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "shop" / "worker.py")
    code, said = await run(environment, tmp_path, "-m", "shop.worker")
    assert code == 0
    assert said.startswith("packed by another process: True\n")


async def test_a_program_without_a_guard_is_told_so(environment: dict[str, str], tmp_path: Path) -> None:
    """Else each process would make processes of its own."""
    program(tmp_path / "shop.py", guard="if True:")
    code, said = await run(environment, tmp_path, "shop.py")
    assert code == 1
    assert "begin the program's own work under `if __name__ == '__main__':`" in said
    assert "5 worker processes in a row ended within" in said


async def test_a_script_whose_name_is_none_of_a_module(environment: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "my-shop.py")
    code, said = await run(environment, tmp_path, "my-shop.py")
    assert code == 1
    assert "my-shop.py cannot be imported by its name" in said
    assert "import_path='module:name'" in said


async def test_a_command_line_of_code(environment: dict[str, str], tmp_path: Path) -> None:
    code, said = await run(environment, tmp_path, "-c", PROGRAM.format(guard="if True:", options=""))
    assert code == 1
    assert "no file holds the code of this session" in said


async def test_an_import_path_that_leads_elsewhere(environment: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "shop.py", options='import_path="math:pi"')
    code, said = await run(environment, tmp_path, "shop.py")
    assert code == 1
    assert "expected math:pi to be a Taurine application, got 3.14" in said


# Names --------------------------------------------------------------------------------------------------------------------------------


def module(monkeypatch: pytest.MonkeyPatch, name: str, **values: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(values)
    monkeypatch.setitem(sys.modules, name, made)
    return made


def test_the_module_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    application = object()
    module(monkeypatch, "shop_of_a_test", other=1, queue_app=application)
    assert import_path_of(application, "shop_of_a_test") == "shop_of_a_test:queue_app"
    assert application_at("shop_of_a_test:queue_app") is application


def test_the_programs_own_module_comes_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An application that a function in a library makes, and a script keeps."""
    application = object()
    module(monkeypatch, "library_of_a_test")
    script = tmp_path / "script_of_a_test.py"
    script.touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    main = module(monkeypatch, "__main__", app=application, __file__=str(script))
    main.__spec__ = None
    assert import_path_of(application, "library_of_a_test") == "script_of_a_test:app"


def test_an_application_that_no_module_holds() -> None:
    with pytest.raises(
        InvalidOption, match=r"it is no global of the module 'json' that made it; .+import_path='module:name'"
    ):
        import_path_of(object(), "json")


@pytest.mark.parametrize(
    ("path", "message"),
    [("json", "expected import_path to be 'module:name'"), ("json:app", "there is no 'app' in the module 'json'")],
)
def test_a_path_that_names_nothing(path: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        application_at(path)


async def test_an_application_made_in_a_function(app: Taurine) -> None:
    @app.job("parcel.pack")
    async def pack(number: int) -> None:
        pass

    with pytest.raises(InvalidOption, match="no global of the module"):
        app.worker(processes=2)
