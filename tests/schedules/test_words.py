"""Schedules in words, as the plan and the display show them."""

import pytest
from attrs import frozen

from lucid_train.schedules import (
    Chain,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Function,
    Linear,
    Multiplicative,
    MultiStep,
    Noam,
    OneCycle,
    Polynomial,
    Schedule,
    Sequence,
    Step,
    WarmRestarts,
)


def halve(t: int) -> float:
    return 0.5**t


class Inverse(Schedule):
    def affine(self, t: int) -> tuple[float, float]:
        return 1 / (1 + t), 0.0


@frozen(repr=False)
class HalfLife(Schedule):
    half_life: float = 5.0
    decay: Schedule | None = None

    def affine(self, t: int) -> tuple[float, float]:
        return 0.5 ** (t / self.half_life), 0.0


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Step(1), "times 0.1 every epoch"),
        (Step(30, 0.5), "times 0.5 every 30 epochs"),
        (Step("10%"), "times 0.1 every 10 %"),
        (MultiStep([30, "60%"]), "times 0.1 after 30 epochs, 60 %"),
        (Exponential(0.9), "times 0.9 every epoch"),
        (Polynomial(), "linear to 0"),
        (Polynomial(10, 2), "polynomial of power 2 to 0 over 10 epochs"),
        (Linear(0.1, total_iters=1), "warm-up over 1 epoch"),
        (Linear(0.0, total_iters="5%"), "warm-up 5 % from 0"),
        (Linear(0.3, total_iters=4), "warm-up over 4 epochs from 0.3 of the base"),
        (Linear(1.0, 0.0), "linear to 0"),
        (Linear(0.1, 0.5, 1500), "linear from 0.1 to 0.5 of the base over 1,500 epochs"),
        (Cosine(), "cosine to 0"),
        (Cosine(10, 1e-5), "cosine to 1e-05 over 10 epochs"),
        (Cosine("80%", after="hold"), "cosine to 0 over 80 %, held there"),
        (Cosine(10, after="mirror"), "cosine to 0 over 10 epochs and back"),
        (WarmRestarts(10), "cosine to 0, restarted every 10 epochs"),
        (WarmRestarts(10, 2), "cosine to 0, restarted after 10 epochs, then each 2 times as long"),
        (Constant(), "constant"),
        (Constant(0.5, 5), "0.5 of the base over 5 epochs"),
        (Noam(16), "warm-up 4,000 epochs, then the inverse square root (Noam)"),
        (Cyclic(0.001, 0.1), "from 0.001 to 0.1 and back, 2,000 epochs up, as many down"),
        (
            Cyclic(0.001, 0.1, 5, "10%", mode="triangular2"),
            "from 0.001 to 0.1 and back, 5 epochs up, 10 % down, halved each time",
        ),
        (
            Cyclic(0.001, 0.1, 5, mode="exp_range", gamma=0.9),
            "from 0.001 to 0.1 and back, 5 epochs up, as many down, times 0.9 every epoch",
        ),
        (
            Cyclic(0.001, 0.1, 5, scale_fn=lambda cycle: 1.0),
            "from 0.001 to 0.1 and back, 5 epochs up, as many down, times a function of the cycle",
        ),
        (OneCycle(0.1), "one cycle up to 0.1"),
        (OneCycle(0.1, 100), "one cycle up to 0.1 over 100 epochs"),
        (OneCycle(0.1).momentum(), "from 0.95 down to 0.85 and back"),
        (Function(halve), "times halve(epoch)"),
        (Function(lambda t: 0.5), "times a function of the epoch"),
        (Multiplicative(halve), "times halve(epoch), again every epoch"),
        (Cosine().warmup("5%"), "warm-up 5 %, then cosine to 0"),
        (Constant().until("80%").then(Polynomial()), "constant until 80 %, then linear to 0"),
        (Linear(0.1, total_iters=5).until(5).then(Step(2)), "warm-up over 5 epochs, then times 0.1 every 2 epochs"),
        (Sequence([None, Cosine()], [3]), "unchanged until epoch 3, then cosine to 0"),
        (Step(3) * Linear(0.1, total_iters=2), "times 0.1 every 3 epochs, together with warm-up over 2 epochs"),
        (
            Chain([Constant(0.25, 2), Exponential(0.5)]),
            "0.25 of the base over 2 epochs, together with times 0.5 every epoch",
        ),
        (Inverse(), "inverse"),
        (HalfLife(decay=Exponential(0.5)), "half life, half_life 5, decay (times 0.5 every epoch)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schedule_is_said_in_words(schedule: Schedule, words: str) -> None:
    assert schedule.words() == words
    assert schedule.words("step") == words.replace("epoch", "step")
