"""The command `taurine`, for developers and operators: it uses the same public API as everybody.

What was asked for goes to stdout, everything else to stderr: logs, progress, errors and their hints. With `--json`,
stdout holds one JSON value, or one in each line of a command that goes on, and nothing else. A bar is shown on a
terminal, a line every few seconds elsewhere. NO_COLOR, FORCE_COLOR and COLUMNS are honoured.

| exit code | |
|---|---|
| 0 | done |
| 1 | no: there is no such job, entry, schedule, queue, key or admin; `verify` found differences, or `doctor` a failure |
| 2 | wrong usage: an unknown option or job type, a payload that is not valid, an application that cannot be loaded, a setting out of range |
| 3 | a server that is needed does not answer; the same command may work later |
| 4 | refused: the state of things, or somebody's permission, does not allow it |
| 5 | the job that was waited for failed |
| 6 | the job that was waited for was cancelled, or expired |
| 7 | the job that was waited for did not end within `--timeout`; it goes on |
| 70 | an error of Taurine itself, or of the application's code; `--debug` shows where |
| 130 | ended by Ctrl-C |
| 141 | nobody read on, as `head` does |

    __init__.py     exit codes; main()
    program.py      the commands under one name, and the options of all of them
    running.py      one command: load the application, run, close, say what went wrong
    commands/       one file for each command, or family of commands
    loading.py      finding the application                  failures.py   exit codes and hints of errors
    output.py       JSON for programs, text for people       forms.py      what things look like as JSON
    progress.py     a bar on a terminal, lines elsewhere     following.py  watching one job to its end
    reading.py      payloads, times and sizes from words     asking.py     "are you sure?"
    each.py         doing the same to several jobs           in_bulk.py    and to all that a filter lets through
    logs.py         log lines on stderr                      reloading.py  starting anew when files change
    working.py      a worker in this process

The files of `commands` import nothing slow before their command runs, so that `--help` and the shell's completion are
quick.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process. Ends it, with the exit code."""
    from sys import exit as end

    try:
        from taurine.cli.program import program

        program(prog_name="taurine")
    except KeyboardInterrupt:  # before a command had begun
        end(130)
