"""A CNN in PyTorch on handwritten digits: bfloat16, clipping, warm-up and cosine, early stopping, the best weights."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lucid_train import Trainer, schedules, track
from lucid_train.callbacks import EarlyStopping, LRSchedulerCallback, RichLogger
from lucid_train.data import digits

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
images, labels, test_images, test_labels = (torch.from_numpy(array) for array in digits())
train_set = TensorDataset(images.float().view(-1, 1, 8, 8), labels)
test_set = TensorDataset(test_images.float().view(-1, 1, 8, 8), test_labels)
train_loader, test_loader = DataLoader(train_set, batch_size=64, shuffle=True), DataLoader(test_set, batch_size=100)

model = nn.Sequential(
    *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
    *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(16 * 4 * 4, 10)),
).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.05)


def forward(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the loss and the accuracy of a batch."""
    x, y = (tensor.to(device, non_blocking=True) for tensor in batch)
    with torch.autocast(device, dtype=torch.bfloat16):
        scores = model(x)
        return nn.functional.cross_entropy(scores, y), (scores.argmax(dim=1) == y).float().mean()


def train_step(batch: list[Tensor]) -> dict[str, Tensor]:
    """Do one update; the metrics stay on the device until the epoch ends."""
    loss, accuracy = forward(batch)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=2.0)
    optimizer.step()
    return {"loss": loss, "accuracy": accuracy, "grad_norm": norm}


@torch.no_grad()
def evaluate() -> dict[str, Tensor]:
    """Return the means over the test set; the Trainer has called `model.eval()`, and puts the modes back."""
    found = [torch.stack(forward(batch)) * len(batch[0]) for batch in track(test_loader)]
    loss, accuracy = torch.stack(found).sum(dim=0) / len(test_set)
    return {"loss": loss, "accuracy": accuracy}


schedule = LRSchedulerCallback(schedules.Cosine().warmup("5%"), interval="step")
stopping = EarlyStopping("val_loss", patience=3, restore_best=True)
callbacks = [schedule, stopping, RichLogger()]
trainer = Trainer(
    train_step, train_loader, epochs=8, model=model, optimizer=optimizer, evaluate=evaluate, callbacks=callbacks
)
best = trainer.fit().best("val_loss")
model.eval()
print(f"the weights of epoch {best.epoch} are restored: accuracy {evaluate()['accuracy']:.2%}")
