"""The `lucid-train` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from lucid_train.cli import demo, preview, runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 a wrong argument, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(prog="lucid-train", description="Training callbacks, schedules and a console.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('lucid-train')}")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo.add_command(commands)
    runs.add_commands(commands)
    preview.add_command(commands)
    chosen = parser.parse_args(arguments)
    try:
        code: int = chosen.command(chosen)
    except (TypeError, ValueError) as error:
        # What the library refuses names the argument, the rule and the value: that is the message.
        print(f"lucid-train: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # standard output is full, or nobody reads it
        print(f"lucid-train: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
