"""What a tracker costs per step, against the same loop without it, and against noting each step by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter, time

from attrs import define
from measure import Row

from lucid_train import Callback, StepEnd, Trainer
from lucid_train.callbacks.trackers.tracker import Opening, Point, Tracker
from lucid_train.events import Status

STEPS = 50_000


@define(eq=False)
class Nothing(Tracker):
    """Takes numbers, and forgets them."""

    def open(self, opening: Opening) -> None:
        """Open nothing."""

    def send(self, points: Sequence[Point]) -> None:
        """Send nothing."""

    def close(self, status: Status) -> None:
        """Close nothing."""


@define(eq=False)
class Noting(Callback):
    """Appends a tuple per step, as one would by hand; what is made of them later is not counted."""

    notes: list[tuple[int, object, float]]

    def on_step_end(self, event: StepEnd) -> None:
        self.notes.append((event.step, event.output, time()))


def passed(*callbacks: Callback) -> Callable[[], tuple[float, float]]:
    """Return a function that trains an epoch and returns the seconds of a step, and of the whole fit, per step."""

    def run() -> tuple[float, float]:
        trainer = Trainer(lambda batch: 0.5, range(STEPS), callbacks=callbacks)
        moments: list[float] = []
        trainer.on(StepEnd, at={1, STEPS})(lambda event: moments.append(perf_counter()))
        began = perf_counter()
        trainer.fit()
        return (moments[1] - moments[0]) / (STEPS - 1), (perf_counter() - began) / STEPS

    return run


def rows() -> list[Row]:
    """Measure everything."""
    notes: list[tuple[int, object, float]] = []
    ways = [passed(), passed(Nothing()), passed(Nothing(step_every=1)), passed(Noting(notes))]
    best = [(float("inf"), float("inf"))] * len(ways)
    for _ in range(15):
        for index, way in enumerate(ways):
            notes.clear()
            step, whole = way()
            best[index] = min(best[index][0], step), min(best[index][1], whole)
    (plain, whole_plain), (epochs_only, _), (every_step, whole_every_step), (by_hand, _) = best
    sent, without = "a step, a tracker that is sent each", "the same without it"
    return [
        Row("a step, a tracker that is sent epochs", epochs_only, plain, without, budget=1.05),
        Row(sent, every_step, plain, without, extra=3e-6),
        Row(sent, every_step, by_hand, "a tuple appended by hand", budget=4),
        Row(f"{sent}, its thread's work too", whole_every_step, whole_plain, without, extra=10e-6),
    ]
