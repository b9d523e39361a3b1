"""`lucid-train control`: save, stop or evaluate a run that trains, or go on with another rate."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import Any

from attrs import define, field

from lucid_train.callbacks.display.formatting import clean
from lucid_train.command import Command
from lucid_train.events import CommandAnswered
from lucid_train.recording.follow import POLL_SECONDS, new_lines
from lucid_train.recording.lines import Line, read_event, read_log
from lucid_train.recording.mailbox import Mailbox, sender
from lucid_train.recording.writer import is_gone
from lucid_train.training.run import Run
from lucid_train.validation import real_number

_REFUSED, _UNANSWERED = 1, 3


def add_command(commands: Any) -> None:
    """Add `control` to what argparse's `add_subparsers` returned."""
    summary = "save, stop or evaluate a run that trains, or go on with another rate"
    parser = commands.add_parser(
        "control",
        help=summary,
        description=f"{summary.capitalize()}. The run must record itself with EventLog; it answers after its current "
        "step, or its current evaluation. What is done is in the log.",
        epilog="The exit code is 0 if it was done, 1 if it was refused, or the run has ended, 2 for a wrong argument, "
        "and 3 if there was no answer in time.",
    )
    parser.add_argument("log", type=Path, help="file that EventLog writes")
    parser.add_argument(
        "words",
        nargs="+",
        metavar="command",
        help="save: write a checkpoint; stop: end the fit after the current step; evaluate: evaluate now, which "
        "changes nothing in the training; set lr=1e-4: scale the schedule so that the rate is that now, and save; set "
        "NAME=VALUE: likewise another number that a schedule sets",
    )
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help="how long to wait for the answer (default: 60)"
    )
    parser.set_defaults(command=_control)


def _control(arguments: argparse.Namespace) -> int:
    real_number("--wait", arguments.wait, least=0)
    command = Command.read(arguments.words, by=sender(), id=token_hex(8))
    sent = _Sent(arguments.log, command)
    sent.look()
    sent.look()  # now that its process is known
    if (refusal := sent.refusal) is not None:
        _say(command, refusal)
        return _REFUSED
    sent.posted = file = Mailbox(sent.log).post(command, sent.writer)
    latest = time.monotonic() + arguments.wait
    try:
        while sent.answer is None and sent.end is None and time.monotonic() < latest:
            time.sleep(POLL_SECONDS)
            sent.look()
    finally:
        taken = not Mailbox.withdraw(file)  # where it is answered it has been taken
    if (answer := sent.answer) is not None:
        _say(command, answer.answer if answer.done else f"refused: {answer.answer}")
        return 0 if answer.done else _REFUSED
    if sent.end is not None:
        _say(command, sent.end)
        return _REFUSED
    why = "the run has it, and will answer in its log" if taken else "the run did not take it, and it is withdrawn"
    _say(command, f"no answer in {arguments.wait:g} s: {why}")
    return _UNANSWERED


def _say(command: Command, text: str) -> None:
    print(clean(f"{command}: {text}", sys.stdout.encoding), flush=True)


@define(eq=False)
class _Sent:
    """A command and the run that it is for, as far as the run's log tells.

    Args:
        log: The log.
        command: The command.

    Attributes:
        writer: The process that the command is for.
        answer: What came of it, once the run has answered.
        posted: The file that the command is in, once it is.
        end: Why there will be no answer, in words, once that is known.
    """

    log: Path
    command: Command
    writer: Any = field(default=None, init=False)
    answer: CommandAnswered | None = field(default=None, init=False)
    posted: Path | None = field(default=None, init=False)
    end: str | None = field(default=None, init=False)
    _start: Line | None = field(default=None, init=False)
    _last: Line | None = field(default=None, init=False)

    def look(self) -> None:
        """Take notice of what is new in the log."""
        gone = is_gone(self.writer)  # before the lines are read, so that its last ones are among them
        lines = list(read_log(self.log)) if self._last is None else new_lines(self.log, self._last)[1]
        for line in lines:
            self._take(line)
        if self.end is None and gone:
            self.end = "the run has died, its process is gone"

    @property
    def refusal(self) -> str | None:
        """Why the run is not to be given the command, or None if it may."""
        if self.end is not None:
            return self.end
        fields = {} if self._start is None else self._start.fields
        if fields.get("heartbeat") is None:
            return "the run has no heartbeat, with which it looks for commands: EventLog(..., heartbeat=None)"
        if not fields.get("control"):
            return "the run takes no commands: EventLog(..., control=False), or it is on Windows"
        return None

    def _take(self, line: Line) -> None:
        self._last = line
        if line.event == "FitStart":
            writer = line.fields.get("writer")
            if self.posted is not None and writer != self.writer:
                self.end = "another process has begun the run again"
            else:
                self._start, self.writer, self.end = line, writer, None
        elif line.event == "FitEnd":
            reason = line.fields.get("reason")
            self.end = f"the run has ended, {line.fields.get('status')}" + (f": {reason}" if reason else "")
        elif line.event == "CommandAnswered" and line.fields.get("id") == self.command.id:
            event = read_event(line, Run())
            self.answer = event if isinstance(event, CommandAnswered) else None
