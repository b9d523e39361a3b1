"""A CNN in PyTorch that is evaluated with a moving average of its weights, and measured by metrics of torchmetrics."""

import tempfile

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAUROC, MulticlassF1Score

from lucid_train import Trainer, load_weights
from lucid_train.callbacks import Checkpoint, RichLogger, WeightAverage
from lucid_train.data import digits

torch.manual_seed(0)
images, labels, test_images, test_labels = (torch.from_numpy(array) for array in digits())
train_set = TensorDataset(images.float().view(-1, 1, 8, 8), labels)
test_x = test_images.float().view(-1, 1, 8, 8)

model = nn.Sequential(
    *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(8 * 4 * 4, 10)),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)  # so high that the weights leap about, unlike their average
f1, val_f1 = MulticlassF1Score(num_classes=10), MulticlassF1Score(num_classes=10)
val_area = MulticlassAUROC(num_classes=10, thresholds=200)


def train_step(batch: list[Tensor]) -> Tensor:
    """Do one update, and let the metric of the steps take it into account."""
    x, y = batch
    scores = model(x)
    loss = nn.functional.cross_entropy(scores, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    f1.update(scores.detach(), y)
    return loss


@torch.no_grad()
def evaluate() -> Tensor:
    """Return the loss of the test set; the model has the averaged weights meanwhile, and is in eval mode."""
    scores = model(test_x)
    val_f1.update(scores, test_labels)
    val_area.update(scores, test_labels)
    return nn.functional.cross_entropy(scores, test_labels)


directory = tempfile.mkdtemp()
history = Trainer(
    train_step,
    DataLoader(train_set, batch_size=16, shuffle=True),
    epochs=6,
    model=model,
    optimizer=optimizer,
    evaluate=evaluate,
    metrics={"f1": f1, "val_f1": val_f1, "val_area": val_area},
    callbacks=[WeightAverage(0.98), Checkpoint(directory, monitor="val_f1", mode="max"), RichLogger()],
).fit()

model.eval()
print(f"the weights of training: loss {evaluate():.4f}")
model.load_state_dict(load_weights(directory, "best", name="WeightAverage"))
best = history.best("val_f1", mode="max")
print(f"the averaged weights of epoch {best.epoch}: loss {evaluate():.4f}, as recorded {best.metrics['val_loss']:.4f}")
