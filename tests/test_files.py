from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, field

from lucid_train.files import as_path, part_file, rotate, whole_file, writable_path, write_whole


def test_pieces_of_bytes_and_memory_are_written_one_after_another(tmp_path: Path) -> None:
    pieces = [b"ab", memoryview(b""), np.arange(2, dtype="<u2").view(np.uint8).data, np.empty(0, dtype=np.uint8).data]
    write_whole(tmp_path / "file", pieces)
    assert (tmp_path / "file").read_bytes() == b"ab\0\0\1\0"


def test_a_digest_follows_what_it_is_of(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(20 << 20)
    write_whole(tmp_path / "file", [content[:5], content[5:]], hashlib.sha256())
    assert (tmp_path / "file").read_bytes() == content + hashlib.sha256(content).digest()


def test_an_existing_file_is_replaced_and_what_a_killed_process_left_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old and longer")
    part_file(path).write_text("left by a killed process")
    write_whole(path, [b"new"])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"file": b"new"}


def test_who_reads_meanwhile_reads_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as file:
        write_whole(path, [b"new"])
        assert file.read() == b"old"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "file")
    write_whole(link, [b"new"])
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"new"


def test_a_partial_file_is_hidden_beside_the_whole_one() -> None:
    path = Path("runs/state.safetensors")
    assert part_file(path) == Path("runs/.state.safetensors.part")
    assert whole_file(part_file(path)) == path


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
def test_an_error_of_any_call_names_the_file_and_leaves_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError, match=f"cannot write the file, No space left on device: '{path}'") as caught:
            write_whole(path, [b"new"])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"file": b"old"}


@pytest.mark.parametrize("digest", [None, hashlib.sha256()], ids=["plain", "hashed"])
def test_an_error_in_forcing_the_folder_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: Any) -> None:
    real = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with pytest.raises(OSError, match=f"cannot force the folder to the disk, Input/output error: '{tmp_path}'"):
        write_whole(tmp_path / "file", [b"new"], digest)
    assert (tmp_path / "file").read_bytes().startswith(b"new")


@pytest.mark.parametrize("digest", [None, hashlib.sha256()], ids=["plain", "hashed"])
def test_all_that_was_written_is_on_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: Any
) -> None:
    calls: list[str] = []

    def noted(name: str, real: Any) -> Any:
        return lambda *arguments: (calls.append(name), real(*arguments))[1]

    for name in ("write", "fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    write_whole(tmp_path / "file", [b"a", b"b"], digest)
    hashed = [] if digest is None else ["write", "fsync"]
    assert calls == ["write", "write", "fsync", *hashed, "replace", "fsync"]  # the last one is the folder's


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def lowest_free() -> int:
        descriptor = os.open(os.devnull, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    before = lowest_free()
    write_whole(tmp_path / "file", [b"new"])
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'int'"):
        write_whole(tmp_path / "file", [3])  # type: ignore[list-item]  # refused
    assert lowest_free() == before


def test_rotating_finds_the_first_free_number(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    for number in range(3):
        path.write_text(str(number))
        assert rotate(path) == tmp_path / f"run.csv.{number + 1}"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "run.csv.1": "0",
        "run.csv.2": "1",
        "run.csv.3": "2",
    }


@define
class Settings:
    path: Path = field(converter=as_path, validator=writable_path)


@pytest.mark.parametrize("path", ["run.csv", Path("run.csv")])
def test_a_path_may_be_text(path: Any) -> None:
    assert Settings(path).path == Path("run.csv")


@pytest.mark.parametrize("path", [3, None, "", b"run.csv"])
def test_what_is_not_a_path_is_refused(path: Any) -> None:
    with pytest.raises(TypeError, match="'path' must be the path of a file: "):
        Settings(path)


@pytest.mark.parametrize("path", ["/", os.devnull])
def test_a_folder_or_a_device_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=f"'path' must be a file, not a folder or a device: '{path}'"):
        Settings(path)  # type: ignore[arg-type]  # converted
