"""`taurine serve`: the API by the command line."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Ended
from cli.terminal import Terminal
from taurine.app import Taurine

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")


class Serving:
    """`taurine serve --json` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, started: dict[str, Any]) -> None:
        self.process = process
        self.url: str = started["url"]
        self.curl: str = started["curl"]

    async def stop(self) -> tuple[int, str]:
        """SIGTERM; returns the exit code and the last line."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode()


@pytest.fixture
async def serving(variables: dict[str, str], tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    started: list[asyncio.subprocess.Process] = []

    async def start(*words: str) -> Serving:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "taurine", "serve", "--port", "0", "--json", *words),
            cwd=tmp_path,
            env=variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        return Serving(process, json.loads(await process.stdout.readline()))

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def sh(line: str) -> str:
    process = await asyncio.create_subprocess_shell(line, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode()


@needs_curl
async def test_the_line_that_it_prints_works_and_sigterm_ends_it_well(
    serving: Callable[..., Any], app: Taurine
) -> None:
    api = await serving()
    accepted = json.loads(await sh(api.curl))
    code, last = await api.stop()

    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", api.url)
    assert (accepted["type"], accepted["status"]) == ("invite.send", "queued")
    record = await app.get(accepted["id"])
    assert record is not None
    assert record.payload == {"user": "text", "address": "text"}
    assert (code, json.loads(last)) == (0, {"event": "stopped"})


async def test_a_request_that_is_under_way_is_answered_before_it_ends(
    serving: Callable[..., Any], app: Taurine
) -> None:
    """SIGTERM while a body is still on its way."""
    api = await serving()
    port = int(api.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"payload": {"user": "ada", "address": "ada@example.com"}, "job_id": "late"}'
    head = f"POST /v1/jobs/invite.send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body[:10])
    await writer.drain()
    # The server has seen the request by the time it answers another one.
    await _get(port, "/openapi.json")

    stopping = asyncio.create_task(api.stop())
    await _refuses(port)
    writer.write(body[10:])
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 202")
    assert (await stopping)[0] == 0
    assert await app.get("late") is not None


async def _get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def _refuses(port: int) -> None:
    """Return once nothing is accepted any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.02)


async def test_beyond_this_machine_it_needs_credentials(taurine: Callable[..., Any]) -> None:
    """A23."""
    refused: Ended = await taurine("serve", "--host", "0.0.0.0", "--port", "0")

    assert refused.code == 4
    assert "expected credentials before the API is served on '0.0.0.0'" in refused.err
    assert "--insecure" in refused.err


async def test_who_has_no_key_is_refused_also_where_it_was_started_anyway(serving: Callable[..., Any]) -> None:
    """A23, A33: another machine's name is not served, and its caller is nobody."""
    api = await serving("--host", "0.0.0.0", "--insecure")
    port = int(api.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n"
    )
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 401")
    assert b"server: uvicorn" not in answer.lower()


async def test_a_port_that_is_taken_is_told(taurine: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused: Ended = await taurine("serve", "--port", str(taken.getsockname()[1]))

    assert refused.code == 2
    assert "name another with --port" in refused.err
    assert "Traceback" not in refused.err


async def test_on_a_terminal_it_says_where_it_is(terminal: Callable[..., Terminal]) -> None:
    serve = terminal("serve", "--port", "0", columns=400)
    await serve.until(r"try +curl -s http://127\.0\.0\.1:\d+/v1/jobs/invite\.send -H")
    serve.press("\x03")
    assert await serve.ended() == 0
    assert "Traceback" not in serve.text


@needs_curl
async def test_dev_serves_the_api_too(terminal: Callable[..., Terminal]) -> None:
    """SEED-111: accepted by curl, and run by the worker beside."""
    dev = terminal("dev", "--no-reload", "--port", "0", columns=400)
    await dev.until("none yet")
    (line,) = re.findall(r"curl -s http://\S+ -H .*?}'", dev.text)
    assert shlex.split(line)[0] == "curl"
    assert json.loads(await sh(line))["status"] == "queued"
    await dev.until("jobs +1 completed")
    dev.press("\x03")
    assert await dev.ended() == 0
    assert "Traceback" not in dev.text
