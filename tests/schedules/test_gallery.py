"""The documentation's gallery: it has every schedule."""

import inspect
import sys
from pathlib import Path

import pytest

from lucid_train import schedules

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
import gallery  # noqa: E402  # a module of the documentation

sys.path.remove(str(DOCS))


def test_every_public_schedule_has_an_example_of_its_own_class() -> None:
    kinds = {name: getattr(schedules, name) for name in schedules.__all__}
    shown = {name: type(schedule) for name, schedule in gallery.EXAMPLES.items()}
    assert shown == {name: kind for name, kind in kinds.items() if not inspect.isabstract(kind)}
    assert list(gallery.classes()) == [name for name in schedules.__all__ if name in shown]


@pytest.mark.parametrize("shown", [gallery.EXAMPLES, gallery.COMPOSITIONS], ids=["examples", "compositions"])
def test_each_is_drawn_with_its_expression(shown: dict[str, schedules.Schedule]) -> None:
    html = gallery.Gallery(shown, described=True)._repr_html_()
    assert html.count("<svg") == html.count("<p><code>") == html.count("<h3") == len(shown)


def test_what_is_said_of_a_schedule_is_its_docstring_before_the_arguments() -> None:
    assert gallery.formula(schedules.Constant) == (
        "<p>Hold a share of the base: <code>base * factor</code>, within 1 ulp, and from <code>total_iters</code> "
        "on exactly the base.</p>"
    )
