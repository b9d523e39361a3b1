"""The README's programs print what follows them, but for times; its facts and links are those of today."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lucid_train import callbacks
from lucid_train.optims import lr_scheduler
from tests.support.readme import PROGRAMS, README, TEXT, Program, timeless
from tests.training.test_failures_everywhere import EVENTS, OTHERS, SCHEDULES

ROOT = README.parent


@pytest.mark.parametrize("program", [program for program in PROGRAMS if not program.needs_torch], ids=range(2, 4))
def test_a_program_of_the_readme_prints_what_it_says(program: Program, tmp_path: Path) -> None:
    assert timeless(program.run(tmp_path)) == timeless(program.output)


def test_every_program_is_one_of_those_that_are_run() -> None:
    assert TEXT.count("```python") == len(PROGRAMS) == 3


def test_the_two_commands_come_first_and_are_all() -> None:
    install = "python3 -m venv .venv && .venv/bin/pip install"
    first = re.findall(r"```sh\n(.*?)\n```", TEXT, flags=re.DOTALL)
    assert first == [
        f"{install} . && .venv/bin/lucid-train demo",
        f"{install} '.[test]' && .venv/bin/python -m pytest -n auto",
    ]
    assert TEXT.index(first[1]) < TEXT.index("\n## ")


def heading_anchors(page: Path) -> list[str]:
    """Return the anchors of a page's headings, as GitHub and MyST name them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_link_leads_to_a_file_and_a_heading_that_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)(?:#([^)]+))?\)", TEXT)
    assert len(links) > 30
    assert [path for path, _ in links if not (ROOT / path).exists()] == []
    assert [(path, anchor) for path, anchor in links if anchor and anchor not in heading_anchors(ROOT / path)] == []


def test_every_callback_and_every_scheduler_is_named() -> None:
    named = [*callbacks.__all__, *lr_scheduler.__all__]
    assert [name for name in named if f"`{name}`" not in TEXT] == []


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= 163
    assert max(len(re.findall(r"^\|", table, flags=re.MULTILINE)) for table in TEXT.split("\n\n")) <= 8 + 2


def test_as_many_exceptions_are_raised_as_it_says() -> None:
    said = f"{len(SCHEDULES) + len(OTHERS)} callbacks at {len(EVENTS)} events"
    assert said in " ".join(TEXT.split())


def test_a_pipe_gets_as_many_lines_as_it_says() -> None:
    command = [sys.executable, str(ROOT / "tests/benchmarks/peers.py"), "--show", "lucid_train"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    lines = printed.splitlines()
    assert "".join(lines).isprintable()
    assert f"3 epochs of 50 steps are {len(lines)} lines without a control character" in " ".join(TEXT.split())
