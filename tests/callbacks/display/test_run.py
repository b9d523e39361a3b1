import builtins
import copy
import gc
import io
import logging
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest
from attrs import define, field
from rich.console import Console
from rich.errors import LiveError
from rich.live import Live
from rich.progress import Progress
from rich.theme import Theme

from lucid_train import Callback, EpochReport, EpochStart, FitStart, Trainer
from lucid_train.callbacks import RichLogger
from tests.support.console import SECONDS, Sink, optimizer, permanent, pipe, shown, terminal, train


def test_no_row_is_lost_when_an_exception_leaves_the_fit() -> None:
    console = terminal()

    def step(number: int) -> float:
        if number == 3 and len(seen) == 2:
            raise KeyboardInterrupt
        return 0.5

    seen: list[int] = []
    trainer = Trainer(step, [1, 2, 3], epochs=5, callbacks=[RichLogger(console)])
    trainer.on(EpochReport)(lambda event: seen.append(event.epoch))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    text = "\n".join(permanent(console))
    assert re.findall(r"^ +(\d+) +0\.5", text, re.MULTILINE) == ["1", "2"]
    assert "interrupted  by Ctrl-C in epoch 3, after step 8\n" in text
    assert "trained      2 epochs, 8 steps in " in text
    assert shown(console).count("\x1b[?25h") == 1


@define(eq=False)
class Fails(Callback):
    def on_fit_start(self, event: FitStart) -> None:
        raise RuntimeError("cannot start")


def test_the_steps_of_an_epoch_that_failed_count_and_those_before_the_fit_do_not() -> None:
    def step(number: int) -> float:
        return 1 / (number % 6 and number % 9)

    console = pipe()
    trainer = Trainer(step, range(1, 11), callbacks=[RichLogger(console, header=False)])
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            trainer.fit(1)
    lines = shown(console).splitlines()
    assert lines[::2] == ["failed in epoch 1, after step 5: ZeroDivisionError: division by zero"] * 2
    assert re.fullmatch(r"trained 0 epochs, 5 steps in \S+", lines[1])
    assert re.fullmatch(r"trained 0 epochs, 0 steps in \S+", lines[3])


def test_everything_is_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tty(io.StringIO):
        encoding = "utf-8"  # type: ignore[assignment]  # StringIO has None
        errors = "strict"  # type: ignore[assignment]  # likewise

        def isatty(self) -> bool:
            return True

    out, err = Tty(), Tty()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    handler = logging.StreamHandler(err)
    logger = logging.getLogger("test_everything_is_put_back")
    monkeypatch.setattr(logger, "handlers", [handler])

    def state() -> list[object]:
        threads = [thread for thread in threading.enumerate() if "lucid" in thread.name]
        hooks = [sys.breakpointhook, builtins.input, signal.getsignal(signal.SIGTERM)]
        return [sys.stdout, sys.stderr, handler.stream, *hooks, threads]

    before = state()
    during: list[list[object]] = []

    def step(number: int) -> None:
        during.append(state())
        if number == 2:
            raise ValueError("no")

    console = Console(width=80)
    train(RichLogger(console), step=step, data=[1])
    assert state() == before
    for data, others in (([2], []), ([1], [Fails()])):
        with pytest.raises((ValueError, RuntimeError)):
            Trainer(step, data, callbacks=[RichLogger(console), *others]).fit()
        assert state() == before
    assert all(left is not right for left, right in zip(during[0][:5], before[:5], strict=True))
    assert len(cast("list[object]", during[0][-1])) == 1
    assert console.file is out
    monkeypatch.setattr(sys, "stdout", other := Tty())
    assert console.file is other, "the console writes to the sys.stdout of the moment, as before"


def test_a_second_fit_goes_on() -> None:
    console = terminal()
    trainer = Trainer(lambda number: 0.5, [1], epochs=1, callbacks=[RichLogger(console)])
    trainer.fit()
    trainer.fit(epochs=3)
    assert "epochs 2 to 3 of 1 step" in shown(console)
    rows = [line.split()[:-1] for line in permanent(console) if re.match(r" +\d+ ", line)]
    assert rows == [["1", "0.5000", "*"], ["2", "0.5000"], ["3", "0.5000"]]


def test_an_evaluation_within_an_epoch_has_a_line_of_its_own_and_may_be_the_best() -> None:
    console = pipe()
    losses = iter([0.5, 0.25, 0.75, 0.3])
    trainer = Trainer(
        lambda batch: 1.0,
        range(4),
        epochs=2,
        evaluate=lambda: next(losses),
        evaluate_every="3 steps",
        callbacks=[RichLogger(console, header=False)],
    )
    trainer.fit()
    trainer.fit(3)
    assert [SECONDS.sub("#", each) for each in shown(console).splitlines()] == [
        "epoch 1/2  step 3  val_loss 0.5000*  #",
        "epoch 1/2  loss 1.0000  #",
        "epoch 2/2  step 6  val_loss 0.2500*  #",
        "epoch 2/2  loss 1.0000  #",
        "completed 2 epochs, 8 steps in # (#)",
        "best epoch 2, step 6: val_loss 0.2500",
        "epoch 3/3  step 9  val_loss 0.7500  #",
        "epoch 3/3  step 12  val_loss 0.3000  #",
        "epoch 3/3  loss 1.0000  #",
        "completed 1 epoch, 4 steps in # (#)",
        "best epoch 2, step 6: val_loss 0.2500",
    ]


@pytest.mark.parametrize("display", [Live, Progress])
def test_it_shares_the_console_with_a_display_of_the_user(display: Callable[..., Any]) -> None:
    console = terminal()
    with display(console=console, auto_refresh=False):
        train(RichLogger(console))
        train(RichLogger(console))
    assert "\n".join(permanent(console)).count("completed") == 2


class OneDisplay(Console):
    """A console as it was before rich 14.1."""

    taken = False

    def set_live(self, live: Live) -> bool:
        if self.taken:
            raise LiveError("Only one live display may be active at once")
        self.taken = True
        return super().set_live(live)

    def clear_live(self) -> None:
        self.taken = False
        super().clear_live()


def test_without_a_display_there_are_rows_alone() -> None:
    console = OneDisplay(file=Sink(), force_terminal=True, width=80, color_system=None)
    with Live("theirs", console=console, auto_refresh=False):
        train(RichLogger(console), step=lambda number: time.sleep(0.05))
    text = "\n".join(permanent(console))
    assert "eta" not in shown(console)
    assert "completed" in text
    assert len(re.findall(r"^ +\d ", text, re.MULTILINE)) == 3
    assert not [thread for thread in threading.enumerate() if "lucid" in thread.name]


class Broken(io.StringIO):
    """A file on a disk that is full."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


@pytest.mark.parametrize("force_terminal", [True, False])
@pytest.mark.parametrize("full_at", [0, 1])
def test_the_training_outlives_its_display(force_terminal: bool, full_at: int) -> None:
    file = Broken()
    console = Console(file=file, force_terminal=force_terminal, width=80)
    file.full = full_at == 0

    def step(number: int) -> None:
        time.sleep(0.02)
        file.full = True

    with pytest.warns(RuntimeWarning, match="could not show everything, OSError: .*No space left"):
        history = train(RichLogger(console), step=step)
    assert len(history) == 3


@pytest.mark.parametrize("force_terminal", [True, False])
def test_the_training_goes_on_when_nobody_reads_the_pipe_any_more(force_terminal: bool) -> None:
    program = (
        "import sys, time\n"
        "from rich.console import Console\n"
        "from lucid_train import Trainer\n"
        "from lucid_train.callbacks import RichLogger\n"
        f"logger = RichLogger(Console(force_terminal={force_terminal}))\n"
        "def step(batch):\n"
        "    batch or sys.stdin.readline()\n"  # nobody reads any more
        "    time.sleep(0.1)\n"
        "history = Trainer(step, range(2), epochs=3, callbacks=[logger]).fit()\n"
        "print(history, file=sys.stderr)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        process.stdin.close()
        said = process.stderr.read().decode()
    assert "could not show everything, BrokenPipeError" in said
    # With rich before 13.8 Python itself adds, at its exit, that the pipe is broken.
    assert "\nHistory(3 epochs, completed)\n" in said


@define(eq=False)
class Copies(Callback):
    """Copies another callback whenever it receives an event."""

    original: RichLogger
    copies: list[RichLogger] = field(factory=list, init=False, repr=False)

    def on_epoch_start(self, event: EpochStart) -> None:
        self.copies += [pickle.loads(pickle.dumps(self.original)), copy.deepcopy(self.original)]


def test_copies_have_the_settings_before_during_and_after_a_fit() -> None:
    theme = Theme({"lucid.best": "red"})
    logger = RichLogger(terminal(), monitor="loss", mode="max", heartbeat=5, theme=theme, log=logging.getLogger("x"))
    copies = Copies(logger)
    copies.on_epoch_start(EpochStart())
    train(logger, copies, epochs=1)
    copies.on_epoch_start(EpochStart())
    assert len(copies.copies) == 6
    for each in copies.copies:
        assert (each.monitor, each.mode, each.heartbeat, each.log) == ("loss", "max", 5, logging.getLogger("x"))
        assert each.theme is not None
        assert str(each.theme.styles["lucid.best"]) == "red"
        assert each.state_dict() == logger.state_dict() == {}
        each.load_state_dict({})
    assert [each.console for each in copies.copies] == [None, logger.console] * 3
    train(copies.copies[3], epochs=1)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("console", [pipe(), terminal()])
def test_nothing_holds_on_to_the_run_afterwards(console: Console, fails: bool) -> None:
    gc.collect()
    gc.disable()
    try:
        sgd = optimizer()

        def step(number: int) -> float:
            return 1 / (0 if fails else number)

        logger = RichLogger(console)
        trainer = Trainer(step, [1, 2], optimizer=sgd, callbacks=[logger])
        if fails:
            with pytest.raises(ZeroDivisionError):
                trainer.fit()
        else:
            trainer.fit()
        held = [weakref.ref(sgd), weakref.ref(trainer)]
        del sgd, trainer, step
        assert [reference() for reference in held] == [None, None]
        assert logger.state_dict() == {}
    finally:
        gc.enable()


def test_a_display_that_could_not_begin_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(console: Console) -> str:
        raise ArithmeticError

    logger = RichLogger(pipe())
    monkeypatch.setattr(Console, "encoding", property(fail))
    with pytest.raises(ArithmeticError) as caught:
        Trainer(callbacks=[logger]).fit()
    assert caught.value.__notes__ == ["raised by RichLogger.on_fit_start on FitStart"]
    assert caught.value.__context__ is None
