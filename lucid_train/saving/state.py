"""The state of a Trainer: taken when a run is settled, and taken up again by another Trainer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lucid_train.optims.param_groups import read_rates, write_value
from lucid_train.saving.random_state import RandomState, is_generator
from lucid_train.saving.settings import configuration, differences, is_accepted, labels
from lucid_train.training.run import OpenEpoch, Run
from lucid_train.validation import check_entries

if TYPE_CHECKING:
    from lucid_train.training.trainer import Trainer

_NUMBER = (int, float)
# What each entry must be; what the user's own objects make of theirs is for them to check.
_FORM: dict[str, Any] = {
    "config": {"epochs": int, "callbacks": dict},
    "run": {"epoch": int, "step": int, "steps_per_epoch": (int, type(None)), "over": (str, type(None))},
    "history": dict,
    "open_epoch": (dict, type(None)),
    "model": object,
    "optimizer": object,
    "callbacks": dict,
    "data": {"state": object, "left": bool},
    "random": dict,
    "extras": dict,
}
_OPEN: dict[str, Any] = {
    "first_step": int,
    "trained": bool,
    "totals": dict,
    "counts": dict,
    "total": _NUMBER,
    "count": int,
    "seconds": _NUMBER,
    "rates": (list, type(None)),
    "random": (list, type(None)),
}


def find(resume: str | os.PathLike[str], trainer: Trainer, restart: bool) -> Any:
    """Return the state to go on from, or None where `resume` is "auto" and there is none.

    Raises:
        ValueError: If "auto" is asked for and no callback keeps checkpoints, or two do, or with a restart.
        FileNotFoundError: If there is nothing at that place.
        CheckpointError: If what is there is damaged.
    """
    if restart:
        raise ValueError("'resume' must not be given with restart=True: to resume is not to start over")
    # Loaded here: a run that is never saved needs none of it.
    from lucid_train.saving.checkpoint.directory import Directory
    from lucid_train.saving.checkpoint.format import read_checkpoint

    if resume == "auto":
        places = [place for callback in trainer.callbacks if (place := callback.checkpoints()) is not None]
        if len(places) != 1:
            raise ValueError(f"'resume' must be a directory or a file with {len(places)} Checkpoint callbacks: 'auto'")
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


def names(accept: str | Iterable[str]) -> list[str]:
    """Return what is accepted as a list of names."""
    return [accept] if isinstance(accept, str) else list(accept)


def warn_if_nothing_is_left(run: Run, goal: int, over: str | None) -> None:
    """Warn whoever called `fit` if it is not going to train; `over` says why a callback ended the run."""
    if over is not None:
        warnings.warn(f"nothing left to train: {over}; pass accept='stopped' to go on", UserWarning, stacklevel=3)
    elif goal <= len(run.history) and run.history:
        message = f"nothing left to train: {len(run.history)} epochs are done; pass more epochs, or restart=True"
        warnings.warn(message, UserWarning, stacklevel=3)


@contextmanager
def _fitting() -> Iterator[None]:
    """Say of errors that only a state of the wrong form brings about that this is what they are."""
    try:
        yield
    except (AttributeError, KeyError, IndexError, OverflowError, TypeError) as error:
        raise ValueError(f"the checkpoint does not fit: {type(error).__name__}: {error}") from error


def capture(trainer: Trainer, run: Run, random: RandomState) -> dict[str, Any]:
    """Return the state of a run that is settled."""
    epochs = trainer.epochs if run.status == "ready" else run.epochs
    own = zip(labels(trainer.callbacks), trainer.callbacks, strict=True)
    return {
        "config": configuration(trainer, run, epochs),
        "run": {
            "epoch": run.epoch,
            "step": run.step,
            "steps_per_epoch": run.steps_per_epoch,
            "over": run.over,
        },
        "history": run.history.state_dict(),
        "open_epoch": None if run.open_epoch is None else _captured(run.open_epoch),
        "model": _state_of("model", trainer.model),
        "optimizer": _optimizer_state(trainer.optimizer if run.optimizer is None else run.optimizer),
        "callbacks": {name: callback.state_dict() for name, callback in own},
        "data": trainer.passes.state(run),
        "random": random.read(),
        "extras": {name: each.state_dict() for name, each in trainer.extras.items() if not is_generator(each)},
    }


def restore(trainer: Trainer, state: Mapping[str, Any], epochs: int, accept: Iterable[str]) -> Run:
    """Load model, optimizer and callbacks, and return the run, which `go_on` makes complete once the fit has begun.

    Raises:
        ValueError: If the state is not that of such a Trainer, naming what differs.
    """
    with _fitting():
        return _restored(trainer, state, epochs, accept)


def _restored(trainer: Trainer, state: Mapping[str, Any], epochs: int, accept: Iterable[str]) -> Run:
    _refuse_form(state)
    run = Run(model=trainer.model, optimizer=trainer.optimizer)
    differing = differences(configuration(trainer, run, epochs), state["config"])
    refused = {name: sentence for name, sentence in differing.items() if not is_accepted(name, accept)}
    if refused:
        raise ValueError(
            f"the checkpoint is of another set-up: {'; '.join(refused.values())}; "
            f"to go on all the same as it is here, pass accept={sorted(refused)!r}"
        )
    own = {name: each for name, each in trainer.extras.items() if not is_generator(each)}
    check_entries("the state of the extras", dict(state["extras"]), own)
    for name, value in (("model", trainer.model), ("optimizer", trainer.optimizer)):
        if value is not None and state[name] is None:
            raise ValueError(f"'{name}' must be None as in the checkpoint, which has no state of one: {value!r}")
    for name, callback in zip(labels(trainer.callbacks), trainer.callbacks, strict=True):
        if name in state["callbacks"]:
            accepted = is_accepted(name, accept) or any(difference.startswith(f"{name}.") for difference in differing)
            callback.resume(state["callbacks"][name], accepted=accepted)
    if trainer.model is not None:
        trainer.model.load_state_dict(state["model"])
    if trainer.optimizer is not None:
        _load_optimizer(trainer.optimizer, state["optimizer"])
    for name, each in own.items():
        each.load_state_dict(state["extras"][name])
    run.epoch, run.step = int(state["run"]["epoch"]), int(state["run"]["step"])
    run.steps_per_epoch = state["run"]["steps_per_epoch"]
    run.history.load_state_dict(state["history"])
    run.resumed = True
    run.over = None if is_accepted("stopped", accept) else state["run"]["over"]
    return run


def go_on(trainer: Trainer, run: Run, random: RandomState, state: Mapping[str, Any]) -> None:
    """Bring the data and the random generators to where they stood; what FitStart set off is done.

    Raises:
        ValueError: If the data or the generators are not those of the checkpoint.
    """
    with _fitting():
        _go_on(trainer, run, random, state)


def _go_on(trainer: Trainer, run: Run, random: RandomState, state: Mapping[str, Any]) -> None:
    if trainer.optimizer is None and run.optimizer is not None and state["optimizer"] is not None:
        _load_optimizer(run.optimizer, state["optimizer"])  # one that a callback brought
    passes, part = trainer.passes, state["open_epoch"]
    passes.load(run, state["data"])
    if part is not None:
        first_step = int(part["first_step"])
        if not 0 <= first_step <= run.step:
            raise ValueError(f"the open epoch does not fit: it began after step {first_step}, of {run.step}")
        if part["trained"]:
            run.open_epoch = OpenEpoch(iter(()), first_step, trained=True)
        else:
            run.open_epoch = passes.take_up(run, run.step - first_step, random, part["random"])
        _fill(run.open_epoch, part)
    random.write(state["random"])


def _captured(part: OpenEpoch) -> dict[str, Any]:
    total, count = part.means.floats
    now = 0.0 if part.began is None else perf_counter() - part.began
    return {
        "first_step": part.first_step,
        "trained": part.trained,
        "totals": dict(part.means.totals),
        "counts": dict(part.means.counts),
        "total": float(total),
        "count": count,
        "seconds": part.seconds + now,
        "rates": None if part.rates is None else [float(rate) for rate in part.rates],
        "random": None if part.random is None else list(part.random),
    }


def _fill(part: OpenEpoch, state: Mapping[str, Any]) -> None:
    part.means.totals, part.means.counts = dict(state["totals"]), dict(state["counts"])
    part.means.floats = float(state["total"]), int(state["count"])
    part.seconds = float(state["seconds"])
    part.rates = None if state["rates"] is None else [float(rate) for rate in state["rates"]]


def _state_of(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not (hasattr(value, "state_dict") and hasattr(value, "load_state_dict")):
        raise TypeError(f"{name!r} must have state_dict() and load_state_dict() to be saved: {value!r}")
    return value.state_dict()


def _optimizer_state(optimizer: Any) -> Any:
    if optimizer is None or hasattr(optimizer, "state_dict"):
        return _state_of("optimizer", optimizer)
    return {"rates": read_rates(optimizer)}  # one that has nothing but groups


def _load_optimizer(optimizer: Any, state: Any) -> None:
    if hasattr(optimizer, "load_state_dict"):
        optimizer.load_state_dict(state)
        return
    check_entries("the state of the optimizer", dict(state), ["rates"])
    for group, rate in zip(optimizer.param_groups, state["rates"], strict=True):
        write_value(group, "lr", float(rate))


def _refuse_form(state: Any) -> None:
    if not isinstance(state, Mapping):
        raise ValueError(f"the state must be one of a Trainer: {state!r:.80}")
    check_entries("the state of the Trainer", dict(state), _FORM)
    _refuse_kinds("the state", state, _FORM)
    if state["open_epoch"] is not None:
        check_entries("the state of the open epoch", state["open_epoch"], _OPEN)
        _refuse_kinds("the open epoch", state["open_epoch"], _OPEN)
        for before in state["open_epoch"]["random"] or ():
            _refuse_kinds("the open epoch", {"random": before}, {"random": dict})
    for label, settings in state["config"]["callbacks"].items():
        _refuse_kinds("the config", {label: settings}, {label: dict})


def _refuse_kinds(what: str, entries: Mapping[str, Any], form: Mapping[str, Any]) -> None:
    for name, kind in form.items():
        value = entries.get(name)
        if not isinstance(value, dict if isinstance(kind, dict) else kind):
            raise ValueError(f"{what} does not fit: {name!r} must not be {value!r:.80}")
        if isinstance(kind, dict):
            _refuse_kinds(f"{what}, {name!r},", value, kind)
