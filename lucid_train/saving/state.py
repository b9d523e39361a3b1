"""The state of a run: taken at a safe point, and restored in another process."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, frozen

from lucid_train.callback import Callback
from lucid_train.description import add_note, attributed, class_labels
from lucid_train.group.exchanges import Exchanges
from lucid_train.history import History
from lucid_train.optims.param_groups import read_value, sync, write_value
from lucid_train.progress import Progress, check_like, structure, unstructure
from lucid_train.protocols import MetricObject
from lucid_train.saving.metric_state import load_metric, read_metric
from lucid_train.saving.random_state import RandomState, is_generator
from lucid_train.saving.settings import (
    Options,
    Setup,
    differences,
    differing_options,
    driven_key,
    groups_in,
    is_accepted,
    options,
)
from lucid_train.saving.shards import find_shard, meshes_of, of_parameters, on_meshes
from lucid_train.validation import check_entries, real_number

if TYPE_CHECKING:
    from lucid_train.saving.checkpoint.directory import Loaded


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
        metrics: What the metric objects of the open epoch have gathered, by name.
    """

    setup: Setup
    progress: Progress
    model: Any
    optimizer: Any
    callbacks: dict[str, Any]
    data: Any
    random: dict[str, Any]
    extras: dict[str, Any]
    metrics: dict[str, Any]


@frozen
class Participants:
    """The objects and the settings whose states are, together with its progress, the state of a run."""

    model: Any
    optimizer: Any
    callbacks: Sequence[Callback]
    extras: Mapping[str, Any]
    metrics: Mapping[str, MetricObject]
    data: Any
    random: RandomState
    # The number of epochs, the steps in one if that is known, how often the run is evaluated, if ever, and how many
    # processes there are.
    settings: tuple[int, int | None, int | str | None, int]

    def setup(self, optimizers: Mapping[str, Options], *, resumed: bool = False) -> Setup:
        """Return how the run is set up.

        Args:
            optimizers: The options of the optimizers, as the program has set them.
            resumed: Whether schedules are measured in the length that the run has now, and not when they were bound.
        """
        model, optimizer = (None if each is None else type(each).__name__ for each in (self.model, self.optimizer))
        # One of the first process alone must not change the run: it may come, go and change.
        callbacks = {label: self._settings_of(each, resumed) for label, each in self._labelled() if each.ranks == "all"}
        return Setup(*self.settings, model, optimizer, dict(optimizers), callbacks)

    def _settings_of(self, callback: Callback, resumed: bool) -> dict[str, Any]:
        found, unit = callback.settings(), callback.measured_in()
        if unit is not None and (resumed or found["length"] is None):
            epochs, steps, *_ = self.settings
            found["length"] = epochs if unit == "epoch" else steps and epochs * steps
        return found

    def optimizers(self) -> dict[str, Any]:
        """Return the optimizers by name, those among the extras included."""
        own = {} if self._own_optimizer is None else {"optimizer": self.optimizer}
        extras = {f"extras.{name}": each for name, each in self.extras.items() if hasattr(each, "param_groups")}
        return {**own, **extras}

    @property
    def _own_optimizer(self) -> Any:
        """The run's optimizer, or None if it is one of the extras, which a callback schedules."""
        return None if any(self.optimizer is each for each in self.extras.values()) else self.optimizer

    def options(self) -> dict[str, Options]:
        """Return the options that all optimizers have now."""
        return {name: options(each) for name, each in self.optimizers().items()}

    def state(self, progress: Progress, optimizers: Mapping[str, Options], *, history: bool = True) -> dict[str, Any]:
        """Return the state of a run, as plain JSON but for arrays, which may be the live ones.

        Without its history it costs the same after many epochs as after few.
        """
        if not history:
            progress = copy.copy(progress)
            progress.history = History()
        state = RunState(
            setup=self.setup(optimizers),
            progress=progress,
            callbacks={label: attributed(f"{label}.state_dict", each.state_dict) for label, each in self._labelled()},
            data=self.data.state_dict(),
            random=self.random.read(),
            **self.objects(),
        )
        return dict(unstructure(state))

    def objects(self) -> dict[str, Any]:
        """Return the states of model, optimizer, extras and metric objects, whose arrays may be the live ones."""
        return {
            "model": _state_of("model", self.model),
            "optimizer": _optimizer_state(self._own_optimizer),
            "extras": {name: _state_of(f"extras[{name!r}]", each) for name, each in self._stateful_extras()},
            "metrics": {
                name: attributed(f"metrics[{name!r}].state_dict", read_metric, each)
                for name, each in self.metrics.items()
            },
        }

    def put_back(self, objects: Mapping[str, Any]) -> None:
        """Load what `objects` returned, in the same process, its shards `placed`."""
        self._load(objects)
        for name, optimizer in self.optimizers().items():
            own = name == "optimizer"
            load_optimizer(optimizer, objects["optimizer"] if own else objects["extras"][name.removeprefix("extras.")])

    def _load(self, objects: Mapping[str, Any]) -> None:
        """Load the states of all but optimizers."""
        if self.model is not None:
            attributed("model.load_state_dict", self.model.load_state_dict, objects["model"])
        for name, each in self._stateful_extras():
            if not hasattr(each, "param_groups"):
                attributed(f"extras[{name!r}].load_state_dict", each.load_state_dict, objects["extras"][name])
        for name, metric in self.metrics.items():
            load_metric(f"metrics.{name}", metric, objects["metrics"][name])

    def placed(self, states: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return states whose shards are DTensors on the meshes of what is here.

        Raises:
            ValueError: If one does not fit what is here, naming it.
        """
        if find_shard(states, "state") is None:
            return states
        optimizers = self.optimizers()
        like: dict[str, Any] = {"model": None if self.model is None else _state_of("model", self.model), "extras": {}}
        for name, each in self._stateful_extras():
            if f"extras.{name}" not in optimizers:
                like["extras"][name] = _state_of(f"extras[{name!r}]", each)
        parameters = [group.get("params", ()) for each in optimizers.values() for group in each.param_groups]
        meshes = meshes_of([like, *map(list, parameters)])
        for name, each in optimizers.items():
            own = name == "optimizer"
            held, key = (like, name) if own else (like["extras"], name.removeprefix("extras."))
            held[key] = of_parameters(states.get(name) if own else states.get("extras", {}).get(key), each)
        return {name: on_meshes(state, name, like.get(name), meshes) for name, state in states.items()}

    def restore(
        self, state: Any, accept: Iterable[str], optimizers: Mapping[str, Options]
    ) -> tuple[Progress, dict[str, Options]]:
        """Load everything but data and generators, which follow when the fit has begun.

        Args:
            state: What `state` returned.
            accept: What may differ.
            optimizers: The options of the optimizers, as the program has set them.

        Returns:
            The progress, and the options of the optimizers with which the run goes on.

        Raises:
            ValueError: If it is not the state of such a run, naming what differs.
        """
        read = structure(RunState, state, "state")
        states = {"optimizer": read.optimizer, **{f"extras.{name}": each for name, each in read.extras.items()}}
        here, current = self.setup(optimizers, resumed=True), {name: groups_in(each) for name, each in states.items()}
        differing = differences(here, read.setup, current)
        refused = {name: sentence for name, sentence in differing.items() if not is_accepted(name, accept)}
        # What belongs to another one that is refused goes without saying.
        refused = {
            name: sentence for name, sentence in refused.items() if not is_accepted(name, refused.keys() - {name})
        }
        # Not by "all": it is lost.
        if "segment" in (recorded := state["progress"]["history"]) and "history" not in accept:
            refused["history"] = f"history is not beside the checkpoint, in {recorded['segment']!r:.80}"
        if refused:
            raise ValueError(
                f"the checkpoint is of another set-up: {'; '.join(refused.values())}; "
                f"to go on with the set-up here, pass accept={sorted(refused)!r}"
            )
        extras = dict(self._stateful_extras())
        bound = [name for name, each in extras.items() if hasattr(each, "base_lrs")]
        rebased = [name for name in differing if name.rpartition(".")[0] in optimizers and name.endswith(".lr")]
        if bound and rebased:
            raise ValueError(
                f"{rebased[0]} cannot be accepted, as extras[{bound[0]!r}] has base values of its own; give the "
                f"scheduler to LRSchedulerCallback, which follows"
            )
        check_entries("the state of the extras", read.extras, extras)
        check_entries("the state of the metrics", read.metrics, self.metrics)
        for name, value, held in (
            ("model", self.model, read.model),
            ("optimizer", self._own_optimizer, read.optimizer),
        ):
            if value is not None and held is None:
                raise ValueError(f"'{name}' must be None as in the checkpoint, which has no state of one: {value!r}")
        parts = {name: getattr(read, name) for name in ("model", "optimizer", "extras", "metrics", "callbacks")}
        read = evolve(read, **self.placed(parts))
        states |= {"optimizer": read.optimizer, **{f"extras.{name}": each for name, each in read.extras.items()}}
        for label, callback in self._labelled():
            if label in read.callbacks:
                accepted = is_accepted(label, accept) or any(name.startswith(f"{label}.") for name in differing)
                attributed(f"{label}.resume", callback.resume, read.callbacks[label], accepted=accepted)
        try:
            self._load({"model": read.model, "extras": read.extras, "metrics": read.metrics})
        except Exception as error:
            # PyTorch says which shapes differ, and not whose.
            cure = "resume with what it was saved from, or start over with fit(restart=True) or in another directory"
            add_note(error, f"while a checkpoint was loaded; {cure}")
            raise
        kept = {**read.setup.optimizers}
        for name, optimizer in self.optimizers().items():
            own = {key.removeprefix(f"{name}.") for key in differing if key.startswith(f"{name}.")}
            what = name if name == "optimizer" else f"extras[{name.removeprefix('extras.')!r}]"
            load_optimizer(optimizer, states[name], what, own, here.optimizers[name])
            kept[name] = _merged(here.optimizers[name], kept.get(name, []), own)
        if is_accepted("stopped", accept):
            read.progress.finished_reason = None
        return read.progress, kept

    def unsaved(self, scheduled: Iterable[tuple[Any, Callback]]) -> str | None:
        """Return the label of the first callback that schedules an optimizer which is not saved, or None.

        A wrapper of an optimizer, and what is inside it, train the same parameters and are one.
        """
        saved = list(self.optimizers().values())
        for optimizer, callback in scheduled:
            parameters = _parameters(optimizer)
            if not any(each is optimizer or parameters & _parameters(each) for each in saved):
                return next((label for label, each in self._labelled() if each is callback), type(callback).__name__)
        return None

    def meet(
        self, state: Mapping[str, Any] | None, optimizers: Mapping[str, Options], accept: Iterable[str]
    ) -> dict[str, Options]:
        """Load the state of an optimizer that is known only now, as a callback has brought it when the fit started.

        Returns:
            Its options under its name, if there is one.

        Raises:
            ValueError: If the checkpoint has one and there is none, or one with other options.
        """
        here = {} if self._own_optimizer is None else {"optimizer": options(self.optimizer)}
        if state is None or state["optimizer"] is None:
            return here
        if not here:
            if not is_accepted("optimizer", accept):
                there = state["setup"]["optimizer"]
                raise ValueError(f"optimizer is None here and {there!r} in the checkpoint; pass Trainer(optimizer=...)")
            return {}
        found = differing_options(
            "optimizer", here["optimizer"], optimizers["optimizer"], groups_in(state["optimizer"])
        )
        if found:
            raise ValueError(f"{'; '.join(found.values())}; pass Trainer(optimizer=...) to go on with what is here")
        load_optimizer(self.optimizer, self.placed({"optimizer": state["optimizer"]})["optimizer"])
        return {}

    def _labelled(self) -> Iterator[tuple[str, Callback]]:
        return zip(class_labels(self.callbacks), self.callbacks, strict=True)

    def _stateful_extras(self) -> Iterator[tuple[str, Any]]:
        return ((name, each) for name, each in self.extras.items() if not is_generator(each))


def load_optimizer(
    optimizer: Any,
    state: Any,
    name: str = "optimizer",
    accepted: Iterable[str] = (),
    own: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Load the state of an optimizer, which for one that has nothing but groups are their options.

    Tensors in its groups, such as a rate, stay the objects that they are, on their device: a checkpoint's tensors are
    on the CPU, where an update with them may round differently, and a captured graph would go on with the old ones.

    Args:
        optimizer: The optimizer.
        state: Its state.
        name: Its name, for errors.
        accepted: Options in which the program differs from the checkpoint: the program's count.
        own: What the program has set in each group, as `options` returned it.
    """
    before = [dict(group) for group in optimizer.param_groups]
    if hasattr(optimizer, "load_state_dict"):
        attributed(f"{name}.load_state_dict", optimizer.load_state_dict, state)
        saved: Sequence[dict[str, Any]] = optimizer.param_groups
    else:
        saved = _checked_groups(state, before)
    for held, group, loaded in zip(before, optimizer.param_groups, saved, strict=False):
        group.update({key: _filled(held.get(key), value) for key, value in loaded.items()})
        check_like(f"{name}.param_groups", {**group, "params": None}, held)
    for held, group, chosen in zip(before, optimizer.param_groups, own, strict=False):
        for key in accepted:
            _put_back(group, key, held, chosen)
    sync(optimizer)


def _put_back(group: dict[str, Any], name: str, held: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """Set an option of a group as the program has it; one that a schedule drives goes in proportion to its base."""
    key = driven_key(name)
    initial = f"initial_{key}"
    if name not in held:
        group.pop(name, None)
        return
    if initial not in group:
        group[name] = _filled(held[name], chosen[name]) if _is_filled(held[name]) else held[name]
        return
    base, now = float(group[initial]), read_value(group, key)
    new = chosen[name][0] if name == "betas" else chosen[name]
    group[initial] = _filled(group[initial], new)
    if name == "betas":
        group[name] = _filled(held[name], chosen[name])
    write_value(group, key, now * new / base if base else new)


def _parameters(optimizer: Any) -> set[int]:
    return {id(each) for group in optimizer.param_groups for each in group.get("params", ())}


def _checked_groups(state: Any, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups in the state of an optimizer that has nothing else, or refuse what does not fit."""
    saved = groups_in(state)
    if len(saved) != len(groups):
        raise ValueError(
            f"'state.optimizer.param_groups' must have {len(groups)} groups, as the optimizer: {state!r:.80}"
        )
    for index, (held, loaded) in enumerate(zip(groups, saved, strict=True)):
        for name in dict.fromkeys(["lr", *loaded]):
            where, value = f"state.optimizer.param_groups[{index}][{name!r}]", loaded.get(name)
            if name == "lr" or _is_filled(held.get(name)):
                real_number(where, value, least=0 if name == "lr" else None)
            elif not (isinstance(name, str) and _is_plain(value)):
                raise ValueError(f"{where!r} must be a plain value: {value!r:.80}")
    return [dict(loaded) for loaded in saved]


def _is_filled(held: Any) -> bool:
    """Return whether a value is filled in place: a tensor, a 0-d array, or a tuple that has one."""
    if isinstance(held, tuple):
        return any(map(_is_filled, held))
    return hasattr(held, "fill_") or (isinstance(held, np.ndarray) and held.ndim == 0)


def _filled(held: Any, loaded: Any) -> Any:
    """Return what is filled in place with what was loaded in it; anything else as it was loaded."""
    if isinstance(held, tuple) and isinstance(loaded, (tuple, list)):
        return tuple(map(_filled, held, loaded)) if len(held) == len(loaded) else loaded
    if not _is_filled(held):
        return loaded
    if hasattr(held, "fill_"):
        values = held.detach() if hasattr(held, "detach") else held
        values.copy_(loaded) if hasattr(loaded, "copy_") else values.fill_(float(loaded))
    else:
        held[()] = loaded
    return held


def find_checkpoint(
    resume: str | os.PathLike[str], callbacks: Iterable[Callback], exchanges: Exchanges
) -> Loaded | None:
    """Return the checkpoint to go on from, or None where `resume` is "auto" and there is none.

    In a run of several processes it is the newest that all of them can read.

    Raises:
        ValueError: If "auto" is asked for and no callback keeps checkpoints, or two do.
        FileNotFoundError: If there is nothing at that place.
        CheckpointError: If what is there is damaged.
    """
    # Loaded here: a run that is never saved needs none of it.
    from lucid_train.saving.checkpoint.directory import Directory, load

    path: str | os.PathLike[str] = resume
    if resume == "auto":
        places = [place for callback in callbacks if (place := callback.checkpoints()) is not None]
        if len(places) != 1:
            cure = "pass the directory itself" if places else "add Checkpoint(directory) to them"
            rule = "'resume' may be 'auto' with exactly one Checkpoint among the callbacks"
            raise ValueError(f"{rule}: {len(places)}; {cure}")
        path = places[0]
    elif not isinstance(resume, (str, os.PathLike)):
        raise TypeError(f"'resume' must be a directory, a file or 'auto': {resume!r}")
    file, loaded = Path(path), None
    if not exchanges.is_alone:
        loaded = _found_by_all(file, exchanges)
    elif resume != "auto" and file.is_file():
        loaded = load(file)
    else:
        loaded = Directory(file).last()
    if loaded is None and resume != "auto":
        raise FileNotFoundError(f"'resume' must hold a checkpoint; pass 'auto' to start where there is none: {file}")
    return loaded


def _found_by_all(path: Path, exchanges: Exchanges) -> Loaded | None:
    """Return the newest checkpoint at a place that all processes can read, each with its own part of it."""
    from lucid_train.saving.checkpoint.directory import Directory, load
    from lucid_train.saving.checkpoint.format import CheckpointError

    own = [""] if path.is_file() else [file.name for file in reversed(Directory(path).files())]
    names = exchanges.exchange("where a run is resumed", own)[0]
    damaged: list[str] = []
    for name in names:
        loaded, failure = None, None
        try:
            loaded = load(path / name).of_rank(exchanges.rank, exchanges.world_size)
        except (CheckpointError, OSError) as error:
            failure = str(error)
        given = exchanges.exchange("reading a checkpoint", failure)
        failures = [f"rank {rank}: {each}" for rank, each in enumerate(given) if each is not None]
        if not failures:
            if damaged and exchanges.is_first:
                sentence = f"{'; '.join(damaged)}; resuming from the one before, {path / name}"
                warnings.warn(sentence, UserWarning, stacklevel=2)
            return loaded
        damaged += failures[:4]
    if damaged:
        raise CheckpointError(f"no checkpoint in {path} is whole for all processes: {'; '.join(damaged)}")
    return None


def check_other_world(found: Loaded, world_size: int, accept: Iterable[str]) -> None:
    """Refuse to go on from what other numbers of processes have saved, where what they had cannot be shared out.

    Args:
        found: What is gone on from.
        world_size: How many processes there are.
        accept: What may differ. What is named, by more than "all", is that of the first process on all.

    Raises:
        ValueError: If the run was saved within an epoch, or weights differed from process to process.
    """
    saved = 1 if found.parted is None else found.parted.world_size
    if saved == world_size:
        return
    phase = found.state["progress"]["phase"] if isinstance(found.state, Mapping) else None
    if phase != "between":
        raise ValueError(
            f"'accept' may have 'world_size' where a checkpoint was written at an epoch's end: {found.file} is of "
            f"{saved} processes within an epoch, and there are {world_size} here"
        )
    differing = [] if found.parted is None else found.parted.differing
    parts = [each for each in differing if not (each.startswith("callbacks") or each in accept)]
    if parts:
        raise ValueError(
            f"'accept' must not have 'world_size' alone where processes have weights of their own, {', '.join(parts)}: "
            f"{found.file} is of {saved}, and there are {world_size} here; pass accept={['world_size', *parts]} to go "
            "on with those of the first one, or export shards as docs/guides/many_processes.md shows, and begin a new "
            "run"
        )


def check_weights(state: Mapping[str, Any]) -> None:
    """Refuse the state of a run that trains, if neither its model nor one of its extras has weights.

    An extra has weights if its state holds arrays of floats. Those of optimizers, which have groups, do not count, nor
    do single numbers, such as a scheduler's.

    Raises:
        ValueError: If the weights would be lost.
    """
    if not has_weights(state):
        raise ValueError(
            "'model' must be given to be saved: this run trains, and resumed it would go on with other weights; pass "
            "Trainer(model=...), several models as extras={'generator': ..., ...}, or Checkpoint(..., weights=False) "
            "if there are none to be kept"
        )


def has_weights(state: Mapping[str, Any]) -> bool:
    """Return whether the state of a run has that of a model, or weights in its extras; see `check_weights`."""
    return state["model"] is not None or any(map(_has_weights, state["extras"].values()))


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
    held = [{name: _plain(value) for name, value in group.items()} for group in optimizer.param_groups]
    return {"param_groups": [{name: value for name, value in group.items() if _is_plain(value)} for group in held]}


def _plain(value: Any) -> Any:
    """Return a number of a library as Python's, but for numpy's scalars, which can be saved as they are."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, np.generic):
        return value
    return float(value) if _is_filled(value) else value.item() if getattr(value, "ndim", None) == 0 else value


def _is_plain(value: Any) -> bool:
    """Return whether an option is a value that can be saved: parameters, functions and the like are not."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.generic))


def _merged(here: Options, there: Options, accepted: Iterable[str]) -> Options:
    """Return the options of a checkpoint's groups, but for those accepted, which are those here."""
    if len(here) != len(there):
        return here
    return [{**old, **{name: new.get(name) for name in accepted}} for new, old in zip(here, there, strict=True)]
