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

from lucid_train import Callback, EpochEnd, EpochReport, StepEnd, Trainer, nn
from lucid_train.callbacks import (
    Checkpoint,
    EarlyStopping,
    ExponentialLRCallback,
    LRSchedulerCallback,
    RichLogger,
    StepLRCallback,
)
from lucid_train.optims import SGD
from lucid_train.schedules import Cosine, Linear, Step
from tests.support.callbacks import At
from tests.support.console import SECONDS, Sink, optimizer, permanent, pipe, shown, terminal, train
from tests.support.data import Unsized
from tests.support.waiting import until


def test_piped_there_is_one_line_per_epoch_between_a_header_and_a_summary() -> None:
    console = pipe(40)
    train(RichLogger(console), StepLRCallback(step_size=2, gamma=0.5))
    assert SECONDS.sub("#", shown(console)).splitlines() == [
        "training 3 epochs of 3 steps, SGD",
        "schedule times 0.5 every 2 epochs",
        "epoch 1/3  loss 0.5833*  acc[top5] 0.2333  lr 0.1000  #",
        "epoch 2/3  loss 0.5833  acc[top5] 0.2333  lr 0.1000 -> 0.0500  #",
        "epoch 3/3  loss 0.5833  acc[top5] 0.2333  lr 0.0500  #",
        "completed 3 epochs, 9 steps in # (#)",
        "best epoch 1: loss 0.5833, acc[top5] 0.2333",
    ]


def test_on_a_terminal_the_rows_are_a_table_that_stays() -> None:
    console = terminal(72)
    train(RichLogger(console), StepLRCallback(step_size=2, gamma=0.5))
    lines = permanent(console)
    assert len({len(line) for line in lines[4:7]}) == 1
    lines = [SECONDS.sub("#", line) for line in lines]
    assert lines == [
        " training  3 epochs of 3 steps, SGD",
        " schedule  times 0.5 every 2 epochs",
        "",
        " epoch     loss    acc[top5]  lr -> next           time  * best so far",
        lines[4],
        lines[5],
        lines[6],
        "",
        " completed  3 epochs, 9 steps in # (#)",
        " best       epoch 1: loss 0.5833, acc[top5] 0.2333",
        " loss       0.5833 -> 0.5833  ▁▁▁",
        " lr         0.1000 -> 0.0500  ██▁",
        "",
    ]
    assert [line.split()[:-1] for line in lines[4:7]] == [
        ["1", "0.5833", "*", "0.2333", "0.1000"],
        ["2", "0.5833", "0.2333", "0.1000", "->", "0.0500"],
        ["3", "0.5833", "0.2333", "0.0500"],
    ]


def test_a_header_and_a_summary_have_at_most_80_columns_in_a_pipe_and_on_a_wide_terminal() -> None:
    schedules = [Linear(0.0, total_iters="5%").until("50%").then(Step(2, 0.5)), Cosine(10, 1e-5).warmup(3)]
    for console in (pipe(200), terminal(200)):
        groups = [{"params": nn.Linear(1, 1).parameters(), "lr": lr} for lr in (0.1, 0.01)]
        train(
            RichLogger(console, rows=False, bars=False),
            LRSchedulerCallback(schedules),
            EarlyStopping("loss", patience=2),
            optimizer=SGD(groups, lr=1.0),
            step=lambda number: {f"a_metric_with_a_long_name_{index}": 0.5 for index in range(9)} | {"loss": number},
        )
        lines = permanent(console)
        assert max(map(len, lines)) <= 80
        assert [line.split()[0] for line in lines if line and not line.startswith("  ")][:3] == [
            *("training", "schedule", "stopping"),
        ]
        together = " ".join(" ".join(lines).split())
        assert "schedule warm-up 5 % from 0 until 50 %, then times 0.5 every 2 epochs; warm-up over 3" in together
        assert "stopping after 2 epochs without a lower loss best lowest loss (*)" in together


def test_what_goes_on_says_from_where() -> None:
    console = pipe()
    trainer = Trainer(lambda batch: 0.5, range(4), epochs=2, callbacks=[RichLogger(console, rows=False, summary=False)])
    trainer.on(StepEnd, at=5)(lambda event: event.run.stop())
    trainer.fit()
    trainer.fit()
    trainer.fit(3)
    assert shown(console).splitlines() == [
        "training 2 epochs of 4 steps",
        "training epoch 2 of 4 steps, from step 2",
        "training epoch 3 of 4 steps",
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
        assert len(text.splitlines()) == 8
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
    titles = [line for line in table if "epoch" in line]
    assert [line.split()[:3] for line in titles] == [["epoch", "loss", "lr"]] * len(titles)
    assert len(table) - len(titles) == 8
    end_of_loss = titles[-1].index("loss") + len("loss")
    for line in table[table.index(titles[-1]) + 1 :]:
        assert line[end_of_loss - 1] != " "
        assert line[end_of_loss : end_of_loss + 2] in ("  ", " *")
    assert [line.replace(" *", "").split()[2] for line in table if line not in titles] == [
        *("1000.0", "~0", "999.9", "0.1"),
        *("~0", "0", "~0", "3.0"),
    ]


def test_a_metric_that_comes_later_gets_a_column() -> None:
    console = terminal()
    logger = RichLogger(console, header=False, summary=False)
    train(logger, evaluate=lambda: 0.25, evaluate_every=2, epochs=4, step=lambda _: 1.0)
    lines = [line.split()[:-1] for line in permanent(console) if line]
    assert lines == [
        ["epoch", "loss", "lr", "time", "*", "best", "so"],
        ["1", "1.0000", "*", "0.1000"],
        ["epoch", "loss", "val_loss", "lr"],
        ["2", "1.0000", "0.2500", "*", "0.1000"],
        ["3", "1.0000", "0.1000"],
        ["4", "1.0000", "0.2500", "0.1000"],
    ]


@pytest.mark.parametrize(
    ("lrs", "expected"),
    [
        ([0.1, 0.1], "lr 0.1000 -> 0.0500"),
        ([0.1, 0.01], "lr 0.1000, 0.0100 -> 0.0500, 0.0050"),
        ([0.1 / 2**power for power in range(12)], "lr 4.88e-5 .. 1.00e-1 -> 2.44e-5 .. 5.00e-2"),
    ],
)
@pytest.mark.parametrize("console", [pipe(), terminal(160)])
def test_several_groups_are_summed_up(console: Console, lrs: list[float], expected: str) -> None:
    groups = [{"params": nn.Linear(1, 1).parameters(), "lr": lr} for lr in lrs]
    train(RichLogger(console), ExponentialLRCallback(gamma=0.5), optimizer=SGD(groups, lr=1.0), epochs=1)
    assert expected.removeprefix("lr ") in "\n".join(permanent(console))


def test_the_summary_says_why_a_run_was_stopped() -> None:
    console = pipe()
    train(RichLogger(console), EarlyStopping("loss", patience=1), step=lambda number: 1.0)
    stopped = "stopped after epoch 2: loss has not improved for 1 epoch (best 1 in epoch 1)"
    assert f"{stopped}\ntrained 2 epochs" in shown(console)


def test_what_is_unknown_is_counted_and_known_from_the_second_epoch() -> None:
    console = terminal()
    awaited = iter([r"epoch 1/2  step [123]\n(.|\n)*eta -", r"epoch 2/2  [━╸─]+ +[1234]/4(.|\n)*eta \d:\d\d"])

    def step(number: int) -> None:
        time.sleep(0.06)
        if number == 3:
            pattern = next(awaited)
            until(lambda: re.search(pattern, shown(console)))

    train(RichLogger(console), step=step, data=Unsized(), epochs=2)
    assert list(awaited) == []


def test_an_evaluation_is_announced() -> None:
    console = terminal()

    def evaluate() -> float:
        until(lambda: "evaluating 0:0" in shown(console))
        return 0.5

    assert train(RichLogger(console), evaluate=evaluate, epochs=1).metric("val_loss") == [0.5]


def last_words(directory: Path, *others: Callback, epochs: int = 2, resume: str | None = None, **settings: Any) -> str:
    """Return what a run of two steps per epoch says in a pipe of what it has saved."""
    console = pipe()
    settings = {"step": lambda batch: 0.5, **settings}
    trainer = Trainer(
        data=[1, 2],
        epochs=epochs,
        callbacks=[RichLogger(console, monitor="loss"), Checkpoint(directory, weights=False), *others],
        **settings,
    )
    with suppress(ZeroDivisionError):
        trainer.fit(resume=resume)
    _, saved, words = shown(console).partition("\nsaved ")
    return f"{saved}{words}".strip().replace("\n ", "")


def failing(batch: int) -> float:
    return 1 / (batch - 2)


def test_the_last_line_of_a_run_that_is_not_completed_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a path that is longer than a line is broken
    stop = At(EpochEnd, lambda event: event.run.stop("enough"))
    last = "last.safetensors (epoch 1, step 2); go on with"
    place = Path("stopped")
    assert last_words(place, stop) == f'saved {place}: {last} fit(resume="auto")'
    place = Path("auto")
    same = "last.safetensors (epoch 1, step 2); the same command goes on from there"
    assert last_words(place, stop, resume="auto") == f"saved {place}: {same}"
    again = At(EpochEnd, lambda event: event.run.stop("no better", for_good=True))
    place = Path("finished")
    accept = f'saved {place}: {last} fit(resume="auto", accept="stopped")'
    assert last_words(place, again, resume="auto") == accept
    place = Path("other")
    two = Checkpoint(place, weights=False)
    assert last_words(Path("two"), stop, two) == f'saved {place}: {last} fit(resume="{place}")'


def test_a_run_that_fails_names_the_newest_checkpoint_there_is_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert last_words(Path("none"), step=failing) == ""
    calls = []

    def step(batch: int) -> float:
        calls.append(batch)
        return 1 / (len(calls) - 3)

    place = Path("run")
    last = "last.safetensors (epoch 1, step 2); go on with"
    assert last_words(place, step=step) == f'saved {place}: {last} fit(resume="auto")'


def test_a_run_that_is_completed_says_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert last_words(Path("a")) == "saved a: last.safetensors (epoch 2)"
    losses = iter([0.25, 0.25, 0.5, 0.5])
    best = Checkpoint(Path("b"), monitor="loss", weights=False)
    words = last_words(Path("c"), best, step=lambda batch: next(losses), epochs=2)
    assert words == "saved b: best.safetensors (epoch 1), last.safetensors (epoch 2)"


def test_a_path_that_is_longer_than_a_line_stays_whole(tmp_path: Path) -> None:
    place = tmp_path / ("long" * 20)
    console = terminal(40)
    trainer = Trainer(lambda batch: 0.5, [1], callbacks=[RichLogger(console), Checkpoint(place, weights=False)])
    trainer.fit()
    assert any(line.strip() == f"{place}:" for line in permanent(console))


def test_without_a_checkpoint_an_interruption_does_not_speak_of_saving() -> None:
    console = pipe()
    error = SystemExit(3)

    def interrupt(event: StepEnd) -> None:
        event.run.interrupt(error, "interrupted by a friend")
        while "Stopping" not in shown(console):
            time.sleep(0.01)

    with pytest.raises(SystemExit):
        Trainer(lambda batch: 0.5, [1], callbacks=[RichLogger(console, header=False), At(StepEnd, interrupt)]).fit()
    assert shown(console).splitlines()[0] == "Stopping: this step ends first."
    assert "lucid_train ticker" not in [thread.name for thread in threading.enumerate()]
