"""Running one command: load the application, run the command on it, close it, and say in a line or two what went wrong."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import typer

from taurine.cli.failures import BROKEN_PIPE, BUG, DONE, INTERRUPTED, exit_code_of, hint_of
from taurine.errors import TaurineError, TaurineWarning

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output

__all__ = ["Chosen", "Work", "run", "run_plain"]

Work: TypeAlias = "Callable[[Taurine, Output], Coroutine[Any, Any, int | None]]"
"""What a command does; returns its exit code, None for 0."""


class Chosen:
    """What holds for every command.

    place: the application, as module:name. debug: show tracebacks. unredacted: show what `Taurine(redact=…)` hides.
    """

    def __init__(self, place: str | None, *, debug: bool, unredacted: bool) -> None:
        self.place = place
        self.debug = debug
        self.unredacted = unredacted


def run(context: typer.Context, work: Work, *, as_json: bool = False, needs_types: bool = False) -> NoReturn:
    """Load the application, run `work` on it in an event loop, and exit with its code, or with that of its error.

    needs_types: an application without job types is refused, since the command would have nothing to go by.
    """

    def load_and_work(output: Output) -> int:
        from asyncio import run as run_loop

        from taurine.cli.loading import load_app, refuse_without_types

        # Before there is an event loop, since its modules may need one of their own.
        app = load_app(context.obj.place)
        if not context.obj.unredacted:
            output.redact = app.redact
        if needs_types:
            refuse_without_types(app, context.obj.place)
        return run_loop(_closed_after(app, work, output)) or DONE

    run_plain(context, load_and_work, as_json=as_json)


def run_plain(context: typer.Context, work: Callable[[Output], int], *, as_json: bool = False) -> NoReturn:
    """Run `work`, which needs no application, and exit with its code, or with that of its error."""
    from taurine.cli.output import Output

    output = Output(as_json=as_json, unredacted=context.obj.unredacted)
    raise typer.Exit(_code_of(work, output, debug=context.obj.debug))


async def _closed_after(app: Taurine, work: Work, output: Output) -> int | None:
    try:
        return await work(app, output)
    finally:
        await app.close()


def _code_of(work: Callable[[Output], int], output: Output, *, debug: bool) -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _shown_by(output)
            code = work(output)
        output.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except TaurineError as error:
        if debug:
            _print_traceback()
        output.error(output.redact.text(str(error)), hint=hint_of(error))
        return exit_code_of(error)
    except Exception as error:  # noqa: BLE001 - the boundary: nobody is shown a traceback who has not asked for it
        if debug:
            _print_traceback()
        said = output.redact.text(f"{type(error).__name__}: {error}")
        output.error(said, hint="`taurine --debug …` shows where that came from")
        return BUG
    return code


def _print_traceback() -> None:
    from traceback import print_exc

    print_exc()


def _shown_by(output: Output) -> Callable[..., None]:
    """Our own warnings in our own form; others as Python shows them."""
    shown_before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, TaurineWarning):
            output.warning(output.redact.text(str(message)))
        else:
            shown_before(message, category, *place)

    return show


def _forget_stdout() -> None:
    """Python writes out what is left when it ends, and would complain there of a reader that has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
