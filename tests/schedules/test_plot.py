"""A schedule's curve: as a figure, and as a notebook shows it."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from lucid_train.schedules import WSD, Constant, Cosine, Function, Linear, Noam, Polynomial, Step
from tests.support.notebook import execute


def drawn(figure: Figure) -> dict[str, list[list[float]]]:
    (panel,) = figure.axes
    return {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in panel.lines}


def test_a_figure_has_the_values_of_every_schedule() -> None:
    figure = Polynomial().plot(Step(2, gamma=0.5), length=4, base=2.0)
    assert drawn(figure) == {
        "Polynomial()": [[0, 2.0], [1, 1.5], [2, 1.0], [3, 0.5]],
        "Step(2, gamma=0.5)": [[0, 2.0], [1, 2.0], [2, 1.0], [3, 1.0]],
    }
    assert figure.axes[0].get_xlabel() == "t"


def test_an_empty_figure_of_ones_own_can_be_drawn_in() -> None:
    figure = Figure()
    assert Polynomial(2).plot(figure=figure) is figure
    assert drawn(figure) == {"Polynomial(2)": [[0, 1.0], [1, 0.5], [2, 0.0]]}


@pytest.mark.parametrize(
    ("schedule", "length"),
    [
        (Cosine(), 100),
        (Cosine(40), 41),
        (Step(30), 100),
        (Step(300), 900),
        (Noam(8, warmup_steps=50), 150),
        (Linear(0, total_iters=2000).then(Cosine()), 6000),
        (Constant().until(500).then(Cosine("50%")), 1500),
        (Cosine().sized(70), 71),
        (WSD(50, 100), 450),
        (WSD(), 100),
    ],
)
def test_the_length_that_is_drawn_shows_how_it_goes_on(schedule: Cosine, length: int) -> None:
    (points,) = drawn(schedule.plot()).values()
    assert [t for t, _ in points] == list(range(length))


def test_a_long_curve_has_100000_times_spread_over_it() -> None:
    times, values = Polynomial().curve(10**9)
    assert (len(times), times[:2], times[-1]) == (100_000, [0, 10_000], 999_990_000)
    assert values[50_000] == 0.5


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'others\[0\]' must be a Schedule: 3"):
        Cosine().plot(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'length' must be >= 1: 0"):
        Cosine().plot(length=0)
    with pytest.raises(ValueError, match="'base' must be finite: nan"):
        Cosine().plot(base=float("nan"))


def test_a_notebook_shows_the_schedule_and_its_curve_in_the_colors_of_the_page() -> None:
    ((shown,),) = execute("from lucid_train.schedules import Cosine\nCosine(8).warmup('10%')")
    html = shown.data["text/html"]
    assert "Linear(0.1, total_iters=&#x27;10%&#x27;).then(Cosine(8))" in html
    assert html.count("<svg") == 1
    assert "currentColor" in html
    assert shown.data["text/plain"] == "Linear(0.1, total_iters='10%').then(Cosine(8))"


def test_a_schedule_that_cannot_be_drawn_is_shown_with_the_reason() -> None:
    html = Function(lambda t: 1 / 0)._repr_html_()
    assert "Function(" in html
    assert "no curve: division by zero" in html


def test_showing_a_schedule_loads_neither_numpy_nor_matplotlib_nor_rich() -> None:
    program = (
        "import sys; from lucid_train.schedules import Cosine; Cosine()._repr_html_(); "
        "print({'numpy', 'matplotlib', 'rich'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "set()\n"
