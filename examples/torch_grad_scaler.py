"""PyTorch's GradScaler skips the update after an overflow, and the schedule does not advance.

Runs on the CPU; needs PyTorch. Two batches of this run overflow on purpose.
"""

import torch

from lucid_train import StepResult, Trainer
from lucid_train.callbacks import LRSchedulerCallback
from lucid_train.schedules import Linear

torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

batches = [torch.randn(16, 4) for _ in range(10)]
batches[3][0, 0] = batches[7][0, 0] = float("inf")  # the gradients will not be finite


def step(batch: torch.Tensor) -> torch.Tensor | StepResult:
    """Train on one batch; say so if the scaler has skipped the update."""
    optimizer.zero_grad()
    loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean()
    scaler.scale(loss).backward()
    before = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    # The scaler has skipped the update if the scale is lower. The loss is then not finite, and is left out.
    return StepResult(updated=False) if scaler.get_scale() < before else loss


schedule = LRSchedulerCallback(Linear(0.5, total_iters=10), interval="step")
history = Trainer(step, batches, optimizer=optimizer, epochs=2, callbacks=[schedule]).fit()

for record in history:
    print(f"epoch {record.epoch}  loss {record.metrics['loss']:.4f}  lr {record.lr[0]:.4f}")
print(f"{2 * len(batches)} batches, {schedule.scheduler.last_epoch} updates, scale {scaler.get_scale():g}")
assert schedule.scheduler.last_epoch == 16
