"""The directory of a Checkpoint: who may write to it, what else may lie in it, and what is found in it."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, field

from lucid_train import (
    TRANSIENT,
    Callback,
    CheckpointError,
    EpochEnd,
    EpochRecord,
    EpochReport,
    EpochStart,
    FitEnd,
    History,
    Saved,
    StepEnd,
    Trainer,
    nn,
    read_checkpoint,
    replay,
)
from lucid_train.callbacks import Checkpoint, CSVLogger, EventLog
from lucid_train.saving.checkpoint import Directory
from lucid_train.saving.lock import Lock
from tests.support.waiting import until

LOSSES = [5.0, 3.0, 4.0, 2.0, 6.0, 7.0]


def trainer(*callbacks: Callback, epochs: int = 6, losses: list[float] = LOSSES) -> Trainer:
    """Train a model whose bias counts the steps, two in an epoch; the evaluation of each epoch is known beforehand."""
    model = nn.Linear(1, 1, rng=0)

    def step(batch: object) -> float:
        model.load_state_dict({name: array + 1 for name, array in model.state_dict().items()})
        return 0.5

    made = Trainer(step, range(2), epochs=epochs, model=model, callbacks=callbacks)
    made.evaluate = lambda: {"val_loss": losses[len(made._progress.history)]}
    return made


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def checkpoint_name(number: int, epoch: int) -> str:
    return f"checkpoint-{number:06d}-epoch-{epoch}-step-{2 * epoch}.safetensors"


def epochs_of(directory: Path) -> list[int]:
    return [record_epoch(file) for file in Directory(directory).files()]


def record_epoch(file: Path) -> int:
    epoch: int = read_checkpoint(file)["progress"]["epoch"]
    return epoch


def idle() -> bool:
    """Return whether no checkpoint is being written."""
    return not any(thread.name.startswith("lucid-train") for thread in threading.enumerate())


# ---- what is in it ------------------------------------------------------------------------------------------------


def test_the_directory_holds_the_checkpoints_two_stable_names_and_the_history(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path, keep=2, monitor="val_loss")).fit()
    assert names(tmp_path) == [
        "best.safetensors",
        checkpoint_name(4, 4),
        checkpoint_name(5, 5),
        checkpoint_name(6, 6),
        "history-000001.jsonl",
        "last.safetensors",
    ]
    assert os.readlink(tmp_path / "best.safetensors") == checkpoint_name(4, 4)
    assert os.readlink(tmp_path / "last.safetensors") == checkpoint_name(6, 6)


def test_the_last_and_the_best_checkpoint_are_read_by_the_directory(tmp_path: Path) -> None:
    history = trainer(Checkpoint(tmp_path, monitor="val_loss", every=None)).fit()
    last, best = read_checkpoint(tmp_path), read_checkpoint(tmp_path, which="best")
    assert (last["progress"]["epoch"], best["progress"]["epoch"]) == (6, 4)
    assert best["progress"]["history"]["metrics"]["val_loss"]["values"] == LOSSES[:4]
    assert last["progress"]["history"] == history.state_dict()
    assert read_checkpoint(tmp_path / "best.safetensors")["model"] == best["model"]
    assert np.array_equal(last["model"]["bias"] - 4, best["model"]["bias"])  # two epochs of two steps


def test_what_is_not_in_a_directory_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"there is no last checkpoint in '{tmp_path}'$"):
        read_checkpoint(tmp_path)
    trainer(Checkpoint(tmp_path)).fit()
    with pytest.raises(FileNotFoundError, match=r"there is no best checkpoint in .*; Checkpoint\(monitor=...\) keeps"):
        read_checkpoint(tmp_path, which="best")
    with pytest.raises(ValueError, match="'which' must be one of 'last', 'best': 'newest'"):
        read_checkpoint(tmp_path, which="newest")  # type: ignore[arg-type]  # that it is refused is the claim


def test_where_there_are_no_links_the_stable_names_are_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    checkpoint = Checkpoint(tmp_path, monitor="val_loss")
    trainer(checkpoint).fit()
    assert checkpoint.best_file is not None
    for name, file in (("best", checkpoint.best_file), ("last", checkpoint.last_file)):
        assert not (tmp_path / f"{name}.safetensors").is_symlink()
        assert (tmp_path / f"{name}.safetensors").read_bytes() == Path(str(file)).read_bytes()


def test_the_stable_names_lead_to_a_whole_checkpoint_at_every_moment(tmp_path: Path) -> None:
    training = trainer(Checkpoint(tmp_path, keep=1, monitor="val_loss", every=1, interval="step"))
    seen: list[tuple[int, int]] = []

    @training.on(StepEnd)
    def look(event: StepEnd) -> None:
        if event.step > 2:
            last, best = (record_epoch(tmp_path / f"{name}.safetensors") for name in ("last", "best"))
            seen.append((last, best))

    training.fit()
    assert seen == [(1, 1), (2, 1), (2, 2), (3, 2), (3, 2), (4, 2), (4, 4), (5, 4), (5, 4), (6, 4)]


def test_without_a_best_one_no_name_leads_to_one(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path, keep=1, monitor="val_loss"), epochs=5).fit()
    assert (tmp_path / "best.safetensors").exists()
    shutil.copytree(tmp_path, tmp_path / "other", symlinks=True)
    other = Checkpoint(tmp_path / "other", keep=1, weights=False)
    resumed = Trainer(lambda batch: 0.5, range(2), epochs=6, callbacks=[other])
    resumed.fit(resume="auto", accept="all")
    assert [name for name in names(tmp_path / "other") if "safetensors" in name] == [
        "best.safetensors",
        checkpoint_name(4, 4),
        checkpoint_name(6, 6),
        "last.safetensors",
    ]
    trainer(Checkpoint(tmp_path, keep=1), epochs=3).fit(restart=True)
    assert [name for name in names(tmp_path) if "safetensors" in name] == [checkpoint_name(3, 3), "last.safetensors"]


# ---- one process at a time ----------------------------------------------------------------------------------------

# Trains until it is killed; with an argument more, data comes from a worker process that outlives it.
LIVING = """
import os, sys, time
from lucid_train import StepStart, Trainer
from lucid_train.callbacks import Checkpoint
saving = Checkpoint(sys.argv[1], signals=(), weights=False)
trainer = Trainer(lambda batch: 0.5, range(2), epochs=99, callbacks=[saving])
@trainer.on(StepStart, at=4)
def wait(event):
    child = os.fork() if sys.argv[2:] else 0
    if child == 0:
        print(os.getpid(), flush=True)
    time.sleep(600)
    os._exit(0)
trainer.fit()
"""


def living(directory: Path, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", LIVING, directory, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("how", [{}, {"resume": "auto"}, {"restart": True}])
def test_a_second_process_is_refused_by_name_and_touches_nothing(tmp_path: Path, how: dict[str, Any]) -> None:
    process, _ = living(tmp_path)
    try:
        # A save that is going on, a history nobody names yet.
        (tmp_path / f".{checkpoint_name(2, 2)}.part").write_bytes(b"half")
        (tmp_path / "history-000009.jsonl").write_bytes(b"half")
        before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
        message = rf"^'{tmp_path}' is in use by process {process.pid} on .+ since .+: two runs must not share it"
        with pytest.raises(RuntimeError, match=message):
            Trainer(epochs=99, callbacks=[Checkpoint(tmp_path, failure="warn")]).fit(accept="steps_per_epoch", **how)
        assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    finally:
        kill(process)


def test_a_killed_run_can_be_resumed_though_a_worker_of_it_goes_on(tmp_path: Path) -> None:
    process, worker = living(tmp_path, "fork")
    try:
        kill(process)
        os.kill(worker, 0)  # it is still there
        resumed = Trainer(lambda batch: 0.5, range(2), epochs=2, callbacks=[Checkpoint(tmp_path, weights=False)])
        assert len(resumed.fit(2, resume="auto")) == 2
    finally:
        os.kill(worker, signal.SIGKILL)


def test_the_directory_is_free_after_every_fit_also_one_that_fails(tmp_path: Path) -> None:
    failing = trainer(Checkpoint(tmp_path))
    failing.on(EpochStart, at=2)(lambda event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.fit()
    assert ".checkpoint.lock" not in names(tmp_path)
    with pytest.raises(FileExistsError, match="must hold no checkpoints of another run"):
        trainer(Checkpoint(tmp_path)).fit()
    assert ".checkpoint.lock" not in names(tmp_path)
    late = Checkpoint(tmp_path)
    asking = trainer(late)
    asking.on(FitEnd)(lambda event: late.save())
    asking.fit(resume="auto")
    assert ".checkpoint.lock" not in names(tmp_path)
    assert epochs_of(tmp_path)[-2:] == [6, 6]


def test_a_run_within_a_step_of_another_is_refused(tmp_path: Path) -> None:
    outer = trainer(Checkpoint(tmp_path), epochs=1)
    outer.on(StepEnd, at=1)(lambda event: trainer(Checkpoint(tmp_path)).fit(restart=True))
    with pytest.raises(RuntimeError, match=f"is in use by process {os.getpid()} on"):
        outer.fit()


def test_a_forked_child_that_goes_on_training_does_not_save(tmp_path: Path) -> None:
    training, children = trainer(Checkpoint(tmp_path, keep=None), epochs=2), []
    training.on(StepEnd, at=1)(lambda event: children.append(os.fork()))
    code = 1
    try:
        training.fit()
    except RuntimeError as error:
        code = 0 if f"is in use by process {os.getppid()}" in str(error) else 2
    finally:
        if children == [0]:
            os._exit(code)
    assert os.waitpid(children[0], 0)[1] == 0
    assert epochs_of(tmp_path) == [1, 2]


# ---- what else may lie in it --------------------------------------------------------------------------------------

MAKERS = {
    "a file": lambda path: path.write_text("mine"),
    "a folder": lambda path: (path.mkdir(), (path / "mine").write_text("mine")),
    "a pipe": os.mkfifo,
    "a socket": lambda path: os.mknod(path, 0o140644),
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a link to a folder": lambda path: path.symlink_to(".."),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}
FOREIGN = [
    checkpoint_name(1, 1),
    checkpoint_name(2, 2),
    checkpoint_name(999_999_999_999_999, 1),
    f".{checkpoint_name(1, 1)}.part",
    f".{checkpoint_name(3, 3)}.part",
    "history-000001.jsonl",
    "history-000002.jsonl",
    "last.safetensors",
    "best.safetensors",
]


def kind(path: Path) -> Any:
    mode = os.lstat(path).st_mode
    return mode, os.readlink(path) if path.is_symlink() else names(path) if path.is_dir() else None


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("maker", [maker for maker in MAKERS if maker != "a file"])
def test_what_has_a_name_of_ours_and_is_no_file_harms_nobody_and_is_left_alone(
    tmp_path: Path, name: str, maker: str
) -> None:
    MAKERS[maker](tmp_path / name)
    before = kind(tmp_path / name)
    first = trainer(Checkpoint(tmp_path, keep=1, monitor="val_loss"), epochs=3)
    first.fit(resume="auto")
    history = trainer(Checkpoint(tmp_path, keep=1, monitor="val_loss")).fit(resume="auto", accept="epochs")
    assert [record.epoch for record in history] == [1, 2, 3, 4, 5, 6]
    assert read_checkpoint(tmp_path)["progress"]["history"] == history.state_dict()
    replaced = "link" in maker and name in ("last.safetensors", "best.safetensors")  # links are what they are
    assert kind(tmp_path / name) == before or replaced
    trainer(Checkpoint(tmp_path, monitor="val_loss"), epochs=2).fit(restart=True)
    assert epochs_of(tmp_path) == [1, 2]
    assert kind(tmp_path / name) == before or replaced


def test_a_file_with_the_name_of_a_checkpoint_is_skipped_and_named(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path, keep=1), epochs=3).fit()
    foreign = tmp_path / checkpoint_name(999_999_999_999_999, 1)
    foreign.write_text("mine")
    resumed = trainer(Checkpoint(tmp_path, keep=1))
    with pytest.warns(UserWarning, match=f"{foreign.name} is not a usable checkpoint: .*; resuming from .*000003"):
        history = resumed.fit(resume="auto", accept="epochs")
    assert len(history) == 6
    assert len(read_checkpoint(tmp_path)["progress"]["history"]["epoch"]) == 6


def test_a_directory_that_is_removed_in_mid_run_is_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    checkpoint = Checkpoint(directory, monitor="val_loss", mode="max")
    training = trainer(checkpoint)
    training.on(EpochStart, at=[3, 5])(lambda event: shutil.rmtree(directory))
    history = training.fit()
    assert epochs_of(directory) == [5, 6]
    assert read_checkpoint(directory)["progress"]["history"] == history.state_dict()
    assert checkpoint.best_file == directory / checkpoint_name(2, 6)
    assert read_checkpoint(directory, which="best")["progress"]["epoch"] == 6


def test_a_directory_that_is_removed_while_a_checkpoint_is_being_written_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, real, removed = tmp_path / "run", os.replace, list[Path]()

    def replace(source: Path, target: Path) -> None:
        if "epoch-2" in Path(target).name and not removed:
            removed.append(directory)
            shutil.rmtree(directory)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    checkpoint = Checkpoint(directory, every=None, monitor="val_loss")
    history = trainer(checkpoint, epochs=3).fit()
    assert removed
    assert (checkpoint.best, checkpoint.best_epoch, epochs_of(directory)) == (3.0, 2, [2, 3])
    assert read_checkpoint(directory)["progress"]["history"] == history.state_dict()


@pytest.mark.parametrize("failure", ["raise", "warn"])
def test_a_directory_that_another_run_holds_by_now_is_not_written_to(tmp_path: Path, failure: Any) -> None:
    directory = tmp_path / "run"
    training, lock = trainer(Checkpoint(directory, failure=failure), epochs=3), Lock(directory / ".checkpoint.lock")

    @training.on(EpochStart, at=2)
    def take(event: EpochStart) -> None:
        shutil.rmtree(directory)
        directory.mkdir()
        lock.acquire()

    try:
        if failure == "raise":
            with pytest.raises(RuntimeError, match=f"^'{directory}' is in use by process"):
                training.fit()
        else:
            with pytest.warns(
                UserWarning, match=f"RuntimeError: '{directory}' is in use by process .*; training goes on"
            ):
                training.fit()
        assert names(directory) == [".checkpoint.lock"]
        assert not lock.acquire()
    finally:
        lock.release()


def test_a_directory_that_another_run_has_taken_in_the_meantime_is_not_written_to(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    training = trainer(Checkpoint(directory))
    other = trainer(Checkpoint(directory), epochs=5)

    @training.on(EpochStart, at=2)
    def take(event: EpochStart) -> None:
        shutil.rmtree(directory)
        other.fit()

    history = training.fit()
    assert len(history) == 6  # the other run is over; the checkpoints of both are whole
    for file in Directory(directory).files():
        state = read_checkpoint(file)
        assert state["progress"]["history"]["epoch"] == list(range(1, state["progress"]["epoch"] + 1))


# ---- starting over ------------------------------------------------------------------------------------------------


def test_a_restart_moves_the_files_of_the_run_before_aside(tmp_path: Path) -> None:
    again = trainer(Checkpoint(tmp_path, keep=2, monitor="val_loss"), epochs=3)
    old = again.fit()
    (tmp_path / "notes.txt").write_text("mine")
    before = names(tmp_path)
    new = again.fit(restart=True)
    assert names(tmp_path / "earlier-1") == [name for name in before if name != "notes.txt"]
    assert names(tmp_path) == sorted([*before, "earlier-1"])
    assert epochs_of(tmp_path) == [2, 3]
    assert read_checkpoint(tmp_path)["progress"]["history"] == new.state_dict()
    assert read_checkpoint(tmp_path / "earlier-1")["progress"]["history"] == old.state_dict()
    again.fit(restart=True)
    assert epochs_of(tmp_path / "earlier-2") == [2, 3]
    resumed = trainer(Checkpoint(tmp_path / "elsewhere"))
    assert resumed.fit(6, resume=tmp_path / "earlier-1")[:3] == list(old)


def test_until_the_new_run_has_a_checkpoint_the_old_one_can_be_resumed(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path), epochs=2).fit()
    failing = trainer(Checkpoint(tmp_path))
    failing.on(StepEnd, at=1)(lambda event: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.fit(restart=True)
    assert epochs_of(tmp_path) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        failing.fit(restart=True)
    failing.fit()  # goes on with the run that was started over
    assert (epochs_of(tmp_path), epochs_of(tmp_path / "earlier-1")) == ([4, 5, 6], [1, 2])


# ---- saves that fail ----------------------------------------------------------------------------------------------


@define(eq=False)
class Changing(Callback):
    """Its state cannot be saved while the run is in some epochs."""

    epochs: tuple[int, ...]
    error: Exception | None = None
    _now: bool = field(default=False, init=False, repr=False, metadata=TRANSIENT)

    def settings(self) -> dict[str, Any]:
        return {}

    def on_epoch_end(self, event: EpochEnd) -> None:
        self._now = event.epoch in self.epochs

    def state_dict(self) -> dict[str, Any]:
        if self._now and self.error is not None:
            raise self.error
        return {"what": range(2)} if self._now else {"what": None}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, r"TypeError: 'callbacks.Changing.what' cannot be saved.*: range"),
        (MemoryError(), "MemoryError"),
        (ArithmeticError("no state"), "ArithmeticError: no state"),
    ],
)
def test_a_state_that_cannot_be_taken_in_mid_run_is_a_failed_save(
    tmp_path: Path, background: bool, error: Exception | None, message: str
) -> None:
    run = trainer(Checkpoint(tmp_path, failure="warn", background=background), Changing((2, 3), error), epochs=5)
    run.on(EpochEnd)(lambda event: until(idle))  # so that none is left out
    message += f"; training goes on, the newest checkpoint is .*{checkpoint_name(1, 1)}"
    with pytest.warns(UserWarning, match=f"^{message}") as warned:
        history = run.fit()
    assert len(warned) == 2
    assert epochs_of(tmp_path) == [1, 4, 5]
    assert read_checkpoint(tmp_path)["progress"]["history"] == history.state_dict()
    strict = trainer(Checkpoint(tmp_path / "raise", background=background), Changing((2,), error))
    strict.on(EpochEnd)(lambda event: until(idle))
    with pytest.raises(type(error) if error else TypeError):
        strict.fit()


def test_a_thread_that_cannot_be_started_is_a_failed_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.warns(UserWarning, match="RuntimeError: can't start new thread; training goes on, there is no checkp"):
        trainer(Checkpoint(tmp_path, failure="warn", background=True), epochs=2).fit()


def test_a_directory_that_cannot_be_written_is_a_failed_save(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    run = trainer(Checkpoint(directory, failure="warn"), epochs=4)

    @run.on(EpochStart)
    def block(event: EpochStart) -> None:  # a file where the directory was, as root may write to any directory
        if event.epoch == 2:
            directory.rename(tmp_path / "away")
            directory.write_text("a file")
        elif event.epoch == 4:
            directory.unlink()

    with pytest.warns(UserWarning, match="FileExistsError.*; training goes on, there is no checkpoint yet") as warned:
        history = run.fit()
    assert len(warned) == 2
    assert epochs_of(directory) == [4]
    assert read_checkpoint(directory)["progress"]["history"] == history.state_dict()


@pytest.mark.parametrize("background", [False, True])
def test_a_best_epoch_is_saved_although_a_better_one_could_not_be(
    tmp_path: Path, background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path, every=None, monitor="val_loss", failure="warn", background=background)
    run = trainer(checkpoint, epochs=4, losses=[5.0, 1.0, 3.0, 4.0])
    evaluated, real = threading.Event(), os.fsync

    def fail_once(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        if background:
            assert evaluated.wait(30)  # the third epoch has been evaluated while this was being written
        raise OSError("disk full")

    @run.on(EpochEnd, at=2)
    def arm(event: EpochEnd) -> None:
        until(idle)
        monkeypatch.setattr(os, "fsync", fail_once)

    run.on(EpochReport, at=3)(lambda event: evaluated.set())
    with pytest.warns(UserWarning, match="disk full; training goes on"):
        run.fit()
    assert (checkpoint.best, checkpoint.best_epoch) == (3.0, 3)
    best = read_checkpoint(tmp_path, which="best")
    assert best["progress"]["epoch"] == 3
    assert best["callbacks"]["Checkpoint"]["best"] == 3.0


# Saves in a thread that goes on after the main one has ended.
THREAD = """
import sys, threading
from lucid_train import Trainer, nn
from lucid_train.callbacks import Checkpoint, EventLog
main = threading.main_thread()

def train():
    main.join()
    callbacks = [Checkpoint(sys.argv[1] + "/saved", background=sys.argv[2] == "True"), EventLog(sys.argv[1] + "/log")]
    Trainer(lambda batch: 0.5, [1], epochs=3, model=nn.Linear(1, 1, rng=0), callbacks=callbacks).fit()

threading.Thread(target=train).start()
"""


@pytest.mark.late_threads
@pytest.mark.parametrize("background", [False, True])
def test_a_run_is_saved_in_a_thread_that_outlives_the_main_one(tmp_path: Path, background: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREAD, tmp_path, str(background)], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert read_checkpoint(tmp_path / "saved")["progress"]["epoch"] == 3


# ---- the history --------------------------------------------------------------------------------------------------


def test_a_lone_checkpoint_is_resumed_without_its_history_if_that_is_accepted(tmp_path: Path) -> None:
    straight = trainer(Checkpoint(tmp_path / "saved"), epochs=3)
    whole = straight.fit()
    (tmp_path / "alone").mkdir()
    file = shutil.copy(Directory(tmp_path / "saved").files()[-1], tmp_path / "alone")
    resumed = trainer(Checkpoint(tmp_path / "alone"))
    message = r"history is not beside the checkpoint, in 'history-000001.jsonl'; .*accept=\['history'\]"
    with pytest.raises(ValueError, match=message):
        resumed.fit(resume=file)
    with pytest.raises(ValueError, match="history is not beside the checkpoint"):
        resumed.fit(6, resume=file, accept="all")
    history = resumed.fit(6, resume=file, accept="history")
    assert history[:3] == [EpochRecord(epoch=epoch) for epoch in (1, 2, 3)]
    assert [record.metrics["val_loss"] for record in history[3:]] == LOSSES[3:]
    assert (len(whole), [record.epoch for record in history]) == (3, [1, 2, 3, 4, 5, 6])
    assert np.array_equal(read_checkpoint(tmp_path / "alone")["model"]["bias"], straight.model.state_dict()["bias"] + 6)
    again = trainer(Checkpoint(tmp_path / "alone"), epochs=7, losses=[*LOSSES, 1.0])
    assert again.fit(resume="auto", accept="epochs")[:6] == list(history)


def test_a_history_that_was_damaged_is_named_with_the_cure(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path), epochs=2).fit()
    segment = tmp_path / "history-000001.jsonl"
    segment.write_bytes(b"x" + segment.read_bytes()[1:])
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole: .*epoch-2.*or was changed; move it away"):
        trainer(Checkpoint(tmp_path)).fit(resume="auto", accept="epochs")
    segment.rename(tmp_path / "away")
    assert len(trainer(Checkpoint(tmp_path)).fit(6, resume="auto", accept="history")) == 6


def copied_step(batch: object) -> float:
    return 0.5


def test_a_trainer_that_was_resumed_can_be_copied_and_goes_on(tmp_path: Path) -> None:
    def made() -> Trainer:
        return Trainer(copied_step, [1], callbacks=[Checkpoint(tmp_path, weights=False)])

    made().fit(1)
    resumed = made()
    resumed.fit(2, resume="auto")
    for copied in (copy.deepcopy(resumed), pickle.loads(pickle.dumps(resumed))):
        goal = epochs_of(tmp_path)[-1] + 2
        copied.fit(goal - 1, resume="auto")
        copied.fit(goal)
        assert read_checkpoint(tmp_path)["progress"]["history"]["epoch"] == list(range(1, goal + 1))


def test_a_run_goes_on_in_the_history_of_the_checkpoint_that_it_was_resumed_from(tmp_path: Path) -> None:
    for epochs in (1, 2, 3):
        trainer(Checkpoint(tmp_path), epochs=epochs).fit(resume="auto", accept="epochs")
    assert [name for name in names(tmp_path) if "history" in name] == ["history-000001.jsonl"]
    assert (tmp_path / "history-000001.jsonl").read_text().count("\n[") == 3


def test_a_run_that_is_resumed_from_an_older_checkpoint_leaves_the_newer_ones_their_history(tmp_path: Path) -> None:
    first = trainer(Checkpoint(tmp_path, keep=None), epochs=4).fit()
    older = Directory(tmp_path).files()[1]
    second = trainer(Checkpoint(tmp_path, keep=None), losses=[9.0] * 6).fit(6, resume=older)
    histories = [read_checkpoint(file)["progress"]["history"] for file in Directory(tmp_path).files()]
    losses = [history["metrics"]["val_loss"]["values"] for history in histories]
    assert losses == [LOSSES[:1], LOSSES[:2], LOSSES[:3], LOSSES[:4]] + [LOSSES[:2] + [9.0] * n for n in (1, 2, 3, 4)]
    assert (first[:2], len(second)) == (second[:2], 6)
    assert [name for name in names(tmp_path) if "history" in name] == ["history-000001.jsonl", "history-000005.jsonl"]


def test_a_history_goes_with_the_last_checkpoint_that_names_it(tmp_path: Path) -> None:
    trainer(Checkpoint(tmp_path, keep=2), epochs=2).fit()
    older = Directory(tmp_path).files()[0]
    resumed = trainer(Checkpoint(tmp_path, keep=2), epochs=4)
    seen: list[list[str]] = []
    resumed.on(Saved)(lambda event: seen.append([name[8:14] for name in names(tmp_path) if "history" in name]))
    resumed.fit(resume=older, accept="epochs")
    assert seen == [["000001", "000003"], ["000003"], ["000003"]]


def test_a_save_and_a_resume_cost_the_same_after_many_epochs(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, keep=1)
    run = trainer(checkpoint, epochs=400, losses=[0.5] * 400)
    sizes: list[tuple[int, int]] = []

    @run.on(Saved)
    def note(event: Saved) -> None:
        sizes.append((event.file.stat().st_size, (tmp_path / "history-000001.jsonl").stat().st_size))

    calls = []
    real = History.state_dict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "state_dict", lambda history: (calls.append(len(history)), real(history))[1])
        run.fit()
    assert set(calls) == {0}  # the epochs behind a save are not looked at
    files, histories = zip(*sizes, strict=True)
    assert max(files) - min(files) <= 64  # the digits of the numbers in it
    growth = np.diff(histories)
    assert max(growth) < 60


# ---- other files of a run -----------------------------------------------------------------------------------------


def test_a_log_that_is_removed_in_mid_run_begins_again_with_the_history_so_far(tmp_path: Path) -> None:
    log = tmp_path / "folder" / "run.jsonl"
    run = trainer(EventLog(log, heartbeat=0.01), epochs=4)
    run.on(EpochStart, at=3)(lambda event: shutil.rmtree(log.parent))
    with pytest.warns(UserWarning, match=f"'{log}' was removed while the run was writing it; a new log begins"):
        history = run.fit()
    assert replay(log) == history
    assert replay(log).status == "completed"


def test_a_table_that_is_removed_in_mid_run_is_written_again(tmp_path: Path) -> None:
    table = tmp_path / "folder" / "run.csv"
    run = trainer(CSVLogger(table), epochs=4)
    run.on(EpochStart, at=3)(lambda event: shutil.rmtree(table.parent))
    history = run.fit()
    history.to_csv(tmp_path / "expected.csv")
    assert table.read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_a_table_that_a_refused_run_has_touched_is_whole_again(tmp_path: Path) -> None:
    table = tmp_path / "run.csv"
    run = trainer(CSVLogger(table), Checkpoint(tmp_path / "saved"), epochs=4)

    @run.on(StepEnd, at=[5, 7])
    def refused(event: StepEnd) -> None:
        other = trainer(CSVLogger(table), Checkpoint(tmp_path / "saved"), epochs=4)
        with pytest.raises(RuntimeError, match="is in use by"):
            other.fit(resume="auto" if event.step == 7 else None)

    history = run.fit()
    history.to_csv(tmp_path / "expected.csv")
    assert table.read_bytes() == (tmp_path / "expected.csv").read_bytes()
