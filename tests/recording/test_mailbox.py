"""The folder through which a run gets commands: only this user's, whole, and for this process."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lucid_train.command import Command
from lucid_train.recording.mailbox import MOST_BYTES, Mailbox

WRITER = {"pid": 7, "host": "here", "namespace": None, "started": 9}
ENTRIES = {"name": "set", "key": "lr", "value": 0.5, "by": "me", "id": "1", "writer": WRITER}


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    log = tmp_path / "run.jsonl"
    log.touch()
    return Mailbox(log)


def left(mailbox: Mailbox, name: str, content: bytes, mode: int = 0o600) -> Path:
    """Leave a file in the folder by hand."""
    mailbox.folder.mkdir(mode=0o700, exist_ok=True)
    file = mailbox.folder / name
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_commands_are_taken_once_in_the_order_of_their_sending(mailbox: Mailbox) -> None:
    sent = [Command("set", "lr", 0.5, by="me", id="1"), Command("save", by="me", id="2"), Command("stop", id="3")]
    files = [mailbox.post(command, WRITER) for command in sent]
    assert [stat.S_IMODE(each.stat().st_mode) for each in (mailbox.folder, *files)] == [0o700, 0o600, 0o600, 0o600]
    assert all(file.stat().st_size <= MOST_BYTES for file in files)
    assert mailbox.take(WRITER) == sent
    assert mailbox.take(WRITER) == []
    assert list(mailbox.folder.iterdir()) == []
    mailbox.close()
    assert not mailbox.folder.exists()


def test_what_is_taken_back_is_not_taken(mailbox: Mailbox) -> None:
    first, second = (mailbox.post(Command(name), WRITER) for name in ("save", "stop"))
    assert Mailbox.withdraw(first)
    assert not Mailbox.withdraw(first)
    assert mailbox.take(WRITER) == [Command("stop")]
    assert not Mailbox.withdraw(second)
    mailbox.close()


def test_without_a_folder_there_is_nothing_to_take(mailbox: Mailbox) -> None:
    assert mailbox.take(WRITER) == []
    mailbox.close()


def test_a_folder_that_is_not_empty_stays(mailbox: Mailbox) -> None:
    file = mailbox.post(Command("save"), WRITER)
    mailbox.close()
    assert file.exists()


def test_a_command_to_a_process_that_is_gone_is_answered_stale(mailbox: Mailbox) -> None:
    mailbox.post(Command("stop", id="1"), {**WRITER, "pid": 8})
    [found] = mailbox.take(WRITER)
    assert (found.name, found.id) == ("stop", "1")
    assert found.refusal == "stale: it is addressed to a process that wrote this log before"
    assert list(mailbox.folder.iterdir()) == []


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is not JSON"),
    "no JSON": (b"save", "it is not JSON"),
    "a list": (b"[]", "it must have the entries of a command and no others"),
    "one more": (json.dumps({**ENTRIES, "more": 1}).encode(), "it must have the entries of a command and no others"),
    "one less": (json.dumps({"name": "save"}).encode(), "it must have the entries of a command and no others"),
    "twice": (b'{"name":"save","name":"stop"}', "a name occurs twice in one object"),
    "NaN": (json.dumps({**ENTRIES, "value": float("nan")}).encode(), "it is not JSON, which has no NaN"),
    "infinite": (json.dumps({**ENTRIES, "value": 0}).replace(": 0,", ": 1e999,").encode(), "'lr' must be set to a fin"),
    "a large int": (json.dumps({**ENTRIES, "value": 10**400}).encode(), "int too large to convert to float"),
    "a word": (
        json.dumps({**ENTRIES, "value": "much"}).encode(),
        "its entries must be strings, and the value a number",
    ),
    "a list for a name": (json.dumps({**ENTRIES, "name": []}).encode(), "its entries must be strings"),
    "unknown": (
        json.dumps({**ENTRIES, "name": "exec"}).encode(),
        "'name' must be one of 'save', 'stop', 'evaluate', 'set': 'exec'",
    ),
    "zero": (json.dumps({**ENTRIES, "value": 0}).encode(), "'lr' must be set to a number > 0"),
    "too deep": (b"[" * 40 + b"]" * 40, "it is nested too deep"),
    "beyond ASCII": (json.dumps({**ENTRIES, "by": "ä"}, ensure_ascii=False).encode(), "it is not JSON"),
    "too long": (json.dumps({**ENTRIES, "by": "x" * MOST_BYTES}).encode(), f"it must have at most {MOST_BYTES} bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_command_is_answered_and_removed(mailbox: Mailbox, name: str) -> None:
    content, why = BROKEN[name]
    left(mailbox, "broken.json", content)
    good = mailbox.post(Command("save", id="2"), WRITER)
    found = mailbox.take(WRITER)
    refused = [each for each in found if each.refusal is not None]
    assert [each.id for each in refused] == ["broken"]
    assert str(refused[0].refusal).startswith(f"not a command: {why}")
    assert [each.id for each in found if each.refusal is None] == ["2"]
    assert not good.exists()
    assert list(mailbox.folder.iterdir()) == []


def link(mailbox: Mailbox, at: Path) -> None:
    at.symlink_to(left(mailbox, "hidden", json.dumps(ENTRIES).encode()))


def second_name(mailbox: Mailbox, at: Path) -> None:
    at.hardlink_to(left(mailbox, "hidden", json.dumps(ENTRIES).encode()))


def open_to_others(mailbox: Mailbox, at: Path) -> None:
    left(mailbox, at.name, json.dumps(ENTRIES).encode(), mode=0o640)


def pipe(mailbox: Mailbox, at: Path) -> None:
    os.mkfifo(at, 0o600)


@pytest.mark.parametrize("make", [link, second_name, open_to_others, pipe])
def test_only_files_of_this_user_with_one_name_are_read(
    mailbox: Mailbox, make: Callable[[Mailbox, Path], None]
) -> None:
    mailbox.folder.mkdir(mode=0o700)
    make(mailbox, mailbox.folder / "odd.json")
    [found] = mailbox.take(WRITER)
    assert found.id == "odd"
    assert str(found.refusal).startswith("not a command: ")
    assert not (mailbox.folder / "odd.json").exists()


def test_a_folder_in_the_folder_is_left_alone(mailbox: Mailbox) -> None:
    mailbox.folder.mkdir(mode=0o700)
    (mailbox.folder / "odd.json").mkdir()
    held = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert [mailbox.take(WRITER) for _ in range(5)] == [[]] * 5
    assert not held or len(os.listdir("/proc/self/fd")) == held
    assert (mailbox.folder / "odd.json").is_dir()


def loose(mailbox: Mailbox) -> None:
    mailbox.folder.chmod(0o770)


def linked(mailbox: Mailbox) -> None:
    elsewhere = mailbox.folder.rename(mailbox.folder.with_name("elsewhere"))
    mailbox.folder.symlink_to(elsewhere)


@pytest.mark.parametrize("spoil", [loose, linked])
def test_a_folder_that_others_can_write_to_is_not_used(mailbox: Mailbox, spoil: Callable[[Mailbox], None]) -> None:
    mailbox.post(Command("save"), WRITER)
    spoil(mailbox)
    assert mailbox.take(WRITER) == []
    with pytest.raises(OSError, match=r"must be this user's, with mode 0700|Not a directory|symbolic"):
        mailbox.post(Command("save"), WRITER)


def test_a_folder_of_another_user_is_not_used(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox.post(Command("save"), WRITER)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert mailbox.take(WRITER) == []
    with pytest.raises(PermissionError, match="the log belongs to another user, who alone can control its run"):
        mailbox.post(Command("save"), WRITER)


def test_a_crowd_of_files_is_taken_bit_by_bit(mailbox: Mailbox) -> None:
    numbers = [*map(str, range(250))]
    for number in reversed(numbers):
        left(mailbox, f"{number:>03}.json", json.dumps({**ENTRIES, "id": number}).encode())
    found = [[each.id for each in mailbox.take(WRITER)] for _ in range(4)]
    assert found == [numbers[:100], numbers[100:200], numbers[200:], []]


def test_a_file_that_is_not_whole_yet_is_not_looked_at(mailbox: Mailbox) -> None:
    left(mailbox, ".1.json.part", b'{"name"')
    assert mailbox.take(WRITER) == []
    mailbox.close()
    assert not mailbox.folder.exists()


def entries_of(command: Command) -> Any:
    return {name: getattr(command, name) for name in ("name", "key", "value", "by", "id")}


def test_a_file_has_these_entries_and_no_others(mailbox: Mailbox) -> None:
    command = Command("set", "lr", 1e-4, by="me on here", id="a")
    assert json.loads(mailbox.post(command, WRITER).read_text("ascii")) == {**entries_of(command), "writer": WRITER}
