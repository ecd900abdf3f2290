"""Options that mean the same on every command that has them."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "AsJsonLines", "Tenant", "User", "Yes"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
AsJsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout, a value in each line, and nothing else.")
]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only what is this tenant's.")]
User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Who asks for it, for the audit.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
