"""The `lucid-train` command."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from lucid_train.callbacks.display.formatting import clean
from lucid_train.cli import control, demo, diff, export, preview, runs
from lucid_train.version import __version__

# As a shell reports it of a process that SIGPIPE ended.
_BROKEN_PIPE = 141


class _Parser(argparse.ArgumentParser):
    """A parser that says of what begins with "-", and is no option, how it is written."""

    def error(self, message: str) -> NoReturn:
        if re.match("unrecognized arguments:.* -[^-]", message):
            message += "; what begins with '-' is read as an option: no schedule does, a file is written ./-name"
        elif message.endswith("expected one argument"):
            message += "; a file whose name begins with '-' is written ./-name"
        super().error(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    It is 0 for success, 1 for failure or a difference, 2 for a wrong argument, 3 for a run that goes on or has not
    answered, 130 for Ctrl-C, and 141 if the reader of a pipe is gone.
    """
    parser = _Parser(prog="lucid-train", description="Training callbacks, schedules and a console.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo.add_command(commands)
    runs.add_commands(commands)
    control.add_command(commands)
    diff.add_command(commands)
    export.add_command(commands)
    preview.add_command(commands)
    chosen = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            # A training goes on without its display; what is here to be shown has failed.
            warnings.filterwarnings("error", "RichLogger could not show everything", RuntimeWarning)
            code = int(chosen.command(chosen))
            print(end="", flush=True)
            return code
    except (TypeError, ValueError, OverflowError, OSError, RuntimeWarning) as error:
        cause = (error.__cause__ if isinstance(error, RuntimeWarning) else None) or error
        if isinstance(cause, BrokenPipeError):
            _discard_output()
            return _BROKEN_PIPE
        # The library's errors name the argument, the rule and the value: they are the message.
        text, code = str(cause), 2
        if isinstance(cause, OSError):
            text, code = f"'{cause.filename}': {cause.strerror}", 2
            if cause.filename is None:  # it is of standard output, which is full or closed
                _discard_output()
                text, code = str(cause), 1
        print(f"lucid-train: error: {clean(text, sys.stderr.encoding)}", file=sys.stderr)
        return code
    except SystemExit as end:  # what rich raises when the reader of a pipe is gone
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        _discard_output()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return 130


def _discard_output() -> None:
    """Let what standard output does not take go nowhere, if something is left: Python would try again at its exit."""
    if sys.stdout is None:  # as it is where the command was started without one
        return
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
