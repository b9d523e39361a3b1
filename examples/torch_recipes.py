"""Recipes for PyTorch, each a step function of your own: the Trainer knows nothing of what is in it.

    python examples/torch_recipes.py [recipe ...]

Runs on the CPU, and on a GPU if there is one; needs PyTorch.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import StepResult, Trainer
from lucid_train.callbacks import LRSchedulerCallback
from lucid_train.data import digits, grouped
from lucid_train.schedules import Cosine, Linear

Batch = list[Tensor]
Step = Callable[[Any], Any]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
images, labels = (torch.from_numpy(array) for array in digits()[:2])
DATA = TensorDataset(images.float().view(-1, 1, 8, 8), labels)
recipes: dict[str, Callable[[], Trainer]] = {}


def network() -> nn.Sequential:
    """Return a small network, on the device before its optimizer is made."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(features, nn.Flatten(), nn.Dropout(0.1), nn.Linear(72, 10)).to(DEVICE)


def sgd(model: nn.Module) -> torch.optim.SGD:
    """Return an optimizer for what of a model is not frozen."""
    return torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1, momentum=0.9)


def loss_of(model: Callable[..., Any], batch: Batch) -> Tensor:
    """Return the loss of a batch, which is copied to the device while the host goes on, if its memory is pinned."""
    x, y = (tensor.to(DEVICE, non_blocking=True) for tensor in batch)
    return nn.functional.cross_entropy(model(x), y)


def trainer(step: Step, model: nn.Module, optimizer: torch.optim.Optimizer, data: Any = None, **more: Any) -> Trainer:
    """Return a Trainer of one epoch."""
    loader = DataLoader(DATA, batch_size=64, shuffle=True, pin_memory=DEVICE.type == "cuda") if data is None else data
    schedule = LRSchedulerCallback(more.pop("schedule", Cosine().warmup("10%")), interval="step")
    return Trainer(step, loader, model=model, optimizer=optimizer, callbacks=[schedule], **more)


def recipe(function: Callable[[], Trainer]) -> Callable[[], Trainer]:
    """List a recipe."""
    recipes[function.__name__] = function
    return function


@recipe
def device() -> Trainer:
    """Place the model before the optimizer is made, and each batch in the step; the loss may stay on the device."""
    model = network()
    optimizer = sgd(model)

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        return loss

    return trainer(step, model, optimizer)


@recipe
def bfloat16() -> Trainer:
    """Compute in bfloat16 under autocast, which has the range of float32 and needs no scaler."""
    model = network()
    optimizer = sgd(model)

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        return loss

    return trainer(step, model, optimizer)


@recipe
def float16() -> Trainer:
    """Scale losses in float16, whose small gradients would be zero. The scaler is an extra: a resume needs its state.

    Where gradients are not finite it skips the update. The step says so, and the schedule does not advance.
    """
    model = network()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**24)  # so large that updates are skipped here

    def step(batch: Batch) -> StepResult:
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, dtype=torch.float16):
            loss = loss_of(model, batch)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)  # the norm is that of the gradients themselves
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        return StepResult(loss, updated=scaler.get_scale() >= before)

    return trainer(step, model, optimizer, schedule=Linear(0.1, total_iters=10), extras={"scaler": scaler})


@recipe
def clipping() -> Trainer:
    """Clip the norm of the gradients, and report it as a metric beside the loss."""
    model = network()
    optimizer = sgd(model)

    def step(batch: Batch) -> dict[str, Tensor]:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)  # as it was before it was clipped
        optimizer.step()
        return {"loss": loss, "grad_norm": norm}

    return trainer(step, model, optimizer)


@recipe
def compiled() -> Trainer:
    """Compile what the step calls; the Trainer gets the model itself, so that names in checkpoints are its own.

    The backend here is one that is ready at once. Leave it out to have faster code, after up to a minute.
    """
    model = network()
    fast = torch.compile(model, backend="eager")
    optimizer = sgd(model)

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(fast, batch)
        loss.backward()
        optimizer.step()
        return loss

    return trainer(step, model, optimizer)


@recipe
def channels_last() -> Trainer:
    """Keep images and convolutions in the order of memory that GPUs, and CPUs in bfloat16, are fastest in."""
    model = network()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's annotations leave it out
    optimizer = sgd(model)

    def step(batch: Batch) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        loss = loss_of(model, [x.contiguous(memory_format=torch.channels_last), y])
        loss.backward()
        optimizer.step()
        return loss

    return trainer(step, model, optimizer)


@recipe
def freezing() -> Trainer:
    """Train the head alone. Frozen batch norms are in eval mode, set once: evaluations put every mode back."""
    model = network()
    model[0].requires_grad_(False).eval()
    optimizer = sgd(model)

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        return loss

    @torch.no_grad()
    def evaluate() -> Tensor:
        return loss_of(model, list(DATA[:256]))

    return trainer(step, model, optimizer, evaluate=evaluate)


@recipe
def accumulation() -> Trainer:
    """Do one update for four micro-batches, of which the last group may have fewer.

    DistributedDataParallel would add up gradients across the processes in every `backward()`; once is enough.
    """
    model = network()
    optimizer = sgd(model)

    def step(group: list[Batch]) -> StepResult:
        return accumulated(model, optimizer, group)

    return trainer(step, model, optimizer, grouped(DataLoader(DATA, batch_size=16, shuffle=True), 4))


def accumulated(model: nn.Module, optimizer: torch.optim.Optimizer, group: list[Batch]) -> StepResult:
    """Do one update for the micro-batches of a group, in which every sample counts the same."""
    samples = sum(len(y) for _, y in group)
    losses: list[Tensor] = []
    optimizer.zero_grad()
    for number, batch in enumerate(group, 1):
        is_last = number == len(group)
        with nullcontext() if is_last or not isinstance(model, DistributedDataParallel) else model.no_sync():
            loss = loss_of(model, batch) * (len(batch[1]) / samples)
            loss.backward()
        losses.append(loss.detach())
    optimizer.step()
    return StepResult(torch.stack(losses).sum(), weight=samples)


if __name__ == "__main__":
    for name in sys.argv[1:] or recipes:
        [record] = recipes[name]().fit()
        print(f"{name}: {', '.join(f'{metric} {value:.4f}' for metric, value in record.metrics.items())}")
