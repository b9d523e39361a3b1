"""Put callbacks of your own to the test: do they resume exactly, and does it matter in which order they stand?

Both helpers take a function that builds a Trainer, everything in it new and the same each time: model, optimizer, data,
generators and callbacks.

>>> from lucid_train import Trainer
>>> from lucid_train.callbacks import ExponentialLRCallback, TerminateOnNaN
>>> from lucid_train.nn import Linear
>>> from lucid_train.optims import SGD
>>> def build():
...     optimizer = SGD(Linear(2, 1, rng=0).parameters(), lr=0.1)
...     return Trainer(optimizer=optimizer, epochs=3, callbacks=[ExponentialLRCallback(0.5), TerminateOnNaN()])
>>> assert_resumes_exactly(build)
>>> pairs_that_do_not_commute(build)
[]
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, final

from attrs import define, field

from lucid_train.callback import Callback
from lucid_train.description import class_labels
from lucid_train.events import EpochReport, Event, StepEnd
from lucid_train.saving.checkpoint.format import read_checkpoint, write_checkpoint
from lucid_train.saving.checkpoint.tree import take_apart
from lucid_train.saving.random_state import RandomState
from lucid_train.training.trainer import Trainer
from lucid_train.validation import whole_number


def assert_resumes_exactly(build: Callable[[], Trainer], *, cuts: Iterable[int] | None = None) -> None:
    """Check that a run which is cut and resumed ends, to the last bit, as the one that is not.

    A Trainer is trained to its `epochs`. Another one is stopped after some steps, its state written to a file; a third
    one reads it and goes on to the end. Then weights, optimizer, history, callbacks, data and random generators are
    compared. The same is done between two epochs. Whatever has "seconds" in its name is left out.

    Args:
        build: Returns a new Trainer; if it draws random numbers, then from a seed.
        cuts: The steps after which the run is cut; by default after the first, in the middle, and before the last.

    Raises:
        AssertionError: If anything differs, naming what and where the run was cut.
        ValueError: If a run has not as many steps.
    """
    straight = build()
    chance = RandomState()
    before = chance.read()
    straight.fit()
    expected = straight.state_dict()
    last = expected["run"]["step"]
    chosen = sorted({1, last // 2, last - 1} & set(range(1, last))) if cuts is None else list(cuts)
    steps: list[_Cut] = [_Cut(StepEnd, whole_number("cuts", step, least=1)) for step in chosen]
    if any(cut.count >= last for cut in steps):
        raise ValueError(f"'cuts' must be below the {last} steps of the run: {chosen}")
    epochs = len(expected["history"]["epoch"])
    for cut in [*steps, *([_Cut(EpochReport, epochs // 2)] if epochs > 1 else [])]:
        chance.write(before)
        first = build()
        first.callbacks = (*first.callbacks, cut)
        first.fit()
        chance.write(before)
        second = build()
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder) / "state", cut.state)
            second.load_state_dict(read_checkpoint(Path(folder) / "state"), accept="_Cut")
        second.fit()
        found = differing(expected, second.state_dict())
        if found:
            raise AssertionError(f"a run cut after {cut.place} ends otherwise than one that is not: {'; '.join(found)}")


def pairs_that_do_not_commute(build: Callable[[], Trainer]) -> list[tuple[str, str]]:
    """Return the pairs of callbacks whose order in the list changes what a run comes to.

    For each pair the run is trained twice, with the one directly before the other and directly after it, the rest as it
    is. That order matters is not wrong; it is worth knowing.

    Args:
        build: Returns a new Trainer; if it draws random numbers, then from a seed.

    Returns:
        The names of the pairs, in list order; a second callback of one class is "Name#2".
    """
    names = class_labels(build().callbacks)
    chance = RandomState()
    before = chance.read()

    def outcome(order: list[int]) -> dict[str, Any]:
        chance.write(before)
        trainer = build()
        callbacks = trainer.callbacks
        trainer.callbacks = tuple(callbacks[index] for index in order)
        history = trainer.fit()
        state = trainer.state_dict()
        own = {name: callback.state_dict() for name, callback in zip(names, callbacks, strict=True)}
        return {**state, "callbacks": own, "config": None, "status": history.status}

    found = []
    for one, other in combinations(range(len(names)), 2):
        rest = [index for index in range(len(names)) if index != other]
        after, ahead = list(rest), list(rest)
        after.insert(rest.index(one) + 1, other)
        ahead.insert(rest.index(one), other)
        if differing(outcome(after), outcome(ahead)):
            found.append((names[one], names[other]))
    return found


def differing(one: Any, other: Any) -> list[str]:
    """Return where two states differ, bit for bit, as names such as "model.0.weight"; [] if they do not.

    Whatever has "seconds" in its name is left out.
    """
    mine, theirs = dict(_leaves(one, "")), dict(_leaves(other, ""))
    names = sorted(mine.keys() | theirs.keys())
    return [name for name in names if "seconds" not in name and mine.get(name) != theirs.get(name)]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what a state consists of, each with its place, in a form that is equal where the bits are."""
    if isinstance(value, (Mapping, list, tuple)) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
        return
    parts = take_apart([value])
    arrays = [(leaf.dtype, leaf.shape, leaf.octets.tobytes()) for leaf in parts.leaves]
    yield path, arrays or repr(value)  # of a float, as many digits as its bits need


@final
@define(eq=False)
class _Cut(Callback):
    """Takes the state at one event and stops the run there."""

    event: type[Event]
    count: int
    state: Any = field(default=None, init=False, repr=False)

    @property
    def place(self) -> str:
        """Where the run is cut, in words."""
        return f"{'step' if self.event is StepEnd else 'epoch'} {self.count}"

    def state_dict(self) -> dict[str, Any]:
        return {}

    def on_step_end(self, event: StepEnd) -> None:
        self._cut(event, event.step)

    def on_epoch_report(self, event: EpochReport) -> None:
        self._cut(event, event.epoch)

    def _cut(self, event: StepEnd | EpochReport, count: int) -> None:
        if type(event) is self.event and count == self.count:
            run = event.run
            # Copied at once: a state may consist of the live arrays.
            run.when_settled(lambda: setattr(self, "state", copy.deepcopy(run.state_dict())))
            run.stop("cut")
