"""WeightAverage: a moving average of the weights, or their mean, with which the run is evaluated."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, final

import numpy as np
from attrs import define, field, frozen

from lucid_train.callback import TRANSIENT, Callback, Hook
from lucid_train.callbacks.lr_scheduler import run_length, warn_of_longer_run
from lucid_train.events import EpochEnd, EvaluateStart, Event, FitStart, StepEnd
from lucid_train.progress import check_like
from lucid_train.protocols import Stateful
from lucid_train.schedules.length import count_or_share, counted, rounded, share
from lucid_train.schedules.length import every as how_often
from lucid_train.schedules.schedule import Schedule, check_is_value
from lucid_train.training.run import Run
from lucid_train.validation import check_entries, checked, choice, flag, real_number, whole_number

Interval = Literal["step", "epoch"]


def _decay(name: str, value: Any) -> None:
    if isinstance(value, Schedule):
        check_is_value(value, name)
    elif value is not None:
        real_number(name, value, least=0, below=1)


@final
@define(eq=False)
class WeightAverage(Callback):
    """Average the weights while they are trained, and evaluate the run with the average.

    An exponential moving average, `average += (1 - decay) * (weights - average)`, or with `decay=None` the mean of all
    weights that were taken, as stochastic weight averaging (SWA) does. The first weights are copied. Updates are
    counted, not batches: a step that accumulates gradients, or skips its update, is passed over.

    While `evaluate` runs, the model has the averaged weights; its own are back before EvaluateEnd, also when
    the evaluation raises. Until the first weights are taken, it is evaluated with its own. Training never sees the
    average: after the fit, load it with `model.load_state_dict(average.weights)`.

    A checkpoint has both: the model's own weights, with which a run goes on, and the average, with which it was
    evaluated. `load_weights(directory, name="WeightAverage")` returns the average in best.safetensors.

    All that the model's `state_dict` has is averaged if it holds floats, the statistics of a batch norm included, and
    copied otherwise. Tensors stay on their device; floats of less than 32 bits are averaged in float32.

    Args:
        decay: The share of the average that stays at an update, at least 0 and below 1; or a schedule of it, whose
            time is the updates, or epochs, before that one; or None for the mean.
        warmup: Whether the decay is at most `(1 + n) / (10 + n)` where `n` weights have been taken, so that the first
            ones are forgotten soon. Without effect on a mean.
        interval: What `every`, `start` and a schedule count: "step" for updates, or "epoch". At an epoch's end weights
            are taken before it is evaluated.
        every: How many of them lie between two weights that are taken. At least 1.
        start: The count at which weights are taken for the first time: a number, or a share of the run such as "75%".
        length: How many updates, or epochs, the run has, for lengths that are shares of the run or left out. By default
            the fit's steps, or epochs. Needed where that is not known, or fewer updates than steps are performed.
        model: The model to average, with `state_dict` and `load_state_dict`; by default the run's.

    Attributes:
        weights: The averaged state of the model, for its `load_state_dict`; None before the first weights are taken.
        averaged: How many weights have been taken.

    Raises:
        ValueError: In `fit`, before the first step, if there is no model, another callback averages the same one, or a
            length is needed and not known; later, if a schedule's decay is not from 0 to 1, or the model replaces its
            parameters when it loads a state.

    >>> import numpy as np
    >>> from lucid_train import StepEnd, Trainer, nn, optims
    >>> model = nn.Linear(1, 1, rng=0)
    >>> def train_step(batch):
    ...     model.weight.data[...] = batch
    >>> average = WeightAverage(decay=None)
    >>> history = Trainer(train_step, data=[1.0, 2.0, 6.0], model=model, callbacks=[average]).fit()
    >>> average.weights["weight"], average.averaged
    (array([[3.]]), 3)
    """

    decay: float | Schedule | None = field(default=0.999, validator=checked(_decay))
    warmup: bool = field(default=True, kw_only=True, validator=checked(flag))
    interval: Interval = field(default="step", kw_only=True, validator=choice("step", "epoch"))
    every: int = field(default=1, kw_only=True, validator=checked(whole_number, least=1))
    start: int | str = field(default=0, kw_only=True, validator=checked(count_or_share, least=0))
    length: int | None = field(default=None, kw_only=True, validator=checked(whole_number, least=1))
    model: Stateful | None = field(default=None, kw_only=True, repr=False)
    weights: Any = field(default=None, init=False, repr=False)
    averaged: int = field(default=0, init=False, repr=False)
    # The updates, or epochs, so far; and whether the open epoch is one of them, as its evaluation has begun.
    _count: int = field(default=0, init=False, repr=False)
    _counted: bool = field(default=False, init=False, repr=False)
    # The length in which shares are measured, what the decay and the start then are.
    _measured: int | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _decay_of: Schedule | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _first: int = field(default=0, init=False, repr=False, metadata=TRANSIENT)

    def hooks(self, event: type[Event]) -> list[Hook]:
        return [] if event is (EpochEnd if self.interval == "step" else StepEnd) else super().hooks(event)

    def settings(self) -> dict[str, Any]:
        decay = repr(self.decay) if isinstance(self.decay, Schedule) else self.decay
        return {**super().settings(), "decay": decay, "length": self.length or self._measured}

    def measured_in(self) -> Interval | None:
        unsized = isinstance(self.decay, Schedule) and not self.decay.is_sized
        return self.interval if self.length is None and (unsized or isinstance(self.start, str)) else None

    def describe(self) -> dict[str, str]:
        unit = "update" if self.interval == "step" else "epoch"
        decay = self.decay.words(self.interval) if isinstance(self.decay, Schedule) else f"{self.decay}"
        kind = "the mean" if self.decay is None else f"decay {decay}{' after a warm-up' if self.warmup else ''}"
        start = f" from {counted(self.start, unit)} on" if self.start else ""
        use = "evaluations use the average, checkpoints hold both"
        return {"averaging": f"weights, {kind}, {how_often(self.every, unit)}{start}; {use}"}

    def state_dict(self) -> dict[str, Any]:
        """Return the state; its arrays are the live ones, as those of a model may be."""
        counts = {"averaged": self.averaged, "count": self._count, "counted": self._counted}
        return {"weights": _mapped(self.weights), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._measured = None

    def reset(self) -> None:
        super().reset()
        self._measured = None

    def on_fit_start(self, event: FitStart) -> None:
        model, run = self._model(event.run), event.run
        if model is None:
            raise ValueError("WeightAverage needs a model: pass Trainer(model=...) or WeightAverage(..., model=...)")
        for other in run.callbacks:
            if isinstance(other, WeightAverage) and other is not self and other._model(run) is model:
                raise ValueError(f"'callbacks' must have one WeightAverage per model: {other!r} and {self!r}")
        if self.weights is not None:
            now = model.state_dict()
            check_like("the averaged weights", self.weights, now)
            self.weights = _placed(self.weights, now, "the averaged weights")
        if self.measured_in() is not None:
            warn_of_longer_run(type(self).__name__, self._measured_words(), self._measured, run, self.interval)
            self._measured = self._measured or run_length(run, self.interval)
            if self._measured is None and run.epochs:
                raise ValueError(
                    f"the length of the run must be known for {self!r}; pass WeightAverage(..., length=...)"
                )
        length = self.length or self._measured
        if isinstance(self.decay, Schedule):
            self._decay_of = self.decay if length is None else self.decay.sized(length)
        if not isinstance(self.start, str):
            self._first = self.start
        elif length is not None:
            self._first = max(1, rounded(share(self.start) * length))

    def on_step_end(self, event: StepEnd) -> None:
        if event.updated:
            self._advance(event.run)

    def on_epoch_end(self, event: EpochEnd) -> None:
        if not self._counted:
            self._advance(event.run)
        self._counted = False

    @contextmanager
    def during_evaluation(self, event: EvaluateStart) -> Iterator[None]:
        if self.interval == "epoch" and not event.within_epoch and not self._counted:
            self._counted = True
            self._advance(event.run)
        if self.weights is None:
            yield
            return
        model = self._model(event.run)
        # PyTorch's modules copy what they load. Others may keep the arrays: they get copies of the average, and their
        # very own arrays back, which the optimizer changes.
        copies = callable(getattr(model, "modules", None))
        live = model.state_dict() if copies else _mapped(model.state_dict())
        own, trained = _mapped(live, _copied), _parameters(model)
        try:
            model.load_state_dict(_mapped(self.weights) if copies else _mapped(self.weights, _copied))
            if any(one is not other for one, other in zip(trained, _parameters(model), strict=False)):
                raise ValueError(
                    "the model's load_state_dict() must copy into its parameters, which the optimizer changes, and not "
                    f"replace them, as PyTorch's does with assign=True: {type(model).__name__}"
                )
            yield
        finally:
            try:
                model.load_state_dict(_mapped(own) if copies else _refilled(live, own))
            except KeyboardInterrupt:  # a second Ctrl-C may come at any moment, and half of the weights would be back
                model.load_state_dict(own if copies else _refilled(live, own))
                raise

    def _measured_words(self) -> str:
        """Return what is measured in the run's length, as it was written."""
        decay = f"decay={self.decay!r}" if isinstance(self.decay, Schedule) and not self.decay.is_sized else ""
        return " and ".join(filter(None, (decay, f"start={self.start!r}" if isinstance(self.start, str) else "")))

    def _model(self, run: Run) -> Any:
        return run.model if self.model is None else self.model

    def _advance(self, run: Run) -> None:
        """Count an update, or an epoch, and take the weights if that is due."""
        self._count += 1
        if self._count < self._first or (self._count - self._first) % self.every:
            return
        now = self._model(run).state_dict()
        if self.weights is None:
            self.weights = _mapped(now, _widened)
        else:
            weight, tensors = self._weight(), _Tensors()
            self.weights = _blended(self.weights, now, weight, tensors)
            tensors.blend(weight)
        self.averaged += 1

    def _weight(self) -> float:
        """Return the share of the way that the average goes to the weights which are taken."""
        n, of = self.averaged, self._decay_of
        if self.decay is None:
            return 1 / (n + 1)
        decay: Any = self.decay if of is None else real_number("decay", of(self._count - 1), least=0, most=1)
        return 1 - float(min(decay, (1 + n) / (10 + n)) if self.warmup else decay)


@frozen
class _Tensors:
    """The tensors of an average and of a model, to be averaged with few calls.

    Attributes:
        floats: Those of floats, by device and dtype: the average's and the model's.
        others: All others, which are copied.
    """

    floats: dict[Any, tuple[list[Any], list[Any]]] = field(factory=dict, init=False)
    others: tuple[list[Any], list[Any]] = field(factory=lambda: ([], []), init=False)

    def add(self, held: Any, now: Any) -> None:
        """Add a pair."""
        now = now.detach()
        if not _has_floats(held):
            ours, theirs = self.others
        else:
            ours, theirs = self.floats.setdefault((held.device, held.dtype), ([], []))
            now = now.to(held.dtype)
        ours.append(held)
        theirs.append(now)

    def blend(self, weight: float) -> None:
        """Let each tensor of the average go by a share of the way to the model's."""
        torch: Any = sys.modules.get("torch")
        for ours, theirs in self.floats.values():
            torch._foreach_lerp_(ours, theirs, weight)
        if self.others[0]:
            torch._foreach_copy_(*self.others)


def _blended(held: Any, now: Any, weight: float, tensors: _Tensors) -> Any:
    """Return an average that has gone by a share of the way to a model's state; its arrays are changed in place."""
    if isinstance(now, Mapping):
        if held.keys() != now.keys():
            check_entries("the state of the model", now, held)
        for name, value in now.items():
            held[name] = _blended(held[name], value, weight, tensors)
        return held
    if isinstance(now, (list, tuple)):
        return _sequence(now, [_blended(one, other, weight, tensors) for one, other in zip(held, now, strict=True)])
    if _is_tensor(now):
        tensors.add(held, now)
        return held
    if not _has_floats(now):
        return _copied(now)
    if isinstance(held, np.ndarray):
        held += weight * (now - held)
        return held
    return held + weight * (now - held)  # a number, or an array that cannot be changed, such as JAX's


def _mapped(value: Any, function: Callable[[Any], Any] = lambda leaf: leaf) -> Any:
    """Return the state of a model with new dicts and lists, and a function applied to all that is in them."""
    if isinstance(value, Mapping):
        found = copy.copy(value) if isinstance(value, MutableMapping) else {}  # PyTorch's has an attribute, _metadata
        for name, each in value.items():
            found[name] = _mapped(each, function)
        return found
    if isinstance(value, (list, tuple)):
        return _sequence(value, [_mapped(each, function) for each in value])
    return function(value)


def _parameters(model: Any) -> list[Any]:
    return [*model.parameters()] if callable(getattr(model, "parameters", None)) else []


def _refilled(live: Any, own: Any) -> Any:
    """Return the state of a model with new dicts and lists, its arrays filled with copies that were taken of them."""
    if isinstance(own, Mapping):
        found = copy.copy(own) if isinstance(own, MutableMapping) else {}
        for name, each in own.items():
            found[name] = _refilled(live[name], each)
        return found
    if isinstance(own, (list, tuple)):
        return _sequence(own, [_refilled(one, other) for one, other in zip(live, own, strict=True)])
    if _is_tensor(own):
        live.detach().copy_(own)
    elif isinstance(own, np.ndarray) and live.flags.writeable:
        live[...] = own
    else:
        return own
    return live


def _sequence(like: Any, items: list[Any]) -> Any:
    """Return items as a list or a tuple of the same class."""
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


def _copied(leaf: Any) -> Any:
    # Not by deepcopy: two tensors that share their memory would do so in the copy, and be averaged twice.
    return leaf.detach().clone() if _is_tensor(leaf) else copy.deepcopy(leaf)


def _widened(leaf: Any) -> Any:
    """Return a copy in which small changes are not rounded away."""
    if not (hasattr(leaf, "dtype") and _has_floats(leaf) and leaf.dtype.itemsize < 4):
        return _copied(leaf)
    return leaf.detach().float() if _is_tensor(leaf) else leaf.astype(np.float32)


def _placed(held: Any, now: Any, name: str) -> Any:
    """Return an average that was saved, its tensors on the devices of the model's."""
    if isinstance(now, Mapping):
        check_entries(name, held, now)
        for key, value in now.items():
            held[key] = _placed(held[key], value, f"{name}.{key}")
        return held
    if isinstance(now, (list, tuple)):
        pairs = enumerate(zip(held, now, strict=True))
        return _sequence(now, [_placed(one, other, f"{name}[{index}]") for index, (one, other) in pairs])
    shapes = [tuple(getattr(each, "shape", ())) for each in (held, now)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name!r} must have the shape of the model's, {shapes[1]}: {shapes[0]}")
    return held.to(now.device) if _is_tensor(now) else held


def _has_floats(leaf: Any) -> bool:
    return _names_floats(leaf.dtype if hasattr(leaf, "dtype") else type(leaf).__name__)


@lru_cache
def _names_floats(dtype: Any) -> bool:
    # Remembered: numpy puts the name of a dtype together each time, which takes as long as averaging a small array.
    return str(dtype).removeprefix("torch.").startswith(("float", "complex", "bfloat"))


def _is_tensor(leaf: Any) -> bool:
    return hasattr(leaf, "element_size")
