"""Clip the gradients of a recurrent network in PyTorch, and see how large they are, layer by layer."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import Trainer
from lucid_train.callbacks import GradientMonitor, RichLogger

torch.manual_seed(0)
numbers = torch.rand(512, 24, 1)
totals = numbers.sum(dim=1)  # the network is to add them up


class Adder(nn.Module):
    """A recurrent network whose last state gives the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.readout = nn.RNN(1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums of sequences of shape (n, length, 1)."""
        states, _ = self.recurrent(x)
        sums: Tensor = self.readout(states[:, -1])
        return sums


model = Adder()
optimizer = torch.optim.Adam(
    [{"params": model.recurrent.parameters()}, {"params": model.readout.parameters()}], lr=0.003
)
# grad_norm_0 and update_ratio_0 are those of the recurrent layer, grad_norm_1 and update_ratio_1 those of the readout.
monitor = GradientMonitor(max_norm=5.0, ratio=True, per_group=True)


def train_step(batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Do one update of clipped gradients."""
    x, y = batch
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    monitor.clip()
    optimizer.step()
    return {"loss": loss, **monitor.metrics()}


history = Trainer(
    train_step,
    DataLoader(TensorDataset(numbers, totals), batch_size=32, shuffle=True),
    model=model,
    optimizer=optimizer,
    epochs=10,
    callbacks=[monitor, RichLogger()],
).fit()
print("share of clipped updates:", [round(share, 2) for share in history.metric("clipped")])
