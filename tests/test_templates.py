"""The forms for issues follow GitHub's rules, which it only checks when they are opened."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "ISSUE_TEMPLATE"
FORMS = sorted(path for path in FOLDER.glob("*.yml") if path.name != "config.yml")
# What an element of each type may have, and must have.
ATTRIBUTES = {
    "markdown": ({"value"}, {"value"}),
    "input": ({"label", "description", "placeholder", "value"}, {"label"}),
    "textarea": ({"label", "description", "placeholder", "value", "render"}, {"label"}),
    "dropdown": ({"label", "description", "multiple", "options", "default"}, {"label", "options"}),
    "checkboxes": ({"label", "description", "options"}, {"label", "options"}),
}


def read(path: Path) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_github_asks_for(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= form.keys() <= {"name", "description", "title", "labels", "body"}
    assert all(isinstance(form[key], str) and form[key].strip() for key in ("name", "description"))
    assert any(element["type"] != "markdown" for element in form["body"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_every_element_has_what_its_type_may_and_must_have(path: Path) -> None:
    for element in read(path)["body"]:
        allowed, needed = ATTRIBUTES[element["type"]]
        assert element.keys() <= {"type", "id", "attributes", "validations"}, element
        assert needed <= element["attributes"].keys() <= allowed, element
        texts = {name: value for name, value in element["attributes"].items() if name != "options"}
        assert all(isinstance(value, str) and value.strip() for value in texts.values()), element
        options = element["attributes"].get("options", ["one"])
        assert all(isinstance(option, str) for option in options), element  # YAML reads yes and no as booleans
        assert len({"none", *map(str.lower, options)}) == 1 + len(options), element  # GitHub offers None itself
        assert element.get("validations", {}) in ({}, {"required": True}), element


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_ids_and_labels_are_unique(path: Path) -> None:
    asked = [element for element in read(path)["body"] if element["type"] != "markdown"]
    ids = [element["id"] for element in asked]
    assert all(re.fullmatch("[A-Za-z0-9_-]+", each) for each in ids)
    assert len(set(ids)) == len(ids)
    # GitHub compares them without case and punctuation.
    labels = [re.sub(r"\W+", "-", element["attributes"]["label"].lower()) for element in asked]
    assert len(set(labels)) == len(labels)


def test_a_bug_report_asks_for_what_is_needed_to_repeat_it() -> None:
    [report] = (read(path) for path in FORMS if path.stem == "bug_report")
    needed = [each["id"] for each in report["body"] if each.get("validations", {}).get("required")]
    assert needed == ["program", "expected", "happened", "resumed", "versions"]


def test_the_chooser_is_set_up() -> None:
    assert read(FOLDER / "config.yml") == {"blank_issues_enabled": True}
