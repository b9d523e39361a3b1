import io
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from lucid_train import Callback, EpochEnd, EpochReport, StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, EarlyStopping, ExponentialLRCallback, RichLogger, StepLRCallback
from lucid_train.nn import Linear
from lucid_train.optims import SGD
from tests.support.callbacks import At
from tests.support.console import SECONDS, Sink, optimizer, permanent, pipe, shown, terminal, train
from tests.support.data import Unsized


def test_piped_there_is_one_line_per_epoch_between_a_header_and_a_summary() -> None:
    console = pipe(40)
    train(RichLogger(console), StepLRCallback(step_size=2, gamma=0.5))
    assert SECONDS.sub("#", shown(console)).splitlines() == [
        "training 3 epochs of 3 steps  lr 0.1"
        "  schedule StepLRCallback(interval='epoch', step_size=2, gamma=0.5)  callbacks StepLRCallback, RichLogger",
        "epoch 1/3  loss 0.5833*  acc[top5] 0.2333  lr 0.1  #",
        "epoch 2/3  loss 0.5833  acc[top5] 0.2333  lr 0.1 -> 0.05  #",
        "epoch 3/3  loss 0.5833  acc[top5] 0.2333  lr 0.05  #",
        "completed 3 epochs, 9 steps in #  #  best epoch 1  loss 0.5833  acc[top5] 0.2333"
        "  lr 0.05 .. 0.1  loss 0.5833 .. 0.5833",
    ]


def test_on_a_terminal_the_rows_are_a_table_that_stays() -> None:
    console = terminal(72)
    train(RichLogger(console), StepLRCallback(step_size=2, gamma=0.5))
    lines = permanent(console)
    assert len({len(line) for line in lines[5:9]}) == 1
    lines = [SECONDS.sub("#", line) for line in lines]
    assert lines == [
        " training   3 epochs of 3 steps",
        " lr         0.1",
        " schedule   StepLRCallback(interval='epoch', step_size=2, gamma=0.5)",
        " callbacks  StepLRCallback, RichLogger",
        "",
        " epoch      loss  acc[top5]          lr                   time",
        lines[6],
        lines[7],
        lines[8],
        "",
        " completed  3 epochs, 9 steps in #  #",
        " best       epoch 1  loss 0.5833  acc[top5] 0.2333",
        " lr         0.05 .. 0.1  ██▁",
        " loss       0.5833 .. 0.5833  ▁▁▁",
        "",
    ]
    assert [line.split()[:-1] for line in lines[6:9]] == [
        ["1", "0.5833*", "0.2333", "0.1"],
        ["2", "0.5833", "0.2333", "0.1", "->", "0.05"],
        ["3", "0.5833", "0.2333", "0.05"],
    ]


def test_piped_output_is_plain_and_flushed_at_every_epoch() -> None:
    program = """
import sys
from lucid_train import Trainer
from lucid_train.callbacks import RichLogger
def step(number):
    number or sys.stdin.readline()
    return 0.5
Trainer(step, range(1000), epochs=2, callbacks=[RichLogger(header=False, summary=False)]).fit()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        first = process.stdout.readline()
        assert process.poll() is None
        process.stdin.write(b"\n")
        output = first + process.stdout.read()
    assert re.fullmatch(rb"epoch 1/2  loss 0\.5000\*  [\d.]+m?s\nepoch 2/2  loss 0\.5000  [\d.]+m?s\n", output)


def test_piped_output_grows_with_epochs_and_not_with_steps() -> None:
    def size(epochs: int, steps: int) -> int:
        console = pipe()
        Trainer(lambda batch: 0.5, range(steps), epochs=epochs, callbacks=[RichLogger(console, summary=False)]).fit()
        return len(SECONDS.sub("#", shown(console)))

    assert size(10, 1000) == size(10, 1000)
    assert size(9, 1000) - size(9, 1) == len("1,000 steps") - len("1 step")


def test_many_short_epochs_are_drawn_together_and_none_is_lost() -> None:
    console = terminal()
    began = time.monotonic()
    Trainer(lambda batch: 0.5, [1], epochs=2000, callbacks=[RichLogger(console)]).fit()
    allowed = 10 * (time.monotonic() - began) + 8  # opening and closing the display writes a few times
    assert cast("Sink", console.file).writes <= allowed
    rows = [int(line.split()[0]) for line in permanent(console) if re.match(r" +\d+ ", line)]
    assert rows == list(range(1, 2001))


@pytest.mark.parametrize("width", [1, 20, 40, 80, 200])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("force_terminal", [True, False])
def test_any_width_and_encoding_will_do(width: int, encoding: str, force_terminal: bool) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(file=file, force_terminal=force_terminal, width=width, height=30)
    names = {"loss": 0.5, "λ[red]": 1e-9, "a_rather_long_name_for_a_metric": -1.0, "line\nbreak": float("nan")}
    logger = RichLogger(console, refresh_per_second=10)
    train(logger, ExponentialLRCallback(gamma=0.5), step=lambda number: time.sleep(0.015 * force_terminal) or names)
    file.flush()
    text = raw.getvalue().decode(encoding)
    if encoding != "utf-8":
        assert text.isascii()
        assert "\\u03bb[red]" in text or width < 20
    elif width >= 20:
        assert "λ[red]" in text
    if not force_terminal:
        assert not set(text) & set("\x1b\r\b")
        assert len(text.splitlines()) == 5
        assert "line\\nbreak nan" in text
    elif width > 1:
        lines = text.replace("\r", "\n").split("\n")
        assert max(len(re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line)) for line in lines) <= width


def test_metrics_and_rates_stay_in_their_columns() -> None:
    console = terminal(100)
    values = iter([1e-12, 123456789.0, -0.5, float("inf"), 12.345, 0.0, float("nan"), -1e-5])
    rates = iter([1e-300, 999.9, 0.1, 1e-5, 0.0, 1.234e-250, 3.0])
    sgd = optimizer(1e3)

    def step(number: int) -> float:
        sgd.step()
        return next(values)

    trainer = Trainer(step, [1], epochs=8, optimizer=sgd, callbacks=[RichLogger(console, header=False, summary=False)])

    @trainer.on(EpochReport)
    def change(event: EpochReport) -> None:
        sgd.param_groups[0]["lr"] = next(rates, 0.5)

    trainer.fit()
    table = [line for line in permanent(console) if line]
    assert len(table) == 9, "one header, eight rows"
    end_of_loss, end_of_lr = (table[0].index(name) + len(name) for name in ("loss", "lr"))
    for line in table[1:]:
        assert line[end_of_loss - 1] != " "
        assert line[end_of_loss] in " *"
        assert line[end_of_lr - 1] != " "
        assert line[end_of_lr] == " "
    assert [line.split()[2] for line in table[1:]] == [
        *("1000", "1e-300", "999.9", "0.1"),
        *("1e-05", "0", "1.234e-250", "3"),
    ]


def test_a_metric_that_comes_later_gets_a_column() -> None:
    console = terminal()
    logger = RichLogger(console, header=False, summary=False)
    train(logger, evaluate=lambda: 0.25, evaluate_every=2, epochs=4, step=lambda _: 1.0)
    lines = [line.split()[:-1] for line in permanent(console) if line]
    assert lines == [
        ["epoch", "loss", "lr"],
        ["1", "1.0000*", "0.1"],
        ["epoch", "loss", "val_loss", "lr"],
        ["2", "1.0000", "0.2500*", "0.1"],
        ["3", "1.0000", "0.1"],
        ["4", "1.0000", "0.2500", "0.1"],
    ]


@pytest.mark.parametrize(
    ("lrs", "expected"),
    [
        ([0.1, 0.1], "lr 0.1 -> 0.05"),
        ([0.1, 0.01], "lr 0.1, 0.01 -> 0.05, 0.005"),
        ([0.1 / 2**power for power in range(12)], "lr 4.88e-05 .. 0.1 -> 2.44e-05 .. 0.05"),
    ],
)
@pytest.mark.parametrize("console", [pipe(), terminal(160)])
def test_several_groups_are_summed_up(console: Console, lrs: list[float], expected: str) -> None:
    groups = [{"params": Linear(1, 1).parameters(), "lr": lr} for lr in lrs]
    train(RichLogger(console), ExponentialLRCallback(gamma=0.5), optimizer=SGD(groups, lr=1.0), epochs=1)
    assert expected.removeprefix("lr ") in "\n".join(permanent(console))


def test_the_summary_says_why_a_run_was_stopped() -> None:
    console = pipe()
    train(RichLogger(console), EarlyStopping("loss", patience=1), step=lambda number: 1.0)
    assert "stopped loss has not improved for 1 epoch (best 1 in epoch 1)  trained 2 epochs" in shown(console)


def test_what_is_unknown_is_counted_and_known_from_the_second_epoch() -> None:
    console = terminal()
    train(RichLogger(console), step=lambda number: time.sleep(0.06), data=Unsized(), epochs=2)
    assert re.search(r"step +[123] +[\d.]+ steps/s", shown(console))
    assert "eta -" in shown(console)
    assert re.search(r"step +[1234]/4 ", shown(console))
    assert re.search(r"eta \d:\d\d", shown(console))


def test_an_evaluation_is_announced() -> None:
    console = terminal()
    train(RichLogger(console), evaluate=lambda: time.sleep(0.25) or 0.5, epochs=1)
    assert "evaluating 0:00" in shown(console)


def last_line(directory: Path, *others: Callback, epochs: int = 2, **settings: Any) -> str:
    """Return the last line that a run of two steps per epoch shows in a pipe."""
    console = pipe()
    settings = {"step": lambda batch: 0.5, **settings}
    trainer = Trainer(
        data=[1, 2],
        epochs=epochs,
        callbacks=[RichLogger(console), Checkpoint(directory, weights=False), *others],
        **settings,
    )
    with suppress(ZeroDivisionError):
        trainer.fit()
    return shown(console).splitlines()[-1]


def failing(batch: int) -> float:
    return 1 / (batch - 2)


def test_the_last_line_of_a_run_that_is_not_completed_says_how_to_go_on(tmp_path: Path) -> None:
    stop = At(EpochEnd, lambda event: event.run.stop("enough"))
    saved = tmp_path / "stopped" / "checkpoint-000001-epoch-1-step-2.safetensors"
    assert last_line(tmp_path / "stopped", stop) == f'saved {saved}; go on with fit(resume="auto")'
    again = At(EpochEnd, lambda event: event.run.stop("no better", for_good=True))
    saved = tmp_path / "finished" / saved.name
    assert last_line(tmp_path / "finished", again) == f'saved {saved}; go on with fit(resume="auto", accept="stopped")'
    two = Checkpoint(tmp_path / "other", weights=False)
    saved = tmp_path / "other" / saved.name
    assert last_line(tmp_path / "two", stop, two) == f'saved {saved}; go on with fit(resume="{saved.parent}")'


def test_a_run_that_fails_names_the_newest_checkpoint_there_is_of_it(tmp_path: Path) -> None:
    assert last_line(tmp_path / "none", step=failing).startswith("failed")
    calls = []

    def step(batch: int) -> float:
        calls.append(batch)
        return 1 / (len(calls) - 3)

    saved = tmp_path / "run" / "checkpoint-000001-epoch-1-step-2.safetensors"
    assert last_line(tmp_path / "run", step=step) == f'saved {saved}; go on with fit(resume="auto")'


def test_a_run_that_is_completed_needs_no_such_line(tmp_path: Path) -> None:
    assert last_line(tmp_path).startswith("completed")


def test_without_a_checkpoint_an_interruption_does_not_speak_of_saving() -> None:
    console = pipe()
    error = SystemExit(3)

    def interrupt(event: StepEnd) -> None:
        event.run.interrupt(error, "interrupted by a friend")
        while "stopping" not in shown(console):
            time.sleep(0.01)

    with pytest.raises(SystemExit):
        Trainer(lambda batch: 0.5, [1], callbacks=[RichLogger(console, header=False), At(StepEnd, interrupt)]).fit()
    assert shown(console).splitlines()[0] == "stopping after this step"
    assert "lucid_train ticker" not in [thread.name for thread in threading.enumerate()]
