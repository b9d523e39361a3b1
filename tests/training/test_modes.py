"""Training modes of models from elsewhere, and what the plan says of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field

from lucid_train import Trainer, nn


@define(eq=False)
class Node:
    """A network in the manner of Lucid and PyTorch, of which only this is known: its modules and their modes."""

    parts: list[Any] = field(factory=list)
    training: Any = True

    def modules(self) -> Iterator[Any]:
        yield self
        for part in self.parts:
            yield from part.modules()

    def train(self, mode: bool = True) -> None:
        self.training = mode
        for part in self.parts:
            part.train(mode)

    def eval(self) -> None:
        self.train(False)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None: ...


def planned(model: Any, **settings: Any) -> list[str]:
    lines = str(Trainer(model=model, evaluate=lambda: 0.5, **settings).plan()).splitlines()
    return [line for line in lines if line.startswith("evaluation: ")]


def test_the_plan_says_in_which_mode_a_model_is_evaluated() -> None:
    assert planned(Node()) == ["evaluation: after model.eval(); training modes are put back"]
    assert planned(Node([Node()]), extras={"critic": Node()}) == [
        "evaluation: after model.eval(), extras.critic.eval(); training modes are put back"
    ]
    assert planned(Node(), eval_mode=False) == [
        "evaluation: without eval(), as eval_mode is False; training modes are put back"
    ]
    assert planned(Node([Node(training=None)])) == [
        "evaluation: without eval(), as not every module has a training mode; training modes are put back"
    ]
    assert planned(nn.Linear(2, 1)) == ["evaluation: without eval(), as the model has no training modes"]
    assert planned(None) == ["evaluation: without eval(), as no model is given"]
    assert "evaluation" not in str(Trainer(model=Node()).plan())


def test_a_model_not_all_of_whose_modules_have_a_mode_is_left_alone_and_put_back() -> None:
    model = Node([Node(training=1), Node()])
    seen: list[Any] = []

    def evaluate() -> float:
        seen.extend(module.training for module in model.modules())
        model.parts[1].eval()
        return 0.5

    Trainer(model=model, evaluate=evaluate).fit()
    assert (seen, [module.training for module in model.modules()]) == ([True, 1, True], [True, 1, True])


def test_modes_without_a_method_to_set_them_are_put_back() -> None:
    class Plain:
        training = True

    part = Plain()

    class Holder(Node):
        def modules(self) -> Iterator[Any]:
            yield from (self, part)

        def train(self, mode: bool = True) -> None:
            self.training = part.training = mode

    model = Holder(training=False)
    Trainer(model=model, evaluate=lambda: float(part.training)).fit()
    assert (model.training, part.training) == (False, True)


@pytest.mark.parametrize("mode", [None, 1, "yes"])
def test_anything_but_a_bool_is_refused(mode: Any) -> None:
    with pytest.raises(TypeError, match="'eval_mode' must be True or False: "):
        Trainer(eval_mode=mode)
