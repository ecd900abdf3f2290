"""`taurine admins`: the people who log in with a password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taurine.cli.commands.options import AsJson, User
from taurine.cli.failures import codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.credentials.admins import Admin

__all__ = ["add_to"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="What they log in with.")]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    family = typer.Typer(rich_markup_mode=None)
    family.callback(invoke_without_command=True, epilog=codes())(admins)
    family.command("add", epilog=codes())(add)
    family.command("list", epilog=codes())(show_all)
    family.command("remove", epilog=codes())(remove)
    family.command("password", epilog=codes())(change_password)
    program.add_typer(family, name="admins")


def admins(context: typer.Context, as_json: AsJson = False) -> None:
    """Add, list and remove people who log in.

    The password is asked for, or read from stdin: in an argument everybody on the machine could see it.
    """
    if context.invoked_subcommand is None:
        show_all(context, as_json=as_json)


def add(
    context: typer.Context,
    *,
    name: Name,
    role: Annotated[str, typer.Option(metavar="WORD", help="viewer, operator or admin.")] = "admin",
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="The only tenant whose jobs they see. Default: all.")
    ] = None,
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Add a person. The password is asked for, or is the first line of stdin."""

    async def make(app: Taurine, output: Output) -> None:
        from taurine.cli.asking import password_of
        from taurine.cli.commands.keys import say_that_keys_are_needed

        first = not await app.api_keys.any_credential()
        admin = await app.admins.add(name, password_of(name), role=role, tenant=tenant, user=user)
        if output.as_json:
            output.json(_json(admin))
        else:
            output.line(f"{admin.name} may log in, as {admin.role}")
        if first:
            say_that_keys_are_needed(output)

    run(context, make, as_json=as_json)


def show_all(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List them, by name."""

    async def look(app: Taurine, output: Output) -> None:
        found = await app.admins.list()
        if output.as_json:
            output.json({"admins": [*map(_json, found)]})
        elif found:
            output.table(("name", "role", "tenant"), [(admin.name, admin.role, admin.tenant) for admin in found])
        else:
            output.note("No admins. `taurine admins add NAME` adds one.")

    run(context, look, as_json=as_json)


def remove(context: typer.Context, *, name: Name, user: User = None) -> None:
    """Remove a person; their sessions end at once."""

    async def end(app: Taurine, output: Output) -> None:
        await app.admins.remove(name, user=user)
        output.line(f"{name} may no longer log in")

    run(context, end)


def change_password(context: typer.Context, *, name: Name, user: User = None) -> None:
    """Give a person another password; their sessions end at once."""

    async def change(app: Taurine, output: Output) -> None:
        from taurine.cli.asking import password_of

        await app.admins.set_password(name, password_of(name), user=user)
        output.line(f"{name} has another password")

    run(context, change)


def _json(admin: Admin) -> dict[str, object]:
    return {"name": admin.name, "role": admin.role, "tenant": admin.tenant}
