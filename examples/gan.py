"""Two networks with an optimizer each, as extras of one run: a small GAN that learns a distribution of numbers.

    python examples/gan.py [directory]

With a directory it may be killed at any time; the same command goes on to the same numbers. Needs PyTorch.
"""

import sys
import tempfile

import torch
from torch import Tensor, nn

from lucid_train import Trainer, load_weights
from lucid_train.callbacks import Checkpoint, RichLogger

directory = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
torch.manual_seed(0)
numbers = 4 + 1.25 * torch.randn(2048, 1)
generator = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
critic = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=0.01, betas=(0.5, 0.9))
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=0.003, betas=(0.5, 0.9))
bce = nn.functional.binary_cross_entropy_with_logits


def step(batch: list[Tensor]) -> dict[str, Tensor]:
    """Train the critic to tell real from generated numbers, and the generator to be taken for real."""
    (real,) = batch
    fake = generator(torch.randn(len(real), 1))
    of_real, of_fake = critic(real), critic(fake.detach())
    critic_loss = bce(of_real, torch.ones_like(of_real)) + bce(of_fake, torch.zeros_like(of_fake))
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()
    candidates = critic(fake)
    generator_loss = bce(candidates, torch.ones_like(candidates))
    generator_optimizer.zero_grad()
    generator_loss.backward()
    generator_optimizer.step()
    return {"critic_loss": critic_loss.detach(), "generator_loss": generator_loss.detach()}


extras: dict[str, nn.Module | torch.optim.Optimizer] = {
    "generator": generator,
    "critic": critic,
    "generator_optimizer": generator_optimizer,
    "critic_optimizer": critic_optimizer,
}
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(numbers), batch_size=64, shuffle=True)
callbacks = [Checkpoint(directory, every=50, interval="step"), RichLogger()]
Trainer(step, data, epochs=8, extras=extras, callbacks=callbacks).fit(resume="auto")

trained = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))  # as another program would use it
trained.load_state_dict(load_weights(directory, "last", name="generator"))
drawn = trained(torch.randn(10_000, 1, generator=torch.Generator().manual_seed(1)))
print(f"generated {drawn.mean():.6f} +- {drawn.std():.6f}, real {numbers.mean():.2f} +- {numbers.std():.2f}")
