"""A schedule-free optimizer: evaluated with its average, resumed exactly, the average saved beside the weights.

Needs PyTorch and schedulefree.
"""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import schedulefree  # pyright: ignore[reportMissingTypeStubs]  # it has no annotations
import torch
from attrs import define, field
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import Callback, EvaluateStart, FitStart, Trainer, load_weights
from lucid_train.callbacks import Checkpoint, RichLogger
from lucid_train.data import digits


@define(eq=False)
class ScheduleFree(Callback):
    """Evaluate a model with the average that its schedule-free optimizer keeps, and save that too.

    Such an optimizer is in train mode while it trains; its eval mode puts the average into the model. A checkpoint
    has the weights of train mode, from which a run goes on, and the average: `load_weights(..., name="ScheduleFree")`.
    """

    model: nn.Module = field(repr=False)
    optimizer: Any = field(repr=False)

    def on_fit_start(self, event: FitStart) -> None:
        if "train_mode" not in self.optimizer.param_groups[0]:  # resumed it would take the one for the other
            name = type(self.optimizer).__name__
            raise TypeError(f"'optimizer' must save its mode with its groups, as AdamWScheduleFree does: {name}")
        self.optimizer.train()

    @contextmanager
    def during_evaluation(self, event: EvaluateStart) -> Generator[None]:
        with self.averaged():
            yield

    @contextmanager
    def averaged(self) -> Generator[None]:
        """Have the average in the model, and then the weights as they were, bit for bit."""
        if not self.optimizer.param_groups[0]["train_mode"]:
            yield
            return
        trained = [(p, p.detach().clone()) for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer.eval()
        try:
            yield
        finally:
            self.optimizer.train()
            with torch.no_grad():
                for p, value in trained:  # train() computes them from the average, and rounds
                    p.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        with self.averaged():
            weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return {"weights": weights, "averaged": self.optimizer.param_groups[0]["k"]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing: the average follows from the states of model and optimizer."""

    def settings(self) -> dict[str, Any]:
        return {}


def build(directory: str, *others: Callback) -> Trainer:
    """Return a run on the digits."""
    torch.manual_seed(0)
    images, labels, test_images, test_labels = (torch.from_numpy(array) for array in digits())
    loader = DataLoader(TensorDataset(images.float(), labels), batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.03, warmup_steps=20)

    def step(batch: list[Tensor]) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    @torch.no_grad()
    def evaluate() -> dict[str, Tensor]:
        scores = model(test_images.float())
        accuracy = (scores.argmax(dim=1) == test_labels).float().mean()
        return {"loss": nn.functional.cross_entropy(scores, test_labels), "accuracy": accuracy}

    callbacks = [ScheduleFree(model, optimizer), Checkpoint(directory, monitor="val_loss"), *others]
    return Trainer(step, loader, epochs=4, model=model, optimizer=optimizer, evaluate=evaluate, callbacks=callbacks)


def main() -> None:
    """Train, and compare the weights of training with their average."""
    with tempfile.TemporaryDirectory() as directory:
        trainer = build(directory, RichLogger())
        history = trainer.fit()
        evaluate: Any = trainer.evaluate
        print(f"the weights of training: loss {evaluate()['loss']:.4f}")
        model: Any = trainer.model
        model.load_state_dict(load_weights(directory, "last", name="ScheduleFree"))
        print(f"their average: loss {evaluate()['loss']:.4f}, as recorded {history[-1].metrics['val_loss']:.4f}")


if __name__ == "__main__":
    main()
