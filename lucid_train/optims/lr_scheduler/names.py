"""PyTorch's schedulers by their names and arguments: each is an LRScheduler with the schedule of that name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

from lucid_train.optims.lr_scheduler.scheduler import LRScheduler, Rates
from lucid_train.optims.param_groups import numbers_per_group, param_groups, stored_under
from lucid_train.protocols import HasParamGroups as Optimizer
from lucid_train.schedules.cosine import After, Cosine, WarmRestarts
from lucid_train.schedules.cycle import Cyclic, OneCycle
from lucid_train.schedules.decay import Exponential, MultiStep, Polynomial, Step
from lucid_train.schedules.function import Function, Multiplicative
from lucid_train.schedules.schedule import Chain, Linear, Schedule, function
from lucid_train.schedules.schedule import Sequence as SequenceOf
from lucid_train.schedules.warmup import Constant, Noam
from lucid_train.validation import flag, listed, real_number, whole_number

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
        after: After = "restart",
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
        super().__init__(
            optimizer,
            WarmRestarts(_count("T_0", T_0), whole_number("T_mult", T_mult, least=1), eta_min),
            last_epoch,
            base_lrs=base_lrs,
        )


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


class _FunctionLR(LRScheduler):
    """The base of the schedulers that are given a function of the epoch, or one per group."""

    _kind: ClassVar[type[Function | Multiplicative]]

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Factor | Sequence[Factor],
        last_epoch: int = -1,
        *,
        base_lrs: Rates = None,
    ) -> None:
        groups = len(param_groups(optimizer))
        if not isinstance(lr_lambda, (list, tuple)):
            schedule: Any = self._kind(function("lr_lambda", lr_lambda))
        elif len(lr_lambda) != groups:
            raise ValueError(f"'lr_lambda' must be one function or one per group, {groups}: {len(lr_lambda)}")
        else:
            schedule = [self._kind(function(f"lr_lambda[{index}]", each)) for index, each in enumerate(lr_lambda)]
        super().__init__(optimizer, schedule, last_epoch, base_lrs=base_lrs)


class LambdaLR(_FunctionLR):
    """Multiply the base rates by a function of the epoch, or each by one of its own: `schedules.Function`.

    The state does not hold functions: pass the same ones when going on from a state.
    """

    _kind = Function


class MultiplicativeLR(_FunctionLR):
    """Multiply the rates, every epoch, by a function of the epoch: `schedules.Multiplicative`.

    The state does not hold functions: pass the same ones when going on from a state.
    """

    _kind = Multiplicative


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

        def cycle(start: float, other: float) -> Cyclic:
            return Cyclic(start, other, up, down, mode, gamma, scale_fn, scale_mode)

        schedules: dict[str, Any] = {"lr": _spread(cycle, optimizer, base_lr=base_lr, max_lr=max_lr)}
        if _cycles_momentum(optimizer, cycle_momentum):
            given = {"base_momentum": base_momentum, "max_momentum": max_momentum}
            schedules["momentum"] = _spread(lambda low, high: cycle(high, low), optimizer, below=1, **given)
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

        schedules: dict[str, Any] = {"lr": _spread(cycle, optimizer, max_lr=max_lr)}
        if _cycles_momentum(optimizer, cycle_momentum):
            given = {"base_momentum": base_momentum, "max_momentum": max_momentum}
            # The curve of the momentum does not depend on how high the rate goes.
            schedules["momentum"] = _spread(cycle(0.0).momentum, optimizer, below=1, **given)
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
        epochs = listed("milestones", milestones, "epochs")
        ends = [_count(f"milestones[{index}]", epoch) for index, epoch in enumerate(epochs)]
        schedules = _composed(parts, lambda found: SequenceOf(found, ends))
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
        parts = _checked_parts(optimizer, schedulers, -1)
        for index, part in enumerate(parts[1:], 1):
            if list(part.schedules) != ["lr"]:
                raise TypeError(f"'schedulers[{index}]' must set the rates alone, or come first: {part!r}")
        schedules = _composed(parts, lambda found: Chain([each for each in found if each is not None]))
        self._bind(parts[0].optimizer, schedules, -1, parts=parts)


def _count(name: str, value: Any) -> int:
    return whole_number(name, value, least=1)


def _spread(make: Callable[..., T], optimizer: Any, *, below: float | None = None, **given: PerGroup) -> T | list[T]:
    """Return what is made of numbers that do not fall: one for all groups, or one per group, shared by equal groups."""
    count, (first, *_, last) = len(param_groups(optimizer)), [*given, *given]
    numbers = [numbers_per_group(name, value, count, least=0, below=below) for name, value in given.items()]
    several = any(isinstance(each, list) for each in numbers)
    rows = list(zip(*(each if isinstance(each, list) else [each] * (count or 1) for each in numbers), strict=False))
    for row in rows:
        if row[0] > row[-1]:
            raise ValueError(f"{last!r} must be >= {first!r}, {row[0]}: {row[-1]}")
    made = {row: make(*row) for row in rows}
    return [made[row] for row in rows] if several else made[rows[0]]


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


def _checked_parts(optimizer: Any, schedulers: Any, last_epoch: int) -> tuple[LRScheduler, ...]:
    """Return schedulers as a tuple, or refuse what is not to be composed; without an optimizer, the first has it."""
    done = whole_number("last_epoch", last_epoch, least=-1)
    parts = listed("schedulers", schedulers, "schedulers")
    if optimizer is not None:
        param_groups(optimizer)
    if not parts:
        raise ValueError("'schedulers' must hold at least one scheduler: []")
    for index, part in enumerate(parts):
        name = f"schedulers[{index}]"
        if not isinstance(part, LRScheduler):
            raise TypeError(f"{name!r} must be a scheduler of this library: {part!r}")
        if part.follows_metric:
            raise TypeError(f"{name!r} must not follow a metric: {part!r}")
        if part.optimizer is not (parts[0].optimizer if optimizer is None else optimizer):
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
        based = [
            (index, binding.bases)
            for index, binding in enumerate(bindings)
            if binding is not None and not all(each.absolute for each in binding.per_group())
        ]
        for index, bases in based[1:]:
            if bases != based[0][1]:
                what = f"base {'rates' if key == 'lr' else key} of those before it, {based[0][1]}"
                raise ValueError(f"'schedulers[{index}]' must have the {what}: {parts[index]!r}")
        if all(binding is None or isinstance(binding.schedules, Schedule) for binding in bindings):
            joined[key] = join([None if binding is None else binding.schedules for binding in bindings])  # type: ignore[misc]  # as checked
        else:
            count = len(parts[0].optimizer.param_groups)
            rows = zip(*([None] * count if each is None else each.per_group() for each in bindings), strict=True)
            joined[key] = [join(list(row)) for row in rows]
    return joined
