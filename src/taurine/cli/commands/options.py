"""Options that mean the same on every command that has them."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "AsJson",
    "AsJsonLines",
    "DryRun",
    "Everything",
    "Ids",
    "Most",
    "OfQueue",
    "OfType",
    "Rate",
    "Since",
    "Tag",
    "Tenant",
    "User",
    "Yes",
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
AsJsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout, a value in each line, and nothing else.")
]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Only what is this tenant's.")]
User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Who asks for it, for the audit.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

# Which jobs, for the commands that change many.
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="The jobs' ids; or a filter, or --all.")]
OfType = Annotated[str | None, typer.Option("--type", metavar="NAME", help="All of this job type.")]
OfQueue = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="All of this queue.")]
Tag = Annotated[str | None, typer.Option("--tag", metavar="WORD", help="All with this tag.")]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="DURATION", help="All that were accepted no longer ago, for example 2h."),
]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
Most = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="Of a filter, no more than so many, the oldest.")
]
Rate = Annotated[
    float | None, typer.Option("--rate", metavar="N", help="Of a filter, jobs a second at most. Default: no limit.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Of a filter, only say how many there are.")]
