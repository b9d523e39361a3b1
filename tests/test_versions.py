"""The page on versions, the classifiers and the bounds in pyproject.toml agree."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.pythons import LOWEST, OLDEST, PROJECT, trials

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "versions.md").read_text("utf-8")
BOUNDS = dict(
    dependency.split(",")[0].split(">=")
    for extra in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for dependency in extra
)


def rows(heading: str) -> list[list[str]]:
    """Return the cells of each row of the table below a heading."""
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    section, _, _ = section.partition("\n## ")
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)]
    return table[2:]


@pytest.mark.parametrize(("package", "least", "tested"), rows("For every change"))
def test_the_lowest_version_of_a_package_is_that_of_the_project(package: str, least: str, tested: str) -> None:
    assert least == BOUNDS.get(package.partition(",")[0], "")
    assert numbers(tested) >= numbers(least or "0")


def test_what_is_installed_with_the_library_is_in_the_table() -> None:
    assert LOWEST.keys() <= {package for package, _, _ in rows("For every change")}


def test_the_classifiers_are_the_pythons_that_were_tried() -> None:
    tried = sorted({python for python, *_ in rows("Before a release")}, key=numbers)
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert claimed == tried
    assert numbers(tried[0]) == OLDEST


def test_the_lowest_packages_are_tried_on_the_oldest_python() -> None:
    python, *versions = rows("Before a release")[0]
    assert numbers(python) == OLDEST
    assert [numbers(version) for version in versions] == [(*numbers(each), 0, 0)[:3] for each in LOWEST.values()]


def test_the_soak_tries_each_python_once_with_the_newest_and_the_oldest_also_with_the_lowest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONS", sys.executable)
    found = trials()
    newest = [trial.version[:2] for trial in found if not trial.lowest]
    assert newest == sorted(set(newest))
    assert Path(sys.executable) in {trial.python for trial in found}
    assert [trial.version[:2] for trial in found if trial.lowest] == [minor for minor in newest if minor == OLDEST]


def test_ci_installs_the_pytorch_and_the_python_of_the_page() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    [torch] = re.findall(r"torch==(\S+)", script)
    [timm] = re.findall(r"timm==(\S+)", script)
    assert {("torch", torch), ("timm", timm)} <= {(package, tested) for package, _, tested in rows("For every change")}
    assert f"PyTorch {torch} (the CPU build) on Python 3.11," in PAGE
    assert "command -v python3.11 ||" in script


def test_pre_commit_has_the_bounds_of_the_project() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    asked = dict(each.split(">=") for each in re.findall(r'"(\w+>=[\d.]+)"', text))
    assert asked == {name: BOUNDS[name] for name in asked}
    assert asked.keys() == {*LOWEST, "mypy", "ruff"}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
