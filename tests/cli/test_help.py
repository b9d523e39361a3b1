"""`--help` of every command."""

import argparse
from collections.abc import Iterator

import pytest

from lucid_train.cli import control, demo, diff, export, preview, runs


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command by its name."""
    parser = argparse.ArgumentParser()
    found = parser.add_subparsers()
    demo.add_command(found)
    runs.add_commands(found)
    control.add_command(found)
    diff.add_command(found)
    export.add_command(found)
    preview.add_command(found)
    yield from found.choices.items()


COMMANDS = dict(commands())


def test_these_are_all_commands() -> None:
    assert set(COMMANDS) == {"demo", "watch", "show", "replay", "control", "diff", "export", "preview"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_means_and_its_default(name: str) -> None:
    command = COMMANDS[name]
    formatter = command._get_formatter()
    for action in command._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        said = formatter._expand_help(action)
        meaning, _, default = said.rpartition(" (")
        assert len(meaning if action.option_strings else said) > 8, said
        if action.option_strings:
            assert default == "required)" if action.required else default.startswith("default: "), said
            assert "None" not in said
    assert max(map(len, command.format_help().splitlines())) <= 80
