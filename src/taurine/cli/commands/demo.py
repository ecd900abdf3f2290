"""`taurine demo`: the demonstration of `taurine.demo`, with its own options."""

from __future__ import annotations

import runpy
import sys

import typer

__all__ = ["add_to"]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        short_help="Show what Taurine does, on servers of its own.",
    )(demo)


def demo(context: typer.Context) -> None:
    """Show what Taurine does, on servers of its own; leaves nothing behind.

    Options are the demo's: see `taurine demo --help`.
    """
    sys.argv = ["taurine demo", *context.args]
    # By its name: the demo is a program beside the command line, and neither builds on the other.
    runpy.run_module("taurine.demo", run_name="__main__", alter_sys=True)
