"""A small language model of transformers, with random weights, that learns to count: four micro-batches per update.

Runs on the CPU; needs PyTorch and transformers. Nothing is downloaded.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from lucid_train import StepResult, Trainer, schedules
from lucid_train.callbacks import LRSchedulerCallback, RichLogger
from lucid_train.data import grouped

VOCABULARY, IGNORED = 24, -100
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=2,
    bos_token_id=None,
    eos_token_id=None,
)
model = LlamaForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
# Sequences such as 5, 8, 11, 14 ..., of different lengths: what comes next follows from the two numbers before it.
places = torch.randint(2, 5, (800, 1)) * torch.arange(16) + torch.randint(VOCABULARY, (800, 1))
sequences = [row[: int(length)] for row, length in zip(places % VOCABULARY, torch.randint(6, 17, (800,)), strict=True)]


def collate(rows: list[Tensor]) -> dict[str, Tensor]:
    """Return rows as one batch; there is no loss for what fills them up."""
    labels = pad_sequence(rows, batch_first=True, padding_value=IGNORED)
    return {"input_ids": labels.clamp(min=0), "attention_mask": (labels != IGNORED).long(), "labels": labels}


def predicted(batch: dict[str, Tensor]) -> int:
    """Return how many tokens of a batch are predicted: all but the first of each row."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def step(group: list[dict[str, Tensor]]) -> StepResult:
    """Do one update, in which every token of the group counts the same; so it does in the means of the epoch."""
    tokens = sum(map(predicted, group))
    total = torch.zeros(())
    optimizer.zero_grad()
    for batch in group:
        loss = model(**batch, num_items_in_batch=tokens).loss
        loss.backward()
        total += loss.detach()
    optimizer.step()
    return StepResult(total, weight=tokens)


@torch.no_grad()
def evaluate() -> Tensor:
    """Return the loss per token of the rows that are held out."""
    return model(**collate(sequences[640:])).loss


loader = DataLoader(sequences[:640], batch_size=16, shuffle=True, collate_fn=collate)  # 40 batches
schedule = LRSchedulerCallback(schedules.Cosine().warmup("10%"), interval="step")
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
start = sequences[-1][:3]
counted = model.eval().generate(start.unsqueeze(0), max_new_tokens=5, do_sample=False)
print(f"{start.tolist()} goes on with {counted[0, 3:].tolist()}")
