"""RichLogger in a notebook, run by a real kernel."""

from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

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

    class Client(NotebookClient):  # type: ignore[misc]  # nbclient is partly untyped
        def process_message(self, message: Any, *arguments: Any) -> Any:
            if message["msg_type"] in ("display_data", "update_display_data"):
                pictures.append(message["content"]["data"])
            return super().process_message(message, *arguments)

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(program)])
    Client(notebook, kernel_name="python3", timeout=60).execute()
    return notebook.cells[0].outputs, pictures


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
    assert 3 <= len(pictures) <= 8


@pytest.mark.slow
def test_a_notebook_cell_that_fails_shows_what_there_was() -> None:
    program = PROGRAM.replace("time.sleep(0.15)", "assert number < 3").replace("history =", "try:\n    history =")
    outputs, _ = run(program + "\nexcept AssertionError:\n    pass")
    shown = [output for output in outputs if output.output_type == "display_data"]
    assert len(shown) == 1
    assert "failed" in shown[0].data["text/plain"]
