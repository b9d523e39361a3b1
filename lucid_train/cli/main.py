"""The `lucid-train` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from lucid_train.callbacks.display.formatting import clean
from lucid_train.cli import demo, preview, runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 success, 1 failure, 2 a wrong argument, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(prog="lucid-train", description="Training callbacks, schedules and a console.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('lucid-train')}")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo.add_command(commands)
    runs.add_commands(commands)
    preview.add_command(commands)
    chosen = parser.parse_args(arguments)
    try:
        return int(chosen.command(chosen))
    except (TypeError, ValueError, OverflowError, OSError) as error:
        # The library's errors name the argument, the rule and the value: they are the message.
        text, code = str(error), 2
        if isinstance(error, OSError):  # one without a file is of standard output, which is full or closed
            text, code = (text, 1) if error.filename is None else (f"'{error.filename}': {error.strerror}", 2)
        print(f"lucid-train: error: {clean(text, sys.stderr.encoding)}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        return 130
