"""`lucid-train control`: save, stop or evaluate a run that trains, or go on with another rate."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from lucid_train.recording.values import is_number
from lucid_train.recording.writer import is_gone
from lucid_train.training.run import Run
from lucid_train.validation import real_number

_REFUSED, _UNANSWERED = 1, 3
_TAKEN = "the run has it, and will answer in its log"


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
        "--wait",
        type=float,
        metavar="SECONDS",
        help="how long to wait for the answer (default: 60, and at least two heartbeats of the run)",
    )
    parser.set_defaults(command=_control)


def _control(arguments: argparse.Namespace) -> int:
    if arguments.wait is not None:
        real_number("--wait", arguments.wait, least=0)
    command = Command.read(arguments.words, by=sender(), id=token_hex(8))
    sent = _Sent(arguments.log, command)
    sent.look()
    sent.look()  # now that its process is known
    if (refusal := sent.refusal) is not None:
        _say(command, refusal)
        return _REFUSED
    wait = max(60.0, 2 * sent.heartbeat) if arguments.wait is None else arguments.wait
    with _sigterm_as_exit():
        sent.posted = file = Mailbox(sent.log).post(command, sent.writer)
        latest, withdrawn = time.monotonic() + wait, False
        try:
            while sent.answer is None and sent.end is None and time.monotonic() < latest:
                time.sleep(POLL_SECONDS)
                sent.look()
        except (KeyboardInterrupt, SystemExit):
            _say(command, "it is withdrawn" if Mailbox.withdraw(file) else _TAKEN)
            raise
        finally:
            withdrawn = Mailbox.withdraw(file)  # where it is answered it has been taken
    if (answer := sent.answer) is not None:
        _say(command, answer.answer if answer.done else f"refused: {answer.answer}")
        return 0 if answer.done else _REFUSED
    if sent.end is not None:
        _say(command, sent.end)
        return _REFUSED
    untaken = f"the run looks for commands every {sent.heartbeat:g} s and did not take it, it is withdrawn"
    _say(command, f"no answer in {wait:g} s: {untaken if withdrawn else _TAKEN}")
    return _UNANSWERED


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM, as `timeout` sends it, leave in good order."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave) if threading.current_thread() is threading.main_thread() else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


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
        for line in read_log(self.log) if self._last is None else new_lines(self.log, self._last)[1]:
            self._take(line)
        if self.end is None and gone:
            self.end = "the run has died, its process is gone"

    @property
    def heartbeat(self) -> float:
        """How many seconds apart the run looks for commands."""
        beat = None if self._start is None else self._start.fields.get("heartbeat")
        return float(beat) if is_number(beat) else 0.0

    @property
    def refusal(self) -> str | None:
        """Why the run cannot be given the command, or None if it can."""
        if self.end is not None:
            return self.end
        if self._start is None:
            return "no run has begun in this log"
        fields = self._start.fields
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
