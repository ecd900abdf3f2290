"""`taurine dev`: servers, a worker that starts anew when files change, and how it goes, in one terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJsonLines
from taurine.cli.failures import DONE, codes
from taurine.cli.running import run, run_plain
from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from socket import socket

    from taurine.app import Taurine
    from taurine.cli.output import Output

__all__ = ["add_to"]

_GRACE_SECONDS = 5.0
"""Seconds that running jobs may take when a file changes; what has not ended is handed back."""

_LOOK_SECONDS = 1.0
"""Seconds between two looks at how it goes."""

_PORT = 8000

_SHOWN = ("queued", "running", "retrying", "completed", "failed", "cancelled")


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes({DONE: "stopped by a signal"}))(dev)


def dev(
    context: typer.Context,
    *,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=65_535, help="Of the API, on this machine. Default: 8000, or any that is free."
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload/--no-reload", help="Start anew when a Python file below this folder changes.")
    ] = True,
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = "info",
    as_json: AsJsonLines = False,
) -> None:
    """Run all that an application needs, in one terminal.

    Private servers where no others are named, a worker on all its queues, and the API, until Ctrl-C.
    """
    if reload:
        _reload(context, as_json)

    async def serve(app: Taurine, output: Output) -> None:
        from taurine.cli import working
        from taurine.cli.logs import set_up_logs

        set_up_logs(app.settings.log_format, log_level, output.redact)
        plan = working.plan_of(app, None, None)
        worker = app.worker(grace=_GRACE_SECONDS)
        listening = _listen(port)
        await _announce(output, app, plan, context.obj.place, listening, wanted=_PORT if port is None else port)
        await working.run_beside(app, worker, lambda: _beside(app, output, listening))
        if output.as_json:
            output.json_line({"event": "stopped"})

    run(context, serve, as_json=as_json, needs_types=True)


def _reload(context: typer.Context, as_json: bool) -> None:
    """Hold the private server, and run the same command with --no-reload in a child, again and again."""
    from taurine.cli.reloading import can_reload

    if not can_reload():
        return  # the child's work is done here; the announcement says that nothing is watched

    def watch(output: Output) -> int:
        import asyncio

        from taurine.cli.reloading import run_reloading

        if context.obj.place is None:
            raise InvalidOption("dev needs the application: taurine --app module:name dev, or the variable TAURINE_APP")
        words = [*(word for word in sys.argv[1:] if word != "--reload"), "--no-reload"]

        async def serve() -> int:
            async with _private_server():
                return await run_reloading(words, output, folder=Path.cwd(), grace=_GRACE_SECONDS)

        return asyncio.run(serve())

    run_plain(context, watch, as_json=as_json)


def _private_server() -> Any:
    """The server that the environment's settings lead to, so that it need not start with each change; nothing where
    they name another.
    """
    from contextlib import nullcontext

    from taurine.embedded import EmbeddedServer
    from taurine.settings import Settings

    settings = Settings.read()
    return EmbeddedServer(settings.home) if settings.redis_url is None else nullcontext()


def _listen(port: int | None) -> socket | None:
    """Where the API is heard; None where its extra is not installed."""
    from taurine.cli.installed import has_http, refuse_without_http

    if not has_http():
        if port is not None:
            refuse_without_http("dev --port")
        return None
    from taurine.http.serving import listen

    if port is not None:
        return listen("127.0.0.1", port)
    try:
        return listen("127.0.0.1", _PORT)
    except InvalidOption:  # somebody else's
        return listen("127.0.0.1", 0)


async def _beside(app: Taurine, output: Output, listening: socket | None) -> None:
    """The API, and how it goes."""
    import asyncio

    async with asyncio.TaskGroup() as together:
        together.create_task(_show_how_it_goes(app, output))
        if listening is not None:
            from taurine.http import create_app
            from taurine.http.serving import serve

            together.create_task(serve(create_app(app), listening, grace=_GRACE_SECONDS, lifespan=False))


async def _announce(
    output: Output, app: Taurine, plan: dict[str, int], place: str | None, listening: socket | None, *, wanted: int
) -> None:
    from taurine.cli.reloading import can_reload

    await app.counts()  # makes the tables where there are none, and says so now if it cannot
    findings = {finding.check: finding for finding in await app.diagnose()}
    queues, records = findings["queues"].text, findings["records"].text
    url = line = None
    elsewhere = ""
    if listening is not None:
        from taurine.http.serving import curl_line, url_of

        url = url_of(listening)
        line = curl_line(app, url, credentials=await app.api_keys.any_credential())
        if wanted not in (0, listening.getsockname()[1]):
            elsewhere = f" ({wanted} is taken)"
    if output.as_json:
        output.json_line(
            {
                "event": "started",
                "application": app.name,
                "worker": plan,
                "queues": queues,
                "records": records,
                "api": url,
            }
        )
        return
    works_on = ", ".join(f"{queue} ({slots} at once)" for queue, slots in plan.items())
    example = next(iter(app.catalog)).name
    output.note(f"{app.name} is up", "bold green")
    output.note(f"  queues    {queues}")
    output.note(f"  records   {records}")
    output.note(f"  works on  {works_on}")
    output.note(f"  API       {url}{elsewhere}" if url else '  API       not served: pip install "taurine[http]"')
    output.note(f"  try       taurine --app {place} enqueue {example} '{{…}}' --wait")
    if line is not None:
        output.note(f"            {line}")
    watches = (
        "a changed Python file below this folder starts it anew"
        if can_reload()
        else 'pip install "taurine[dev]" starts it anew when files change'
    )
    output.note(f"  Ctrl-C    stops everything; {watches}")


async def _show_how_it_goes(app: Taurine, output: Output) -> None:
    """One line that changes on a terminal; elsewhere a line when something has changed, at most every few seconds."""
    import asyncio

    from taurine.cli.progress import progress
    from taurine.errors import LedgerUnavailable

    shown: dict[str, int] | None = None
    with progress(output) as show:
        while True:
            try:
                counts = {status: count.number for status, count in (await app.counts()).items() if status in _SHOWN}
            except LedgerUnavailable as error:
                show("waits for the database", text=str(error))
            else:
                if output.as_json and counts != shown:
                    output.json_line({"event": "status", **counts})
                shown = counts
                show(
                    "jobs",
                    text=", ".join(f"{number:,} {status}" for status, number in counts.items() if number) or "none yet",
                )
            await asyncio.sleep(_LOOK_SECONDS)
