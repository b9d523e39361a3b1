"""Every Python block and lucid-train command of the README is run, and prints the text that follows, but for times."""

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from lucid_train import callbacks
from lucid_train.cli.main import main
from lucid_train.optims import lr_scheduler

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", README.read_text("utf-8"), flags=re.DOTALL)

COMMANDS = re.findall(
    r"```sh\n((?:lucid-train [^\n]*\n)+)```(?:\n\n```text\n(.*?)```)?", README.read_text("utf-8"), flags=re.DOTALL
)


def timeless(text: str) -> str:
    return re.sub(r"[\d.,]+(?= steps/s)|\b[\d.]+(ms|s)\b", "*", text)


@pytest.mark.parametrize(("code", "output"), BLOCKS, ids=[f"block{number}" for number in range(1, len(BLOCKS) + 1)])
def test_a_block_of_the_readme_prints_what_it_says(code: str, output: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(code, str(README), "exec"), {"__name__": "__main__"})
    assert timeless(printed.getvalue()) == timeless(output)


@pytest.mark.parametrize(("commands", "output"), COMMANDS, ids=[commands.split()[1] for commands, _ in COMMANDS])
def test_a_command_of_the_readme_does_what_it_says(commands: str, output: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands.splitlines():
        assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    assert not output or timeless(printed) == timeless(output)


def test_every_path_that_the_readme_names_exists() -> None:
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text("utf-8"))
    assert linked
    assert [path for path in linked if not (README.parent / path).exists()] == []


def test_every_callback_and_every_schedule_is_named() -> None:
    text = README.read_text("utf-8")
    named = [*callbacks.__all__, *lr_scheduler.__all__]
    assert [name for name in named if f"`{name}" not in text] == []


def test_no_section_is_a_placeholder() -> None:
    assert re.findall(r"^[A-Z]+$", README.read_text("utf-8"), flags=re.MULTILINE) == []
