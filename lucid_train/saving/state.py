"""The state of a run: taken at a safe point, and restored in another process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from lucid_train.callback import Callback
from lucid_train.description import attributed, class_labels
from lucid_train.optims.param_groups import read_rates, write_value
from lucid_train.progress import Progress, structure, unstructure
from lucid_train.saving.random_state import RandomState, is_generator
from lucid_train.saving.settings import Setup, differences, is_accepted
from lucid_train.validation import check_entries


@frozen
class RunState:
    """What a state consists of; all of it is checked before any of it is loaded.

    Args:
        setup: How the run was set up.
        progress: What it had come to.
        model: The model's state, or None.
        optimizer: The optimizer's, or None.
        callbacks: The state of each callback, by its label.
        data: Where the data said that it stood, or None.
        random: Where the random generators stood.
        extras: The states of what else belongs to the run, by name.
    """

    setup: Setup
    progress: Progress
    model: Any
    optimizer: Any
    callbacks: dict[str, Any]
    data: Any
    random: dict[str, Any]
    extras: dict[str, Any]


@frozen
class _Rates:
    """The state of an optimizer that has nothing but groups."""

    rates: list[float]


@frozen
class Participants:
    """The objects and the settings whose states are, together with its progress, the state of a run."""

    model: Any
    optimizer: Any
    callbacks: Sequence[Callback]
    extras: Mapping[str, Any]
    data: Any
    random: RandomState
    # The number of epochs, the steps in one if that is known, and how often the run is evaluated, if ever.
    settings: tuple[int, int | None, int | str | None]

    @property
    def setup(self) -> Setup:
        """How the run is set up."""
        model, optimizer = (None if each is None else type(each).__name__ for each in (self.model, self.optimizer))
        return Setup(*self.settings, model, optimizer, {label: each.settings() for label, each in self._labelled()})

    def state(self, progress: Progress) -> dict[str, Any]:
        """Return the state of a run, as plain JSON but for arrays, which may be the live ones."""
        state = RunState(
            setup=self.setup,
            progress=progress,
            model=_state_of("model", self.model),
            optimizer=_optimizer_state(self.optimizer),
            callbacks={label: attributed(f"{label}.state_dict", each.state_dict) for label, each in self._labelled()},
            data=self.data.state_dict(),
            random=self.random.read(),
            extras={name: _state_of(f"extras[{name!r}]", each) for name, each in self._stateful_extras()},
        )
        return dict(unstructure(state))

    def restore(self, state: Any, accept: Iterable[str]) -> Progress:
        """Load everything but data and generators, which follow when the fit has begun, and return the progress.

        Raises:
            ValueError: If it is not the state of such a run, naming what differs.
        """
        read = structure(RunState, state, "state")
        differing = differences(self.setup, read.setup)
        refused = {name: sentence for name, sentence in differing.items() if not is_accepted(name, accept)}
        if refused:
            raise ValueError(
                f"the checkpoint is of another set-up: {'; '.join(refused.values())}; "
                f"to go on with the set-up here, pass accept={sorted(refused)!r}"
            )
        extras = dict(self._stateful_extras())
        check_entries("the state of the extras", read.extras, extras)
        for name, value, held in (("model", self.model, read.model), ("optimizer", self.optimizer, read.optimizer)):
            if value is not None and held is None:
                raise ValueError(f"'{name}' must be None as in the checkpoint, which has no state of one: {value!r}")
        for label, callback in self._labelled():
            if label in read.callbacks:
                accepted = is_accepted(label, accept) or any(name.startswith(f"{label}.") for name in differing)
                attributed(f"{label}.resume", callback.resume, read.callbacks[label], accepted=accepted)
        if self.model is not None:
            attributed("model.load_state_dict", self.model.load_state_dict, read.model)
        if self.optimizer is not None:
            load_optimizer(self.optimizer, read.optimizer)
        for name, each in extras.items():
            attributed(f"extras[{name!r}].load_state_dict", each.load_state_dict, read.extras[name])
        if is_accepted("stopped", accept):
            read.progress.finished_reason = None
        return read.progress

    def _labelled(self) -> Iterator[tuple[str, Callback]]:
        return zip(class_labels(self.callbacks), self.callbacks, strict=True)

    def _stateful_extras(self) -> Iterator[tuple[str, Any]]:
        return ((name, each) for name, each in self.extras.items() if not is_generator(each))


def load_optimizer(optimizer: Any, state: Any) -> None:
    """Load the state of an optimizer, which for one that has nothing but groups are its rates.

    Tensors in its groups, such as a rate, stay the objects that they are, on their device: a checkpoint's tensors are
    on the CPU, where an update with them may round differently, and a captured graph would go on with the old ones.
    """
    if hasattr(optimizer, "load_state_dict"):
        before = [dict(group) for group in optimizer.param_groups]
        attributed("optimizer.load_state_dict", optimizer.load_state_dict, state)
        for held, group in zip(before, optimizer.param_groups, strict=False):
            group.update({name: _filled(held[name], value) for name, value in group.items() if name in held})
        return
    rates, groups = structure(_Rates, state, "state.optimizer").rates, optimizer.param_groups
    if len(rates) != len(groups):
        raise ValueError(f"'state.optimizer.rates' must have one rate for each of {len(groups)} groups: {rates}")
    for group, rate in zip(groups, rates, strict=True):
        write_value(group, "lr", rate)


def _filled(held: Any, loaded: Any) -> Any:
    """Return a tensor that is held, or a tuple of them, with what was loaded in it; anything else as it was loaded."""
    if isinstance(held, tuple) and isinstance(loaded, (tuple, list)):
        return tuple(map(_filled, held, loaded)) if len(held) == len(loaded) else loaded
    if not hasattr(held, "fill_"):
        return loaded
    values = held.detach()
    values.copy_(loaded) if hasattr(loaded, "copy_") else values.fill_(float(loaded))
    return held


def find_state(resume: str | os.PathLike[str], callbacks: Iterable[Callback]) -> Any:
    """Return the state to go on from, or None where `resume` is "auto" and there is none.

    Raises:
        ValueError: If "auto" is asked for and no callback keeps checkpoints, or two do.
        FileNotFoundError: If there is nothing at that place.
        CheckpointError: If what is there is damaged.
    """
    # Loaded here: a run that is never saved needs none of it.
    from lucid_train.saving.checkpoint.directory import Directory
    from lucid_train.saving.checkpoint.format import read_checkpoint

    if resume == "auto":
        places = [place for callback in callbacks if (place := callback.checkpoints()) is not None]
        if len(places) != 1:
            raise ValueError(f"'resume' may be 'auto' with exactly one Checkpoint among the callbacks: {len(places)}")
        return Directory(places[0]).newest()
    if not isinstance(resume, (str, os.PathLike)):
        raise TypeError(f"'resume' must be a directory, a file or 'auto': {resume!r}")
    path = Path(resume)
    if path.is_file():
        return read_checkpoint(path)
    state = Directory(path).newest()
    if state is None:
        raise FileNotFoundError(f"'resume' must hold a checkpoint; pass 'auto' to start where there is none: {path}")
    return state


def check_weights(state: Mapping[str, Any]) -> None:
    """Refuse the state of a run that trains, if neither its model nor one of its extras has weights.

    An extra has weights if its state holds arrays of floats. Those of optimizers, which have groups, do not count, nor
    do single numbers, such as a scheduler's.

    Raises:
        ValueError: If the weights would be lost.
    """
    if state["model"] is None and not any(map(_has_weights, state["extras"].values())):
        raise ValueError(
            "'model' must be given to be saved: this run trains, and resumed it would go on with other weights; pass "
            "Trainer(model=...), several models as extras={'generator': ..., ...}, or Checkpoint(..., weights=False) "
            "if there are none to be kept"
        )


def _has_weights(state: Any) -> bool:
    if isinstance(state, Mapping):
        return "param_groups" not in state and any(map(_has_weights, state.values()))
    if isinstance(state, (list, tuple)):
        return any(map(_has_weights, state))
    return getattr(state, "ndim", 0) > 0 and "float" in str(getattr(state, "dtype", ""))


def _state_of(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
        raise TypeError(f"{name!r} must have state_dict() and load_state_dict() to be saved: {value!r}")
    return attributed(f"{name}.state_dict", value.state_dict)


def _optimizer_state(optimizer: Any) -> Any:
    if optimizer is None or hasattr(optimizer, "state_dict"):
        return _state_of("optimizer", optimizer)
    return unstructure(_Rates(read_rates(optimizer)))
