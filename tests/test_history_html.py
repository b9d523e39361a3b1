"""The history as a notebook shows it, by its HTML."""

import math
import re
from html import unescape

from lucid_train import EpochRecord, EvaluationRecord, History
from lucid_train.plot import html_panels


def table(page: str) -> list[list[str]]:
    """Return the cells of the table on a page, row by row, bold ones with a star."""
    rows = re.findall("<tr>(.*?)</tr>", page)
    cells = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return [[unescape(re.sub("</?b>", "*", cell)).removesuffix("*") for cell in row] for row in cells]


def paths(page: str) -> list[list[tuple[float, float]]]:
    """Return the points of each curve on a page."""
    found = re.findall(r'<path d="M([\d., ]+)"', page)
    return [[(float(x), float(y)) for x, _, y in (each.partition(",") for each in path.split())] for path in found]


def page_of(history: History) -> str:
    return history._repr_html_()


def test_each_epoch_is_a_row_with_one_format_per_column_and_the_best_value_in_bold() -> None:
    history = History(
        [
            EpochRecord(epoch=1, seconds=0.5, metrics={"loss": 1.5, "val_accuracy": 0.5, "f1": 0.5}, lr=(0.1,)),
            EpochRecord(epoch=2, seconds=12.0, metrics={"loss": 0.00412, "val_accuracy": 0.75, "f1": 0.9}, lr=(1e-9,)),
            EpochRecord(epoch=3, seconds=1.0, metrics={"loss": math.nan, "val_accuracy": 0.75}, lr=(0.0,)),
        ]
    )
    page = page_of(history)
    assert page.count(">3 epochs, ready<") == 1
    assert table(page) == [
        ["epoch", "loss", "val_accuracy", "f1", "lr", "seconds"],
        ["1", "1.5000", "0.5000", "0.5000", "0.1000", "0.500"],
        ["2", "*0.0041", "*0.7500", "0.9000", "1.0e-09", "12.000"],
        ["3", "nan", "0.7500", "", "0.0000", "1.000"],
    ]


def test_an_evaluation_within_an_epoch_is_a_row() -> None:
    history = History([EpochRecord(epoch=1, steps=4, metrics={"loss": 0.5})])
    history.evaluations.append(EvaluationRecord(epoch=1, step=2, metrics={"val_loss": 0.25}))
    assert [row[:4] for row in table(page_of(history))] == [
        ["epoch", "step", "loss", "val_loss"],
        ["1", "2", "", "*0.2500"],
        ["1", "4", "*0.5000", ""],
    ]


def test_a_long_history_shows_its_ends_and_its_best_epochs() -> None:
    losses = [abs(epoch - 500) / 1000 for epoch in range(1, 10_001)]
    page = page_of(History([EpochRecord(epoch=e, metrics={"loss": loss}) for e, loss in enumerate(losses, 1)]))
    shown = [row[0] for row in table(page)]
    assert shown == ["epoch", *"12345", "…", "500", "…", "9996", "9997", "9998", "9999", "10000"]
    assert len(page) < 15_000, "a curve of 10,000 points is drawn with a few hundred"
    (curve,) = paths(page)
    assert (min(y for _, y in curve), max(y for _, y in curve)) == (8.0, 128.0)


def test_curves_go_from_the_lowest_to_the_highest_number_with_gaps_and_dots() -> None:
    inf, nan = math.inf, math.nan
    page = html_panels([{"a": ([1, 2, 3, 4, 5], [0.0, 2.0, nan, 1.0, inf])}, {"empty": ([1], [nan])}])
    assert paths(page) == [[(60.0, 128.0), (158.0, 8.0)], [(354.0, 68.0)] * 2]
    assert html_panels([{"empty": ([1], [nan])}, {}]) == ""


def test_the_largest_floats_are_drawn() -> None:
    assert paths(html_panels([{"a": ([1, 2], [-1.7e308, 1.7e308])}])) == [[(60.0, 128.0), (354.0, 8.0)]]


def test_names_and_reasons_are_no_markup() -> None:
    history = History([EpochRecord(epoch=1, metrics={"<b>acc</b>": 0.5})])
    history.status, history.reason = "stopped", "<script>"
    page = page_of(history)
    assert page.count("&lt;b&gt;acc&lt;/b&gt;") == 3
    assert ">1 epoch, stopped: &lt;script&gt;<" in page


def test_a_history_without_epochs_says_so() -> None:
    page = page_of(History())
    assert (">0 epochs, ready<" in page, table(page)) == (True, [["epoch", "seconds"]])


def test_it_has_no_color_of_its_own_for_text() -> None:
    page = page_of(History([EpochRecord(epoch=epoch, metrics={"loss": 1 / epoch}) for epoch in (1, 2)]))
    assert set(re.findall('(?:color:|fill=|stroke=)"?([^";]+)', page)) == {"#3b82c4", "currentColor", "none"}
