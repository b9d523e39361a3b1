"""Runs in which find_lr is called on the way, and the same without it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from lucid_train import StepEnd, StepStart, Trainer, find_lr, read_checkpoint
from lucid_train.callbacks import Checkpoint, EventLog
from lucid_train.testing import diff_states
from lucid_train.testing.resuming import _digest, _events

Place = Literal["before the first fit", "between two fits", "in an open epoch"]
PLACES: tuple[Place, ...] = ("before the first fit", "between two fits", "in an open epoch")


def trained(build: Callable[[], Trainer], place: Place, folder: Path, search: Callable[[Trainer], object]) -> Any:
    """Train in a folder, call `search` at a place, and return all that was done: times are left out."""
    folder.mkdir()
    before = os.getcwd()
    os.chdir(folder)
    try:
        trainer = build()
        checkpoint, log = Checkpoint("all", weights=False), EventLog("log", step_every=1, heartbeat=None)
        trainer.callbacks = (*trainer.callbacks, checkpoint, log)
        seen: list[Any] = []
        trainer.on(StepStart)(lambda event: seen.append(_digest(event.batch)))
        trainer.on(StepEnd)(lambda event: seen.append((event.metrics, event.run.last_lr)))
        trainer.on(StepEnd, at=2)(lambda event: event.run.stop() if place == "in an open epoch" else None)
        if place == "between two fits":
            trainer.fit(1)
        elif place == "in an open epoch":
            trainer.fit()
        files, steps = sorted(Path().rglob("*")), len(seen)
        search(trainer)
        assert (sorted(Path().rglob("*")), len(seen)) == (files, steps)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*was measured in an earlier fit", UserWarning)
            trainer.fit()
        saved = read_checkpoint(checkpoint.directory)
        return [seen, timeless(trainer.state_dict()), timeless(saved), _events(Path("log"))]
    finally:
        os.chdir(before)


def timeless(state: Any) -> Any:
    """Return a state without what is measured in seconds."""
    if isinstance(state, dict):
        return {name: timeless(each) for name, each in state.items() if "seconds" not in str(name)}
    return [timeless(each) for each in state] if isinstance(state, (list, tuple)) else state


def assert_unnoticed(build: Callable[[], Trainer], place: Place, folder: Path, *, refused: str | None) -> None:
    """Check that training after find_lr, or after its refusal, is training without it, bit for bit."""

    def search(trainer: Trainer) -> None:
        if refused is None:
            assert len(find_lr(trainer, 1e-5, 0.1, 12).rates) > 1
        else:
            with pytest.raises(RuntimeError, match=refused):
                find_lr(trainer, 1e-5, 0.1, 12)

    straight = trained(build, place, folder / "straight", lambda trainer: None)
    searched = trained(build, place, folder / "searched", search)
    differing = diff_states(straight, searched)
    assert differing == [], differing[:5]
