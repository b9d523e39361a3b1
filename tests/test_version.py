"""The version stands in one place, and the changelog has a section for it."""

import datetime
import re
import tomllib
from pathlib import Path

import pytest

import lucid_train
from lucid_train.cli.main import main
from tests.support.processes import loaded_by

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
# Of each section of the changelog, the newest first: its version or "Unreleased", and its date.
SECTIONS = re.findall(r"^## (.+?)(?: - (.+))?$", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)


def test_the_package_has_the_version_of_the_project() -> None:
    assert lucid_train.__version__ == VERSION
    assert "__version__" in dir(lucid_train)
    assert "__version__" not in lucid_train.__all__


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"lucid-train {VERSION}\n"


def test_no_other_file_has_it() -> None:
    sources = [ROOT / "docs/conf.py", *ROOT.glob("lucid_train/**/*.py"), *ROOT.glob("callbacks/**/*.py")]
    quoted = re.compile(rf"[\"']{re.escape(VERSION)}[\"']")
    assert [path.name for path in sources if quoted.search(path.read_text("utf-8"))] == []


def test_importing_the_package_does_not_look_for_it() -> None:
    assert "importlib.metadata" not in loaded_by("import lucid_train")
    assert "importlib.metadata" in loaded_by("import lucid_train; lucid_train.__version__")


def test_the_changelog_begins_with_it_and_has_a_date_for_each_version_before() -> None:
    versions = [version for version, _ in SECTIONS if version != "Unreleased"]
    assert versions[0] == VERSION
    assert [version for version, _ in SECTIONS[1:] if version == "Unreleased"] == []
    assert versions == sorted(versions, key=lambda version: tuple(map(int, version.split("."))), reverse=True)
    dates = [date for version, date in SECTIONS if version != "Unreleased"]
    # The newest has a date when it is released.
    days = [datetime.date.fromisoformat(date) for date in (dates[1:] if dates[0] == "Unreleased" else dates)]
    assert days == sorted(days, reverse=True)


def test_every_entry_of_the_changelog_stands_under_what_kind_it_is() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for section in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert re.match(r"\s*(### |$)", section), section[:200]
