"""Schedules in words, as the plan and the display show them."""

import pytest
from attrs import frozen

from lucid_train.schedules import (
    WSD,
    Chain,
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Function,
    InverseSqrt,
    InverseTime,
    Linear,
    Multiplicative,
    MultiStep,
    Noam,
    OneCycle,
    Piecewise,
    Polynomial,
    Ramp,
    Rex,
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
        (Step(2.4, 0.97, min_ratio=0.1), "times 0.97 every 2.4 epochs, not below 0.1 of the base"),
        (Exponential(0.5, every=20), "times 0.5 in 20 epochs"),
        (Exponential(0.1, every=None, min_ratio=0.2), "exponential to 0.1 of the base, not below 0.2 of the base"),
        (Polynomial(10, 2, end=1e-3, cycle=True), "polynomial of power 2 to 0.001 over 10 epochs, again and again"),
        (Polynomial(min_ratio=0.1), "linear to 0.1 of the base"),
        (Cosine(10, min_ratio=0.1), "cosine to 0.1 of the base over 10 epochs"),
        (Cosine(cycles=1.5, power=2), "cosine of power 2 to 0 in 1.5 waves"),
        (WarmRestarts(cycles=7), "cosine to 0, 7 times"),
        (
            WarmRestarts(10, 1.5, 0.01, gamma=0.5, cycles=3),
            "cosine to 0.01, restarted after 10 epochs, then each 1.5 times as long, each from 0.5 of the height, "
            "3 in all",
        ),
        (Rex(10, 0.1), "REX to 0.1 of the base over 10 epochs"),
        (InverseSqrt("5%"), "inverse square root over 5 %"),
        (
            InverseTime(20, 0.5, 2, staircase=True),
            "inverse time to the power 2 at a rate of 0.5 over 20 epochs, in steps",
        ),
        (InverseTime(20), "inverse time over 20 epochs"),
        (Piecewise([5, "50%"], [1, 0.5, 2]), "1 of the base, then 0.5 after 5 epochs, then 2 after 50 %"),
        (Piecewise([5], [0, 1], "linear"), "0 of the base, linearly to 1 at 5 epochs"),
        (Ramp(0.0, 1.0, "5%"), "cosine warm-up 5 % from 0"),
        (Ramp(0.1, 1.0, 5, "exponential"), "exponential warm-up over 5 epochs"),
        (Ramp(1.0, 0.0, shape="1-sqrt"), "1-sqrt to 0"),
        (Ramp(0.5, 0.1, 5), "cosine from 0.5 to 0.1 of the base over 5 epochs"),
        (WSD(), "warm-up 5 %, then constant, then 1-sqrt to 0 in the last 20 %"),
        (
            WSD(5, 10, "linear", min_ratio=0.1, start=0, warmup_shape="cosine"),
            "cosine warm-up over 5 epochs from 0, then constant, then linear to 0.1 of the base in the last 10 epochs",
        ),
        (WSD(0, 10), "constant, then 1-sqrt to 0 in the last 10 epochs"),
        (Cosine().skip(5), "cosine to 0, without the first 5 epochs"),
        (Inverse(), "inverse"),
        (HalfLife(decay=Exponential(0.5)), "half life, half_life 5, decay (times 0.5 every epoch)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schedule_is_said_in_words(schedule: Schedule, words: str) -> None:
    assert schedule.words() == words
    assert schedule.words("step") == words.replace("epoch", "step")
