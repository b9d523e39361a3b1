"""RichLogger in a notebook, run by a real kernel."""

import re
from typing import Any

import pytest

from tests.support.notebook import execute

PROGRAM = """
import time, warnings
warnings.simplefilter("error")
from lucid_train import Trainer
from lucid_train.callbacks import RichLogger

def step(number):
    time.sleep(0.15)
    if number == 2:
        print("printed")
    return {"loss": 1 / number, "<i>acc[top5]</i>": 0.5}

history = Trainer(step, [1, 2, 3, 4], epochs=3, callbacks=[RichLogger()]).fit()
"""


def run(program: str) -> tuple[list[Any], list[Any]]:
    """Return the outputs that are left in a cell, and all the pictures that it showed."""
    pictures: list[Any] = []
    (outputs,) = execute(program, notice=pictures.append)
    return outputs, pictures


def test_a_notebook_shows_one_picture_that_is_updated_in_place() -> None:
    outputs, pictures = run(PROGRAM)
    shown = [output for output in outputs if output.output_type == "display_data"]
    streams = [output.text for output in outputs if output.output_type == "stream"]
    assert len(shown) == 1, "no picture is left over"
    assert "".join(streams) == "printed\n" * 3
    text, page = shown[0].data["text/plain"], shown[0].data["text/html"]
    rows = [line.split()[:-1] for line in text.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ")]
    assert rows == [["1", "0.5208", "*", "0.5000"], ["2", "0.5208", "0.5000"], ["3", "0.5208", "0.5000"]]
    assert text.count("completed") == page.count("completed") == 1
    assert "eta" not in text
    assert "&lt;i&gt;acc[top5]&lt;/i&gt;" in page
    assert "eta" in pictures[1]["text/plain"], "the bars move while it runs"
    moving = [picture["text/plain"] for picture in pictures]
    assert any(re.search(r"epoch [123]/3 .* [1-4]/4  .*loss [01]\.", each) for each in moving), "so do the means"
    assert 3 <= len(pictures) <= 8


@pytest.mark.slow
def test_a_notebook_cell_that_fails_shows_what_there_was() -> None:
    program = PROGRAM.replace("time.sleep(0.15)", "assert number < 3").replace("history =", "try:\n    history =")
    outputs, _ = run(program + "\nexcept AssertionError:\n    pass")
    shown = [output for output in outputs if output.output_type == "display_data"]
    assert len(shown) == 1
    assert "failed" in shown[0].data["text/plain"]


def test_the_result_of_a_fit_shows_no_row_a_second_time_and_plan_and_history_are_tables_with_curves() -> None:
    setup = """
from lucid_train import Trainer, nn, optims, schedules
from lucid_train.callbacks import LRSchedulerCallback, RichLogger
optimizer = optims.SGD(nn.Linear(2, 1).parameters(), lr=0.5)
callbacks = [LRSchedulerCallback(schedules.Cosine()), RichLogger(header=False, summary=False)]
trainer = Trainer(optimizer=optimizer, evaluate=lambda: 0.25, epochs=3, callbacks=callbacks)
trainer.plan()"""
    (plan,), (rows, fit), (history,) = execute(setup, "history = trainer.fit()\nhistory", "history")
    pages = [output.data["text/html"] for output in (plan, rows, fit, history)]
    assert [page.count("val_loss</th>") for page in pages] == [0, 0, 0, 1], "the table is not under the rows"
    assert [page.count("<svg") for page in pages] == [1, 0, 2, 2]
    assert [output.data["text/plain"] for output in (fit, history)] == ["History(3 epochs, completed)"] * 2
    assert rows.output_type == "display_data"
