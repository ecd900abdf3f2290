"""`taurine serve`: the HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taurine.cli.commands.options import AsJsonLines
from taurine.cli.failures import DONE, REFUSED, codes
from taurine.cli.running import run
from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output

__all__ = ["add_to"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(
        epilog=codes({DONE: "stopped by a signal", REFUSED: "refused: beyond this machine, without credentials"})
    )(serve)


def serve(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="0 for any that is free.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="A name that the API is reached under, such as jobs.example.com; may be repeated. Default: this machine's own.",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine although no credential is made yet.")
    ] = False,
    grace: Annotated[str, typer.Option(metavar="DURATION", help="How long requests may take when it stops.")] = "10s",
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = "info",
    as_json: AsJsonLines = False,
) -> None:
    """Serve the HTTP API until a signal.

    Beyond this machine it is served only once somebody has said who may call: by a key, or an admin.
    """

    async def work(app: Taurine, output: Output) -> int:
        from taurine.cli.installed import refuse_without_http

        refuse_without_http("serve")
        from taurine.cli.logs import set_up_logs
        from taurine.cli.reading import read_seconds
        from taurine.http import Access, create_app
        from taurine.http.access.loopback import is_loopback
        from taurine.http.access.refuse_open import refuse_open
        from taurine.http.serving import curl_line, listen, needs_credentials, url_of
        from taurine.http.serving import serve as serve_api

        set_up_logs(app.settings.log_format, log_level, output.redact)
        seconds = read_seconds(grace, "--grace")
        access = Access(hosts=allow_host or ())
        api = create_app(app, access=access)
        try:
            await refuse_open(host, api.state.api.gate, anyway=insecure)
        except InvalidOption as error:
            output.error(str(error), hint="--insecure listens all the same; who has no key is refused then")
            return REFUSED
        listening = listen(host, port)
        url = url_of(listening)
        line = curl_line(
            app, url, credentials=needs_credentials(host, configured=await api.state.api.gate.configured())
        )

        def announce() -> None:
            if output.as_json:
                output.json_line({"event": "started", "application": app.name, "url": url, "curl": line})
                return
            output.note(f"{app.name} is served at {url}, until Ctrl-C", "bold")
            output.note(f"  try  {line}")
            if not is_loopback(host) and not allow_host:
                output.hint("from elsewhere it answers under names that are listed: --allow-host jobs.example.com")

        # What is asked for in bulk is done here too, so that it needs no worker.
        async with app, app.operations_worker():
            await serve_api(api, listening, ready=announce, grace=seconds, handle_signals=True, lifespan=False)
        if output.as_json:
            output.json_line({"event": "stopped"})
        return DONE

    run(context, work, as_json=as_json)
