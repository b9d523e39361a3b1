"""Programs in a pseudo-terminal, looked at through a terminal emulator."""

import os
import sys
import time
from collections.abc import Callable

import pexpect
import pyte

PRELUDE = """
import logging, os, sys, time, warnings
from lucid_train import Callback, Trainer
from lucid_train.callbacks import ExponentialLRCallback, RichLogger
from lucid_train.nn import Linear
from lucid_train.optims import SGD

model = Linear(1, 1)
optimizer = SGD(model.parameters(), lr=0.1)
schedule = ExponentialLRCallback(gamma=0.5)

def held(name):
    while not os.path.exists(os.path.join(os.environ["GATES"], name)):
        time.sleep(0.01)

def train(step, epochs=2, steps=4, logger=None):
    def stepped(number):
        optimizer.step()
        return step(number)
    logger = logger or RichLogger()
    return Trainer(stepped, range(1, steps + 1), optimizer=optimizer, epochs=epochs, callbacks=[schedule, logger]).fit()
"""


class Terminal:
    """A program in a pseudo-terminal, and the screen that a person would see.

    Args:
        program: What follows the prelude; or a command line, as a list.
        columns: The width of the terminal.
        environment: What is in the environment besides the usual. GATES is a folder: where the program calls
            `held(name)`, it goes on when there is a file of this name, so that nothing is gone before it was looked at.
    """

    def __init__(self, program: str | list[str], columns: int = 80, **environment: str) -> None:
        command = [sys.executable, "-W", "default", "-c", PRELUDE + program] if isinstance(program, str) else program
        self.screen = pyte.HistoryScreen(columns, 40, history=10_000)
        self.screen.set_mode(pyte.modes.LNM)
        self.stream = pyte.Stream(self.screen)
        self.raw = ""
        self.child = pexpect.spawn(
            command[0],
            command[1:],
            dimensions=(40, columns),
            env={"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "PATH": os.environ["PATH"], **environment},
            encoding="utf-8",
            timeout=100,
        )

    def read(self) -> bool:
        """Return whether there was anything to read; a pause means that a picture is complete."""
        try:
            text = self.child.read_nonblocking(65536, timeout=0.03)
        except pexpect.TIMEOUT:
            return False
        self.raw += text
        self.stream.feed(text)
        return True

    def until(self, seen: Callable[[list[str]], bool]) -> list[str]:
        latest = time.monotonic() + 100
        while time.monotonic() < latest:
            try:
                if not self.read() and seen(self.lines()):
                    return self.lines()
            except pexpect.EOF:
                break
        raise AssertionError("\n".join(self.lines()))

    def end(self) -> list[str]:
        while True:
            try:
                self.read()
            except pexpect.EOF:
                break
        self.child.wait()
        self.child.close()
        return self.lines()

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def code(self) -> int | None:
        """The exit code as a shell reports it."""
        return self.child.exitstatus if self.child.signalstatus is None else 128 + int(self.child.signalstatus)

    @property
    def sane(self) -> bool:
        return not self.screen.cursor.hidden and self.screen.cursor.x == 0


def has(*texts: str) -> Callable[[list[str]], bool]:
    return lambda lines: all(any(text in " ".join(line.split()) for line in lines) for text in texts)
