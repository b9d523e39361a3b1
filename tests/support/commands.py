"""Commands to the set-ups of the tables: what is promised of them holds of each."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lucid_train import Command, CommandAnswered, StepEnd, Trainer
from lucid_train.saving.random_state import RandomState
from lucid_train.testing import assert_resumes_exactly, diff_states
from lucid_train.testing.resuming import _redirect
from tests.support.setups import SetUp


def assert_goes_on_with_its_rate(setup: SetUp) -> None:
    """Check that a run whose rate is set, or is not to be set, is resumed exactly."""
    answers: list[CommandAnswered] = []

    def build() -> Trainer:
        trainer = setup.build()
        trainer.on(StepEnd, at=1)(lambda event: event.run.command(Command("set", "lr", 0.0123)))
        trainer.on(CommandAnswered)(answers.append)
        return trainer

    assert_resumes_exactly(build, cuts=[2] if setup.cuts == "all" else setup.quick or setup.cuts)
    assert answers
    assert all(answer.done or answer.answer.startswith("'lr' must ") for answer in answers)


def assert_only_looks(setup: SetUp, folder: Path) -> None:
    """Check that an evaluation which is asked for changes nothing in the run but its history."""
    generators = RandomState()
    before = generators.read()

    def trained(name: str, at: int | None) -> tuple[dict[str, Any], list[CommandAnswered]]:
        generators.write(before)
        trainer = setup.build()
        _redirect(trainer, folder / name, Console(file=StringIO(), width=10_000))
        trainer.evaluate = trainer.evaluate or (lambda: float(np.random.random()))  # the global one
        answers: list[CommandAnswered] = []
        trainer.on(CommandAnswered)(answers.append)
        if at is not None:
            trainer.on(StepEnd, at=at)(lambda event: event.run.command(Command("evaluate")))
        trainer.fit()
        state = trainer.state_dict()
        del state["progress"]["history"]  # which has the evaluation
        return state, answers

    (state, answers), (alone, _) = trained("asked", 2), trained("alone", None)
    assert [answer.done for answer in answers] == [True], answers
    names = [name for name in diff_states(alone, state) if not name.endswith("best_file")]
    assert names == []
