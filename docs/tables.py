"""Tables of the reference that are made of the classes themselves."""

import inspect
import re
from typing import Any

import attrs

import lucid_train
from lucid_train import Event


class Table:
    """A table of Markdown, which a page shows as such."""

    def __init__(self, titles: list[str], rows: list[list[str]]) -> None:
        self.lines = [titles, ["---"] * len(titles), *rows]

    def _repr_markdown_(self) -> str:
        return "\n".join(f"| {' | '.join(cells)} |" for cells in self.lines)


def sentence(described: Any) -> str:
    """Return the first sentence of a docstring, in Markdown."""
    text = " ".join((inspect.getdoc(described) or "").split("\n\n")[0].split())
    return re.match(r"(.*?[.;])( |$)", text)[1].rstrip(".;")  # type: ignore[index]  # every docstring has one


def events() -> Table:
    """Return the events in the order of a fit: hook, when it is emitted, what it carries and what `every` counts."""
    public = [getattr(lucid_train, name) for name in lucid_train.__all__]
    kinds = [each for each in public if inspect.isclass(each) and issubclass(each, Event) and each is not Event]
    rows = []
    for kind in sorted(kinds, key=lambda kind: inspect.getsourcelines(kind)[1]):
        fields = {field.name: field.type for field in attrs.fields(kind) if field.name != "run"}
        for name, member in vars(kind).items():
            if isinstance(member, property) and name != "count":
                fields[name] = inspect.get_annotations(member.fget)["return"]  # type: ignore[arg-type]  # it has one
        carried = ", ".join(f"`{name}: {str(kind).replace(' | ', ' or ')}`" for name, kind in fields.items())
        counted = "its own number" if kind.counted is None else f"`{kind.counted}`"
        if kind in (lucid_train.EvaluateStart, lucid_train.EvaluateEnd):
            counted = "`epoch`; `step` if it is within an epoch"
        rows.append([f"{{py:class}}`~lucid_train.{kind.__name__}`", f"`{kind.hook}`", sentence(kind), carried, counted])
    return Table(["event", "hook", "when", "carries", "`every` and `at` look at"], rows)
