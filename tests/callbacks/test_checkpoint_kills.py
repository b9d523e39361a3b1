"""A process that is killed at any call to the file system leaves a directory from which the run goes on exactly."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lucid_train import Trainer, nn, read_checkpoint
from lucid_train.callbacks import Checkpoint
from lucid_train.saving.checkpoint import Directory
from lucid_train.testing import diff_states

LOSSES = [5.0, 3.0, 4.0, 2.0]
CALLS = ("open", "write", "ftruncate", "fsync", "close", "replace", "unlink", "symlink", "link", "mkdir")


def trainer(directory: Path, **settings: Any) -> Trainer:
    model = nn.Linear(2, 2, rng=0)

    def step(batch: int) -> float:
        model.load_state_dict({name: array * 0.5 + batch for name, array in model.state_dict().items()})
        return float(model.state_dict()["bias"][0])

    checkpoint = Checkpoint(directory, keep=1, monitor="val_loss", **settings)
    made = Trainer(step, [1, 2], epochs=len(LOSSES), model=model, callbacks=[checkpoint])
    made.evaluate = lambda: {"val_loss": LOSSES[len(made._progress.history)]}
    return made


class Kill:
    """Kills this process at one of the calls: before it is done, or after it; of a write half is done."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0
        for name in CALLS:
            setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count < self.at:
                return function(*arguments, **options)
            if name == "write" and not self.after:
                function(arguments[0], arguments[1][: len(arguments[1]) // 2])
            elif self.after:
                function(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        return call


def in_a_fork(work: Callable[[], None]) -> int:
    """Do some work in a child, and return 0, or the signal that has ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def begun(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Nothing has been trained yet."""
    return {"resume": "auto"}


def resumed(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Two epochs are done; a process was killed while it saved the third, after it had begun to add to the history."""
    trainer(directory, **settings).fit(2)
    with open(directory / "history-000001.jsonl", "ab") as history:
        history.write(b"[3,2,")
    return {"resume": "auto", "accept": "epochs"}


def resumed_from_an_older_one(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Three epochs are done, of which the second was the best; the run goes on from there."""
    trainer(directory, **settings).fit(3)
    (older,) = (file for file in Directory(directory).files() if "-epoch-2-" in file.name)
    return {"resume": older, "accept": "epochs"}


def started_over(directory: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Another run was here."""
    trainer(directory, **settings).fit(3)
    return {"restart": True}


SCENES = [begun, resumed, resumed_from_an_older_one, started_over]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_any_call_goes_on_to_the_same_end(
    tmp_path: Path, scene: Callable[[Path, dict[str, Any]], dict[str, Any]], background: bool, every: int
) -> None:
    settings = {"background": background}
    prepared = tmp_path / "prepared"
    how = scene(prepared, settings)
    straight = tmp_path / "straight"
    expected_history = trainer(straight, **settings).fit()
    expected = read_checkpoint(straight)

    def train(directory: Path, **arguments: Any) -> None:
        if isinstance(arguments.get("resume"), Path):
            arguments["resume"] = directory / arguments["resume"].name
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "nothing left to train")  # it was killed after its last checkpoint
            history = trainer(directory, **settings).fit(**arguments)
        assert [record.metrics for record in history] == [record.metrics for record in expected_history]

    at, after, done = 0, True, False
    while not done:
        at, after = at + every if every > 1 or after else at, not after
        directory = tmp_path / f"{at}-{after}"
        if prepared.exists():
            shutil.copytree(prepared, directory, symlinks=True)

        def killed(directory: Path = directory, at: int = at, after: bool = after) -> None:
            Kill(at, after=after)
            train(directory, **how)

        done = in_a_fork(killed) == 0
        before = Directory(directory).files() if directory.exists() else []
        for file in before:  # each is whole, with its history
            state = read_checkpoint(file)
            assert state["progress"]["history"]["epoch"] == list(range(1, state["progress"]["epoch"] + 1))
        if not done and how.get("restart") is not True:
            train(directory, resume="auto", accept="epochs")
        elif not done:
            train(directory, **how)
        found = read_checkpoint(directory)
        for state in (found, expected):  # the numbers of the files depend on where the process was killed
            state["callbacks"]["Checkpoint"].pop("best_file", None)
        # A process that is forked seeds Python's own generator.
        assert [name for name in diff_states(found, expected) if not name.startswith("random.")] == []
        assert read_checkpoint(directory, which="best")["progress"]["epoch"] == 4
        left = [name for name in os.listdir(directory) if not name.startswith("earlier-")]
        assert sorted(name[:4] for name in left) == ["best", "chec", "hist", "last"], left
        shutil.rmtree(directory)
    assert at > 60  # so many calls there were at least


def test_what_a_checkpoint_names_is_forced_to_the_disk_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        seen.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")

    def replace(source: Path, target: Path) -> None:
        real["replace"](source, target)
        seen.append(f"replace {Path(target).name}")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    trainer(tmp_path / "saved").fit(1)
    name = "checkpoint-000001-epoch-1-step-2.safetensors"
    assert seen == [
        "fsync history-000001.jsonl",
        "fsync saved",  # its name
        f"fsync .{name}.part",
        f"fsync .{name}.part",  # with its digest
        f"replace {name}",
        "fsync saved",
        "replace last.safetensors",
        "replace best.safetensors",
    ]
