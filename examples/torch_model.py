"""A PyTorch model with a PyTorch optimizer, and the library's callbacks around your own step function.

The library never imports PyTorch. The loss may be a tensor: it is averaged on its device and converted when the epoch
ends, so that no step waits for the device.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lucid_train import Callback, History, Trainer
from lucid_train.callbacks import LRSchedulerCallback, RichLogger, StepLRCallback
from lucid_train.data import digits

torch.manual_seed(0)
images, labels, test_images, test_labels = digits(seed=0)
x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
test_x, test_y = torch.tensor(test_images, dtype=torch.float32), torch.tensor(test_labels)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True)


def fit(callback_for: Callable[[torch.optim.Optimizer], Callback]) -> History:
    """Train one model; `callback_for` returns the schedule's callback for an optimizer."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)

    def train_step(batch: list[Tensor]) -> Tensor:
        model.train()  # evaluate() has left it in the other mode, with dropout off
        inputs, targets = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    @torch.no_grad()
    def evaluate() -> dict[str, Tensor]:
        model.eval()
        scores = model(test_x)
        return {
            "loss": nn.functional.cross_entropy(scores, test_y),
            "accuracy": (scores.argmax(dim=1) == test_y).float().mean(),
        }

    return Trainer(
        step=train_step,
        data=loader,
        model=model,
        optimizer=optimizer,
        evaluate=evaluate,
        epochs=6,
        callbacks=[callback_for(optimizer), RichLogger()],
    ).fit()


ours = fit(lambda optimizer: StepLRCallback(step_size=2, gamma=0.5))
theirs = fit(lambda optimizer: LRSchedulerCallback(torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)))
print("the rates of both schedules are equal:", [record.lr for record in ours] == [record.lr for record in theirs])
