"""An exception of a user's own state_dict or load_state_dict leaves as it is, with a note that says whose it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from attrs import define

from lucid_train import Callback, Trainer
from tests.support.optimizers import Bare

KINDS = [KeyError, TypeError, AttributeError, IndexError, OverflowError, ValueError, RuntimeError, KeyboardInterrupt]
NAMES = ["model", "optimizer", "extras['ema']", "Stateful", "data"]


class Owner:
    """Something with a state, whose methods raise what they are asked to."""

    def __init__(self, errors: dict[str, BaseException] | None = None) -> None:
        self.errors = errors or {}
        self.param_groups = [{"lr": 0.1}]

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])

    def state_dict(self) -> dict[str, Any]:
        self._raise("state_dict")
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._raise("load_state_dict")

    def _raise(self, method: str) -> None:
        if method in self.errors:
            raise self.errors[method]


@define(eq=False)
class Stateful(Callback):
    owner: Owner

    def settings(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return self.owner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.owner.load_state_dict(state)


def built(failing: str = "", **errors: BaseException) -> Trainer:
    owners = {name: Owner(errors if name == failing else None) for name in NAMES}
    return Trainer(
        lambda batch: 0.5,
        owners["data"],
        model=owners["model"],
        optimizer=owners["optimizer"],
        extras={"ema": owners["extras['ema']"]},
        callbacks=[Stateful(owners["Stateful"])],
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_one_in_state_dict(name: str, kind: type[BaseException]) -> None:
    error = kind("mine")
    with pytest.raises(kind) as caught:
        built(name, state_dict=error).state_dict()
    assert caught.value is error
    assert error.__notes__ == [f"raised by {name}.state_dict"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_one_in_load_state_dict(name: str, kind: type[BaseException]) -> None:
    error = kind("mine")
    trainer, state = built(name, load_state_dict=error), built().state_dict()

    def resume() -> None:
        trainer.load_state_dict(state)
        trainer.fit()  # where the data's own state is loaded

    with pytest.raises(kind) as caught:
        resume()
    assert caught.value is error
    where = f"raised by {name}.{'resume' if name == 'Stateful' else 'load_state_dict'}"
    cure = (
        "while a checkpoint was loaded; resume with what it was saved from, or start over with fit(restart=True) or in "
        "another directory"
    )
    # A model's own error may name shapes alone; an interruption needs no cure.
    with_cure = name == "model" and issubclass(kind, Exception)
    assert error.__notes__ == ([where, cure] if with_cure else [where])


def test_one_that_cannot_be_changed_leaves_without_a_note() -> None:
    class FrozenError(Exception):
        def add_note(self, note: str) -> None:
            raise AttributeError(note)

    error = FrozenError("mine")
    with pytest.raises(FrozenError) as caught:
        built("model", state_dict=error).state_dict()
    assert caught.value is error


@pytest.mark.parametrize(
    "state",
    [
        {"param_groups": ["x"]},
        {"param_groups": 0.5},
        {"param_groups": [{"lr": "x"}]},
        {"param_groups": [{"lr": -1.0}]},
        {"param_groups": [{"momentum": 0.5}]},
        {"param_groups": [{"lr": 0.5, "momentum": "x"}]},
        {"param_groups": [{"lr": 0.5, "name": {1, 2}}]},
        {"lr": [0.5]},
        [0.5],
    ],
)
def test_groups_that_are_none_are_refused_for_an_optimizer_that_has_nothing_else(state: Any) -> None:
    trainer = Trainer(optimizer=Bare(0.5, momentum=np.array(0.9), name="all"))
    with pytest.raises((ValueError, TypeError), match=r"^['\"]state\.optimizer"):
        trainer.load_state_dict({**trainer.state_dict(), "optimizer": state})


def test_an_optimizer_that_has_nothing_but_groups_must_have_as_many() -> None:
    trainer = Trainer(optimizer=Bare(0.5, 0.25))
    with pytest.raises(ValueError, match=r"'state.optimizer.param_groups' must have 2 groups, as the optimizer: \{"):
        trainer.load_state_dict({**trainer.state_dict(), "optimizer": {"param_groups": [{"lr": 0.5}]}})
