"""How RichLogger shows the rates of several parameter groups."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from lucid_train import Trainer
from lucid_train.callbacks import CosineAnnealingLRCallback, RichLogger
from lucid_train.nn import Linear
from lucid_train.optims import SGD

EPOCHS = 40


def shown(width: int, *lrs: float, settings: dict[str, Any] | None = None) -> list[str]:
    """Return the lines of a run with a group for each rate, two metrics and a cosine."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width, height=40, color_system=None)
    sgd = SGD([{"params": Linear(1, 1).parameters(), "lr": lr} for lr in lrs], lr=1.0)

    def step(batch: float) -> float:
        sgd.step()
        return batch

    logger = RichLogger(console, bars=False, **(settings or {"header": False, "summary": False}))
    schedule = CosineAnnealingLRCallback(T_max=EPOCHS)
    Trainer(step, [0.5], epochs=EPOCHS, optimizer=sgd, evaluate=lambda: 0.25, callbacks=[schedule, logger]).fit()
    return [line for line in file.getvalue().splitlines() if line]


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("lrs", [(0.1, 0.037), (0.1, 0.01, 0.00085364), (0.123456, 0.01, 0.001, 0.00085364)])
def test_the_rates_of_several_groups_have_columns_that_stay(width: int, lrs: tuple[float, ...]) -> None:
    header, *rows = shown(width, *lrs)
    titles = ["epoch", "loss", "val_loss", "lr", "->", "next", "time"]
    assert header.split() == titles + (["*", "best", "so", "far"] if width > 80 else [])
    rows = [row for row in rows if row.split() != titles]
    assert len(rows) == EPOCHS
    assert {len(row) for row in rows} == {header.index("time") + len("time")}
    assert len({row.index(" -> ") for row in rows}) == 1
    assert {row[header.index("lr")] for row in rows} <= set("0123456789"), "the rates stand below their title"


def test_the_next_rates_are_left_out_where_only_the_used_ones_fit() -> None:
    header, *rows = shown(60, 0.1, 0.01, 0.00085364)
    assert header.split() == ["epoch", "loss", "val_loss", "lr", "time"]
    assert rows[0].split() == ["1", "0.5000", "0.2500", "*", "8.54e-4", "..", "1.00e-1", rows[0].split()[-1]]
    assert {len(row) for row in rows} == {len(header)}


@pytest.mark.parametrize("width", [20, 30, 40, 45])
def test_no_rate_is_cut_where_a_line_ends(width: int) -> None:
    lines = shown(width, 0.1, 0.01, 0.00085364)
    assert max(map(len, lines)) <= width
    epochs = re.split(r"\bepoch +\d+", "\n".join(lines))[1:]
    assert len(epochs) == EPOCHS
    for text in epochs[:-1]:
        words = text.split()
        at = words.index("lr")
        assert [words[at + 2], words[at + 4], words[at + 6]] == ["..", "->", ".."]
        assert all(float(words[at + place]) >= 0 for place in (1, 3, 5, 7))


def test_the_header_says_how_many_groups_there_are() -> None:
    lines = shown(80, 0.1, 0.01, 0.001, settings={"rows": False, "summary": False})
    assert lines == [" training  40 epochs of 1 step, SGD with 3 groups", " schedule  cosine to 0 over 40 epochs"]
    assert shown(80, 0.1, settings={"rows": False, "summary": False})[0] == " training  40 epochs of 1 step, SGD"
