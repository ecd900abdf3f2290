"""`taurine keys`: who may call the HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taurine.cli.commands.options import AsJson, Tenant, User
from taurine.cli.failures import codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.credentials.api_keys import ApiKey

__all__ = ["add_to", "say_that_keys_are_needed"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    family = typer.Typer(rich_markup_mode=None)
    family.callback(invoke_without_command=True, epilog=codes())(keys)
    family.command("create", epilog=codes())(create)
    family.command("list", epilog=codes())(show_all)
    family.command("revoke", epilog=codes())(revoke)
    program.add_typer(family, name="keys")


def keys(context: typer.Context, as_json: AsJson = False) -> None:
    """Make, list and revoke API keys. With one of these a program calls the HTTP API."""
    if context.invoked_subcommand is None:
        show_all(context, as_json=as_json)


def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will have it; the audit names its user so.")],
    scopes: Annotated[
        list[str],
        typer.Option("--scope", "-s", metavar="WORD", help="enqueue, read, operate or admin; may be repeated."),
    ],
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", metavar="NAME", help="The only tenant whose jobs it reaches. Default: all."),
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", metavar="DURATION", help="How long it lasts. Default: for ever.")
    ] = None,
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed once: what is kept of it is a hash."""

    async def make(app: Taurine, output: Output) -> None:
        from taurine.cli.reading import read_seconds

        seconds = None if expires_in is None else read_seconds(expires_in, "--expires-in")
        first = not await app.api_keys.any_credential()
        made = await app.api_keys.create(name, scopes=scopes, tenant=tenant, expires_in=seconds, user=user)
        if output.as_json:
            output.json({"text": made.text, "key": _json(made.key)})
        else:
            typer.echo(made.text)  # in one line, however narrow the terminal is
            output.hint("this is the only time that it is shown; keep it as `export TAURINE_KEY=…`, and send it:")
            output.note('  curl -H "Authorization: Bearer $TAURINE_KEY" http://127.0.0.1:8000/v1/jobs')
        if first:
            say_that_keys_are_needed(output)

    run(context, make, as_json=as_json)


def show_all(
    context: typer.Context,
    *,
    tenant: Tenant = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Keys on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Where the page before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List keys, the newest first."""

    async def look(app: Taurine, output: Output) -> None:
        from taurine.cli.forms import age

        page = await app.api_keys.list(tenant=tenant, cursor=cursor, limit=limit)
        if output.as_json:
            output.json({"keys": [*map(_json, page)], "next_cursor": page.next_cursor})
            return
        now = app.clock.now()
        rows = [
            (
                key.id,
                key.name,
                " ".join(sorted(key.scopes)),
                key.tenant,
                age(_time(key.created)),
                None if key.last_used is None else age(_time(key.last_used)),
                "revoked" if key.revoked is not None else "valid" if key.valid(now) else "expired",
            )
            for key in page
        ]
        if rows:
            output.table(("id", "name", "scopes", "tenant", "age", "used", "state"), rows)
        else:
            output.note("No keys. `taurine keys create NAME --scope read` makes one.")
        if page.next_cursor is not None:
            output.hint(f"there are more: add --cursor {page.next_cursor}")

    run(context, look, as_json=as_json)


def revoke(
    context: typer.Context,
    *,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, or the key itself.")],
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """End a key for good. Processes that have just seen it let it pass for some seconds more."""

    async def end(app: Taurine, output: Output) -> None:
        key = await app.api_keys.revoke(key_id, user=user)
        if output.as_json:
            output.json(_json(key))
        else:
            output.line(f"{key.id} of {key.name} is revoked")

    run(context, end, as_json=as_json)


def say_that_keys_are_needed(output: Output) -> None:
    """After the first key or person: calls from this machine, which needed none until now, do too."""
    output.warning(
        "from now on every caller needs a key, also on this machine; "
        "one for yourself: `taurine keys create me --scope admin`"
    )


def _json(key: ApiKey) -> dict[str, Any]:
    times = {name: getattr(key, name) for name in ("created", "expires", "last_used", "revoked")}
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "tenant": key.tenant,
        "created_by": key.created_by,
        **{f"{name}_at": None if at is None else _time(at).isoformat() for name, at in times.items()},
    }


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
