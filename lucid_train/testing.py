"""Checks for callbacks of your own: do they resume exactly, and does their order in the list matter?

Both helpers take a function that builds a Trainer. Model, optimizer, data, generators and callbacks must be new at
every call, and the same each time.

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

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from lucid_train.description import class_labels
from lucid_train.events import EpochReport, StepEnd
from lucid_train.saving.checkpoint.directory import read_checkpoint
from lucid_train.saving.checkpoint.format import write_checkpoint
from lucid_train.saving.checkpoint.tree import flatten
from lucid_train.saving.random_state import RandomState
from lucid_train.training.trainer import Trainer
from lucid_train.validation import whole_number


def assert_resumes_exactly(build: Callable[[], Trainer], *, cuts: Iterable[int] | None = None) -> None:
    """Check that a run which is stopped and resumed ends bit for bit like one that is not.

    One Trainer trains to its `epochs`. A second one is stopped after some steps and its state is written to a file; a
    third one reads the file and trains to the end. Then weights, optimizer, history, callbacks, data and random
    generators are compared. The same is done between two epochs. Entries with "seconds" in their name are ignored.

    Args:
        build: Returns a new Trainer. If it draws random numbers, it seeds them.
        cuts: The steps after which the run is stopped; by default the first, the middle one and the last but one.

    Raises:
        AssertionError: If anything differs, naming what differs and where the run was stopped.
        ValueError: If a cut is not within the run.
    """
    straight = build()
    generators = RandomState()
    before = generators.read()
    straight.fit()
    expected = straight.state_dict()
    last = expected["progress"]["step"]
    default = {1, last // 2, last - 1} & set(range(1, last))
    chosen = sorted(default) if cuts is None else [whole_number("cuts", step, least=1) for step in cuts]
    if any(step >= last for step in chosen):
        raise ValueError(f"'cuts' must be below the {last} steps of the run: {chosen}")
    epochs = len(expected["progress"]["history"]["epoch"])
    for event, count in [*((StepEnd, step) for step in chosen), *([(EpochReport, epochs // 2)] if epochs > 1 else [])]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "state"
            generators.write(before)
            _save_at(event, count, build(), file)
            generators.write(before)
            resumed = build()
            resumed.load_state_dict(read_checkpoint(file))
        resumed.fit()
        found = "; ".join(diff_states(expected, resumed.state_dict()))
        if found:
            place = f"{'step' if event is StepEnd else 'epoch'} {count}"
            raise AssertionError(f"a run that is stopped after {place} and resumed ends with another state: {found}")


def _save_at(event: type[StepEnd] | type[EpochReport], count: int, trainer: Trainer, file: Path) -> None:
    """Train until the event of this count, and write the state of the run there."""

    def stop(event: StepEnd | EpochReport) -> None:
        run = event.run
        run.at_safe_point(lambda: write_checkpoint(file, run.state_dict()))
        run.stop("stopped to be resumed")

    trainer.on(event, at=count)(stop)
    trainer.fit()


def pairs_that_do_not_commute(build: Callable[[], Trainer]) -> list[tuple[str, str]]:
    """Return the pairs of callbacks whose order in the list changes the outcome of a run.

    For each pair the run is trained twice, with one directly before the other and directly after it, and all others in
    their places. An order that matters is not an error, but it is worth knowing.

    Args:
        build: Returns a new Trainer. If it draws random numbers, it seeds them.

    Returns:
        The names of the pairs, in list order; a second callback of one class is "Name#2".
    """
    names = class_labels(build().callbacks)
    generators = RandomState()
    before = generators.read()

    def outcome(order: list[int]) -> dict[str, Any]:
        generators.write(before)
        trainer = build()
        callbacks = trainer.callbacks
        trainer.callbacks = tuple(callbacks[index] for index in order)
        history = trainer.fit()
        state = trainer.state_dict()
        own = {name: callback.state_dict() for name, callback in zip(names, callbacks, strict=True)}
        return {**state, "callbacks": own, "setup": None, "status": history.status}

    found = []
    for one, other in combinations(range(len(names)), 2):
        rest = [index for index in range(len(names)) if index != other]
        one_before, one_after = ([*rest[:place], other, *rest[place:]] for place in (one + 1, one))
        if diff_states(outcome(one_before), outcome(one_after)):
            found.append((names[one], names[other]))
    return found


def diff_states(one: Any, other: Any) -> list[str]:
    """Return the places where two states differ in any bit, such as "model.0.weight"; [] if there are none.

    Entries with "seconds" in their name are ignored.
    """
    left, right = dict(_leaves(one, "")), dict(_leaves(other, ""))
    names = sorted(left.keys() | right.keys())
    return [name for name in names if "seconds" not in name and left.get(name) != right.get(name)]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values in a state, each with its place, in a form that is equal if and only if the bits are."""
    if isinstance(value, (Mapping, list, tuple)) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            yield from _leaves(item, f"{path}.{name}" if path else str(name))
        return
    is_plain = value is None or type(value) in (bool, int, float, str)  # random generators have hundreds of ints
    arrays = [] if is_plain else [(leaf.dtype, leaf.shape, leaf.data.tobytes()) for leaf in flatten([value]).leaves]
    yield path, arrays or repr(value)  # the repr of a float has as many digits as its bits need
