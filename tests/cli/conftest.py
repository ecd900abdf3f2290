"""What the tests of the command line share: an application in a folder of the test's own, and running `taurine` there
as its user does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.in_process import Ended, ended_here
from cli.terminal import Terminal
from taurine.app import Taurine

SHOP = """
import asyncio
from pathlib import Path

from pydantic import BaseModel, Field

from taurine import Context, Fixed, Retry, Taurine

app = Taurine("shop")


class Invite(BaseModel):
    user: str
    address: str = Field(min_length=3)


@app.job("invite.send", queue="mail", job_id="invite:{user}", description="An invitation.")
async def send_invite(invite: Invite, ctx: Context) -> dict[str, str]:
    ctx.log.info("sending", user=invite.user)
    return {"message": f"m-{invite.user}"}


@app.job("file.copy", queue="files", retry=Retry(attempts=2, backoff=Fixed(0.05)))
async def copy_file(name: str) -> None:
    raise FileNotFoundError(name)


@app.job("list.walk", queue="slow")
async def walk(gate: str, ctx: Context) -> int:
    await ctx.progress(3, 10, "walking")
    Path("walking").touch()
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    await ctx.progress(10, 10)
    return 10
"""


@pytest.fixture
def environment(redis_url: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    """The settings that the commands and the test's own application share: the test run's server, and SQLite in the
    folder.
    """
    return {
        "TAURINE_REDIS_URL": redis_url,
        "TAURINE_DATABASE_URL": f"sqlite:///{tmp_path / 'taurine.db'}",
        "TAURINE_PREFIX": prefix,
        "TAURINE_HOME": str(tmp_path),
    }


@pytest.fixture
def variables(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """All variables of a command, with the shop named as its application."""
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    ours = ("TAURINE_", "REDIS_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **environment, "TAURINE_APP": "shop:app"}


@pytest.fixture
def private(variables: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The same without any server named: the private ones, in the folder."""
    others = {name: value for name, value in variables.items() if not name.startswith("TAURINE_")}
    return {**others, "TAURINE_APP": "shop:app", "TAURINE_HOME": str(tmp_path / "home")}


@pytest.fixture
def process(variables: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Run `python -m taurine` with these words to its end; what is given by name is a variable, or `stdin`."""

    async def run(*words: str, stdin: str = "", **more: str) -> Ended:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taurine", *words),
            cwd=tmp_path,
            env=variables | more,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await program.communicate(stdin.encode())
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
        assert program.returncode is not None
        return Ended(program.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
def here(variables: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """The same in this process, which is a good deal quicker: with these variables alone, in the folder, one command at
    a time.
    """
    turn = asyncio.Lock()

    async def run(*words: str, stdin: str = "", **more: str) -> Ended:
        async with turn:
            return await asyncio.to_thread(ended_here, words, stdin, variables | more, tmp_path)

    return run


@pytest.fixture
def taurine(here: Callable[..., Any], process: Callable[..., Any]) -> Callable[..., Any]:
    """Run a command to its end, in this process where that can be.

    One that listens to signals needs a process of its own; one that may wait for ever gets one, which ends with its
    test.
    """

    async def run(*words: str, **more: str) -> Ended:
        listens = words[:1] in (("worker",), ("dev",), ("demo",)) and "--help" not in words
        waits = "--watch" in words or ("--wait" in words and "--timeout" not in words)
        return await (process if listens or waits else here)(*words, **more)

    return run


@pytest.fixture
def terminal(variables: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Start `taurine` with these words on a terminal of its own; `columns` wide."""
    terminals: list[Terminal] = []

    def start(*words: str, columns: int = 120, environment: dict[str, str] | None = None, **more: str) -> Terminal:
        every = {"TERM": "xterm-256color", **(environment or variables), **more}
        terminals.append(Terminal([sys.executable, "-m", "taurine", *words], every, tmp_path, columns=columns))
        return terminals[-1]

    yield start
    for one in terminals:
        one.close()


@pytest.fixture
async def app(environment: dict[str, str]) -> AsyncIterator[Taurine]:
    """An application on the same servers, without the shop's types."""
    settings: Any = {name.removeprefix("TAURINE_").lower(): value for name, value in environment.items()}
    async with Taurine("shop", **settings) as app:
        yield app
