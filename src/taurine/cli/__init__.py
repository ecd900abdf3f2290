"""The command `taurine`, for operators: it uses the same public API as everybody.

What was asked for goes to stdout, everything else to stderr; with `--json`, stdout holds one JSON value and nothing else.

| exit code | |
|---|---|
| 0 | done |
| 1 | there is no such job |
| 2 | wrong usage: an unknown option, an application that cannot be loaded, a setting out of range |
| 3 | a server that is needed does not answer; the same command may work later |
| 4 | refused: the state of things, or somebody's permission, does not allow it |
| 130 | ended by Ctrl-C |
"""

from taurine.cli.commands import main

__all__ = ["main"]
