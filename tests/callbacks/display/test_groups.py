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
    assert header.split() == ["epoch", "loss", "val_loss", "lr", "time"]
    assert len(rows) == EPOCHS, "the header is not shown again"
    assert {len(row) for row in rows} == {len(header)}
    assert {row.index(" -> ") for row in rows[:-1]} == {header.index("lr") + 2}


@pytest.mark.parametrize("width", [20, 30, 40, 60, 70])
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


def test_a_line_ends_between_what_was_and_what_comes() -> None:
    first = " ".join(shown(40, 0.1, 0.01, 0.00085364)[:2])
    assert re.search(r"lr 0\.000854 \.\. 0\.1 +-> 0\.000852 \.\. 0\.0998", first)


def test_the_header_says_how_many_groups_there_are() -> None:
    lines = shown(80, 0.1, 0.01, 0.001, settings={"rows": False, "summary": False})
    assert " lr         0.001 .. 0.1 (3 groups)" in lines
    assert " lr         0.1" in shown(80, 0.1, 0.1, 0.1, settings={"rows": False, "summary": False})
