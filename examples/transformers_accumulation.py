"""A small language model of transformers, with random weights, that learns to count: four micro-batches per update.

Runs on the CPU; needs PyTorch and transformers. Nothing is downloaded.
"""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformers import LlamaConfig, LlamaForCausalLM

from lucid_train import StepResult, Trainer, schedules
from lucid_train.callbacks import LRSchedulerCallback, RichLogger
from lucid_train.data import grouped

VOCABULARY, IGNORED = 24, -100
torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=None,
    )
)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
# Rows such as 5, 8, 11, 14 ..., of different lengths: what comes next follows from the two numbers before it.
numbers = torch.randint(VOCABULARY, (800, 1)) + torch.randint(2, 5, (800, 1)) * torch.arange(16)
rows = torch.where(torch.arange(16) < torch.randint(6, 17, (800, 1)), numbers % VOCABULARY, IGNORED)
loader = DataLoader(TensorDataset(rows[:640]), batch_size=16, shuffle=True)


def inputs(labels: Tensor) -> dict[str, Tensor]:
    """Return what the model takes; there is no loss for what fills a row up."""
    return {"input_ids": labels.clamp(min=0), "attention_mask": (labels != IGNORED).long(), "labels": labels}


def step(group: list[list[Tensor]]) -> StepResult:
    """Do one update, in which every token of the group counts the same, as it does in the means of the epoch."""
    tokens = sum(int((labels[:, 1:] != IGNORED).sum()) for [labels] in group)  # the first of a row is not predicted
    losses: list[Tensor] = []
    optimizer.zero_grad()
    for [labels] in group:
        loss = model(**inputs(labels), num_items_in_batch=tokens).loss  # the sum, divided by the tokens of the group
        loss.backward()
        losses.append(loss.detach())
    optimizer.step()
    return StepResult(torch.stack(losses).sum(), weight=tokens)


@torch.no_grad()
def evaluate() -> float:
    """Return the loss per token of the rows that are held out."""
    return float(model(**inputs(rows[640:])).loss)


schedule = LRSchedulerCallback(schedules.Cosine().warmup("10%"), interval="step")  # a step is an update
trainer = Trainer(
    step,
    grouped(loader, 4),
    epochs=6,
    model=model,
    optimizer=optimizer,
    evaluate=evaluate,
    callbacks=[schedule, RichLogger()],
)
trainer.fit()
model.eval()
start = rows[-1:, :4]
print(f"{start[0].tolist()} is followed by {int(model(start).logits[0, -1].argmax())}")
