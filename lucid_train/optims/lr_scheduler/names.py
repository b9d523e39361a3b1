"""PyTorch's schedulers by their names and arguments: each is an LRScheduler with the schedule of that name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeVar

from lucid_train.optims.lr_scheduler.scheduler import Binding, LRScheduler, Rates
from lucid_train.optims.param_groups import numbers_per_group, param_groups, stored_under
from lucid_train.protocols import HasParamGroups as Optimizer
from lucid_train.schedules.cosine import Cosine, WarmRestarts
from lucid_train.schedules.cycle import Cyclic, OneCycle
from lucid_train.schedules.decay import Exponential, MultiStep, Polynomial, Step
from lucid_train.schedules.function import Function, Multiplicative
from lucid_train.schedules.schedule import Chain, Linear, Schedule
from lucid_train.schedules.schedule import Sequence as SequenceOf
from lucid_train.schedules.warmup import Constant, Noam
from lucid_train.validation import flag, real_number, whole_number

T = TypeVar("T")
PerGroup = float | Sequence[float]
Factor = Callable[[int], float]


class StepLR(LRScheduler, of=Step):
    """Multiply the rates by `gamma` once every `step_size` epochs: `schedules.Step`.

    >>> from lucid_train import nn, optims
    >>> scheduler = StepLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=0.1), step_size=2, gamma=0.5)
    >>> [scheduler.lr_at(epoch) for epoch in range(4)]
    [[0.1], [0.1], [0.05], [0.05]]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1, *, base_lrs: Rates = None
    ) -> None:
        super().__init__(optimizer, Step(_count("step_size", step_size), gamma), last_epoch, base_lrs=base_lrs)


class MultiStepLR(LRScheduler, of=MultiStep):
    """Multiply the rates by `gamma` at every milestone: `schedules.MultiStep`."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        super().__init__(optimizer, MultiStep(milestones, gamma), last_epoch, base_lrs=base_lrs)  # type: ignore[arg-type]  # made a tuple


class ExponentialLR(LRScheduler, of=Exponential):
    """Multiply the rates by `gamma` every epoch: `schedules.Exponential`."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1, *, base_lrs: Rates = None) -> None:
        super().__init__(optimizer, Exponential(gamma), last_epoch, base_lrs=base_lrs)


class PolynomialLR(LRScheduler, of=Polynomial):
    """Lower the rates to 0 along a polynomial: `schedules.Polynomial`."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        super().__init__(
            optimizer, Polynomial(_count("total_iters", total_iters), power), last_epoch, base_lrs=base_lrs
        )


class CosineAnnealingLR(LRScheduler, of=Cosine):
    """Lower the rates along half a cosine, from the base rates to `eta_min` at `T_max`: `schedules.Cosine`.

    By default the next epoch is at the base rates again; with `after="mirror"` it climbs back, as PyTorch's does.

    >>> from lucid_train import nn, optims
    >>> scheduler = CosineAnnealingLR(optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0), T_max=2)
    >>> [round(scheduler.lr_at(epoch)[0], 3) for epoch in range(4)]
    [1.0, 0.5, 0.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
        *,
        after: Literal["restart", "hold", "mirror"] = "restart",
        base_lrs: Rates = None,
    ) -> None:
        super().__init__(optimizer, Cosine(_count("T_max", T_max), eta_min, after), last_epoch, base_lrs=base_lrs)


class CosineAnnealingWarmRestarts(LRScheduler, of=WarmRestarts):
    """Lower the rates along half a cosine, again and again, each time more slowly: `schedules.WarmRestarts`.

    `step(epoch)` goes to an epoch that may lie between two whole ones, as PyTorch's does; `step()` then goes on from
    there by 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        super().__init__(optimizer, WarmRestarts(_count("T_0", T_0), T_mult, eta_min), last_epoch, base_lrs=base_lrs)


class ConstantLR(LRScheduler, of=Constant):
    """Multiply the base rates by `factor` for the first `total_iters` epochs: `schedules.Constant`."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        super().__init__(optimizer, Constant(factor, _count("total_iters", total_iters)), last_epoch, base_lrs=base_lrs)


class LinearLR(LRScheduler, of=Linear):
    """Move the rates linearly from one factor to another, the usual warm-up: `schedules.Linear`."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        start_factor = real_number("start_factor", start_factor, above=0, most=1)
        super().__init__(
            optimizer,
            Linear(start_factor, end_factor, _count("total_iters", total_iters)),
            last_epoch,
            base_lrs=base_lrs,
        )


class NoamLR(LRScheduler, of=Noam):
    """Raise the rates along a line, then let them fall with the inverse square root of the step: `schedules.Noam`.

    With a base rate of 1 the rates are the paper's. Made for steps: pass interval="step" in a Trainer.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        d_model: int,
        warmup_steps: int = 4000,
        factor: float = 1.0,
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        super().__init__(optimizer, Noam(d_model, warmup_steps, factor), last_epoch, base_lrs=base_lrs)


class LambdaLR(LRScheduler):
    """Multiply the base rates by a function of the epoch, or each by one of its own: `schedules.Function`.

    The state does not hold functions: pass the same ones when going on from a state.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Factor | Sequence[Factor],
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        super().__init__(optimizer, _of_functions(Function, lr_lambda, optimizer), last_epoch, base_lrs=base_lrs)


class MultiplicativeLR(LRScheduler):
    """Multiply the rates, every epoch, by a function of the epoch: `schedules.Multiplicative`.

    The state does not hold functions: pass the same ones when going on from a state.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Factor | Sequence[Factor],
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        super().__init__(optimizer, _of_functions(Multiplicative, lr_lambda, optimizer), last_epoch, base_lrs=base_lrs)


class CyclicLR(LRScheduler, of=Cyclic):
    """Move the rates up and down between two bounds, and the momentum the other way: `schedules.Cyclic`.

    Args:
        optimizer: Anything with `param_groups`; the rates are overwritten.
        base_lr: The lower bound, one for all groups or a list with one per group. At least 0.
        max_lr: The upper bound, likewise. At least `base_lr`.
        step_size_up: Steps from the lower bound to the upper one. At least 1.
        step_size_down: Steps back, at least 0; by default as many.
        mode: See `schedules.Cyclic`, as for `gamma`, `scale_fn` and `scale_mode`.
        gamma: For "exp_range".
        scale_fn: A scale of your own. The state does not hold it.
        scale_mode: What `scale_fn` receives.
        cycle_momentum: Whether to cycle the momentum, or the first of the betas where a group has them.
        base_momentum: The momentum at the upper bound, one or one per group. At least 0 and below 1.
        max_momentum: The momentum at the lower bound, likewise. At least `base_momentum`.
        last_epoch: The last step already done, or -1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: PerGroup,
        max_lr: PerGroup,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: PerGroup = 0.8,
        max_momentum: PerGroup = 0.9,
        last_epoch: int = -1,
    ) -> None:
        up = whole_number("step_size_up", step_size_up, least=1)
        down = up if step_size_down is None else whole_number("step_size_down", step_size_down, least=0)

        def between(low: float, high: float) -> Cyclic:
            return Cyclic(low, high, up, down, mode, gamma, scale_fn, scale_mode)

        count = len(param_groups(optimizer))
        low, high = (
            numbers_per_group("base_lr", base_lr, count, least=0),
            numbers_per_group("max_lr", max_lr, count, least=0),
        )
        for bottom, top in _pairs(low, high):
            if top < bottom:
                raise ValueError(f"'max_lr' must be >= 'base_lr', {bottom}: {top}")
        schedules: dict[str, Any] = {"lr": _spread(between, low, high)}
        if _cycles_momentum(optimizer, cycle_momentum):
            slow, fast = _momenta(base_momentum, max_momentum, count)
            schedules["momentum"] = _spread(between, fast, slow)
        self._bind(optimizer, schedules, last_epoch)


class OneCycleLR(LRScheduler, of=OneCycle):
    """Raise the rates to `max_lr`, then lower them far, and move the momentum the other way: `schedules.OneCycle`.

    Args:
        optimizer: Anything with `param_groups`; the rates are overwritten.
        max_lr: The highest rate, one for all groups or a list with one per group. At least 0.
        total_steps: Length of the curve. At least 1; by default `epochs * steps_per_epoch`.
        epochs: Epochs of the run, where `total_steps` is not given. At least 1.
        steps_per_epoch: Steps of an epoch, likewise.
        pct_start: Share of the curve that goes up, from 0 to 1.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: Whether to cycle the momentum, or the first of the betas where a group has them.
        base_momentum: The momentum at the highest rate, one or one per group. At least 0 and below 1.
        max_momentum: The momentum at either end, likewise. At least `base_momentum`.
        div_factor: What the highest rate is divided by to give the first one. Positive and finite.
        final_div_factor: What the first rate is divided by to give the last one. Positive and finite.
        three_phase: Go down as slowly as up, to the first rate, and then on to the last one.
        last_epoch: The last step already done, or -1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: PerGroup,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: PerGroup = 0.85,
        max_momentum: PerGroup = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        total = _total_steps(total_steps, epochs, steps_per_epoch)

        def cycle(highest: float) -> OneCycle:
            return OneCycle(highest, total, pct_start, anneal_strategy, div_factor, final_div_factor, three_phase)

        count = len(param_groups(optimizer))
        highest = numbers_per_group("max_lr", max_lr, count, least=0)
        schedules: dict[str, Any] = {"lr": _spread(cycle, highest)}
        if _cycles_momentum(optimizer, cycle_momentum):
            # The curve of the momentum does not depend on how high the rate goes.
            schedules["momentum"] = _spread(cycle(0.0).momentum, *_momenta(base_momentum, max_momentum, count))
        self._bind(optimizer, schedules, last_epoch)


class SequentialLR(LRScheduler):
    """Run the schedules of other schedulers one after the other: `schedules.Sequence`, what `then` makes.

    From `milestones[i - 1]` on, the rates of epoch `t` are those of `schedulers[i]` in epoch `t - milestones[i - 1]`.
    A part that does not set the momentum leaves it unchanged.

    Args:
        optimizer: The optimizer that all of them are on.
        schedulers: Schedulers of this library, which are not stepped themselves.
        milestones: The first epochs of all but the first of them: rising, at least 1, one less than schedulers.
        last_epoch: The last epoch already done, or -1.

    >>> from lucid_train import nn, optims
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0)
    >>> parts = [LinearLR(optimizer, start_factor=0.5, total_iters=2), ExponentialLR(optimizer, gamma=0.5)]
    >>> scheduler = SequentialLR(optimizer, parts, milestones=[2])
    >>> [scheduler.lr_at(epoch) for epoch in range(5)]
    [[0.5], [0.75], [1.0], [0.5], [0.25]]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Iterable[LRScheduler], milestones: Iterable[int], last_epoch: int = -1
    ) -> None:
        parts = _checked_parts(optimizer, schedulers, last_epoch)
        if isinstance(milestones, (str, bytes)) or not hasattr(milestones, "__iter__"):
            raise TypeError(f"'milestones' must be a list of epochs: {milestones!r}")
        ends = [whole_number(f"milestones[{index}]", epoch, least=1) for index, epoch in enumerate(milestones)]
        if len(ends) != len(parts) - 1:
            raise ValueError(f"'milestones' must be one less than the {len(parts)} schedulers: {ends}")
        if any(epoch >= later for epoch, later in pairwise(ends)):
            raise ValueError(f"'milestones' must rise: {ends}")
        schedules = _composed(parts, lambda found: SequenceOf(tuple(found), tuple(ends)))
        self._bind(optimizer, schedules, last_epoch, parts=parts)


class ChainedScheduler(LRScheduler):
    """Let each scheduler start from the rates that the one before it gives: `schedules.Chain`.

    PyTorch's follows the optimizer's rates instead, from epoch to epoch, which is the same where the rates are
    multiples of the base rates.

    Args:
        schedulers: Schedulers of this library, on one optimizer; all but the first must start from base rates, as
            CyclicLR and OneCycleLR do not.
        optimizer: That optimizer; by default the one of the first scheduler.

    >>> from lucid_train import nn, optims
    >>> optimizer = optims.SGD(nn.Linear(10, 1).parameters(), lr=1.0)
    >>> parts = [ConstantLR(optimizer, factor=0.25, total_iters=2), ExponentialLR(optimizer, gamma=0.5)]
    >>> scheduler = ChainedScheduler(parts)
    >>> [scheduler.lr_at(epoch) for epoch in range(4)]
    [[0.25], [0.125], [0.25], [0.125]]
    """

    def __init__(self, schedulers: Iterable[LRScheduler], optimizer: Any = None) -> None:
        found = tuple(schedulers) if hasattr(schedulers, "__iter__") else schedulers
        if optimizer is None and isinstance(found, tuple) and found:
            optimizer = getattr(found[0], "optimizer", None)
            if optimizer is None:
                raise TypeError(f"'schedulers[0]' must be a scheduler of this library: {found[0]!r}")
        elif optimizer is None:
            raise ValueError(f"'schedulers' must hold at least one scheduler: {schedulers!r}")
        parts = _checked_parts(optimizer, found, -1)
        for index, part in enumerate(parts[1:], 1):
            if any(each.absolute for binding in part._bindings for each in binding.per_group()):
                raise TypeError(f"'schedulers[{index}]' must depend on its base rates alone, or come first: {part!r}")
            if list(part.schedules) != ["lr"]:
                raise TypeError(f"'schedulers[{index}]' must set the rates alone, or come first: {part!r}")
        schedules = _composed(parts, lambda found: Chain(tuple(each for each in found if each is not None)))
        self._bind(optimizer, schedules, -1, parts=parts)


def _count(name: str, value: Any) -> int:
    return whole_number(name, value, least=1)


def _of_functions(
    kind: Callable[[Factor], Schedule], functions: Factor | Sequence[Factor], optimizer: Any
) -> Schedule | tuple[Schedule, ...]:
    several = isinstance(functions, (list, tuple))
    each: Sequence[Any] = functions if several else (functions,)  # type: ignore[assignment]  # a sequence where several
    for index, function in enumerate(each):
        if not callable(function) or isinstance(function, type):
            name = f"lr_lambda[{index}]" if several else "lr_lambda"
            raise TypeError(f"{name!r} must be a function of the epoch: {function!r}")
    groups = len(param_groups(optimizer))
    if several and len(each) != groups:
        raise ValueError(f"'lr_lambda' must be one function or one per group, {groups}: {len(each)}")
    found = tuple(kind(function) for function in each)
    return found if several else found[0]


def _pairs(*values: float | list[float]) -> list[tuple[float, ...]]:
    """Return the numbers of each group; a single row if they are the same for all."""
    count = next((len(each) for each in values if isinstance(each, list)), 1)
    return list(zip(*(each if isinstance(each, list) else [each] * count for each in values), strict=True))


def _spread(make: Callable[..., T], *values: float | list[float]) -> T | list[T]:
    """Return what is made of the numbers: one for all groups, or one per group, the same for groups with the same."""
    rows = _pairs(*values)
    made = {row: make(*row) for row in rows}
    return [made[row] for row in rows] if any(isinstance(each, list) for each in values) else made[rows[0]]


def _momenta(low: PerGroup, high: PerGroup, count: int) -> tuple[float | list[float], float | list[float]]:
    base = numbers_per_group("base_momentum", low, count, least=0, below=1)
    top = numbers_per_group("max_momentum", high, count, least=0, below=1)
    for one, other in _pairs(base, top):
        if one > other:
            raise ValueError(f"'base_momentum' must be <= 'max_momentum', {other}: {one}")
    return base, top


def _cycles_momentum(optimizer: Optimizer, cycle_momentum: bool) -> bool:
    if not flag("cycle_momentum", cycle_momentum):
        return False
    for index, group in enumerate(optimizer.param_groups):
        if stored_under(group, "momentum") not in group:
            raise ValueError(
                f"'cycle_momentum' must be False for an optimizer without 'momentum' and 'betas', "
                f"as in group {index}: True"
            )
    return True


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is not None:
        return whole_number("total_steps", total_steps, least=1)
    if epochs is None or steps_per_epoch is None:
        raise ValueError(
            "'total_steps' must be given, or 'epochs' and 'steps_per_epoch': "
            f"epochs={epochs!r}, steps_per_epoch={steps_per_epoch!r}"
        )
    return whole_number("epochs", epochs, least=1) * whole_number("steps_per_epoch", steps_per_epoch, least=1)


def _checked_parts(optimizer: Optimizer, schedulers: Any, last_epoch: int) -> tuple[LRScheduler, ...]:
    param_groups(optimizer)
    done = whole_number("last_epoch", last_epoch, least=-1)
    if not hasattr(schedulers, "__iter__"):
        raise TypeError(f"'schedulers' must be a list of schedulers: {schedulers!r}")
    parts = tuple(schedulers)
    if not parts:
        raise ValueError("'schedulers' must hold at least one scheduler: []")
    for index, part in enumerate(parts):
        name = f"schedulers[{index}]"
        if not isinstance(part, LRScheduler):
            raise TypeError(f"{name!r} must be a scheduler of this library: {part!r}")
        if part.follows_metric:
            raise TypeError(f"{name!r} must not follow a metric: {part!r}")
        if part.optimizer is not optimizer:
            raise ValueError(f"{name!r} must be on the same optimizer as the whole: {part!r}")
        if part.last_epoch not in (0, done + 1):
            raise ValueError(f"{name!r} must not have been stepped: {part!r}")
    return parts


def _composed(
    parts: tuple[LRScheduler, ...], join: Callable[[list[Schedule | None]], Schedule]
) -> dict[str, Schedule | list[Schedule]]:
    """Return by key what the schedules of the parts are joined to; a part without one for a key counts as None."""
    joined: dict[str, Schedule | list[Schedule]] = {}
    for key in dict.fromkeys(key for part in parts for key in part.schedules):
        bindings = [next((each for each in part._bindings if each.key == key), None) for part in parts]
        _check_same_bases(bindings, parts)
        if all(binding is None or isinstance(binding.schedules, Schedule) for binding in bindings):
            joined[key] = join([None if binding is None else binding.schedules for binding in bindings])  # type: ignore[misc]  # as checked
        else:
            count = len(parts[0].optimizer.param_groups)
            rows = zip(*([None] * count if each is None else each.per_group() for each in bindings), strict=True)
            joined[key] = [join(list(row)) for row in rows]
    return joined


def _check_same_bases(bindings: list[Binding | None], parts: tuple[LRScheduler, ...]) -> None:
    known: list[float] | None = None
    for index, binding in enumerate(bindings):
        if binding is None or all(each.absolute for each in binding.per_group()):
            continue
        if known is not None and binding.bases != known:
            what = f"base {'rates' if binding.key == 'lr' else binding.key} of those before it, {known}"
            raise ValueError(f"'schedulers[{index}]' must have the {what}: {parts[index]!r}")
        known = binding.bases
