"""GradientMonitor: the norm of the gradients, how often they are clipped, how far an update goes."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any, final

import numpy as np
from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback
from lucid_train.events import FitEnd, FitStart
from lucid_train.metrics import Mean
from lucid_train.protocols import HasParamGroups
from lucid_train.validation import checked, flag, optional_text, real_number

# What PyTorch's clip_grad_norm_ adds to the norm that it divides by.
_EPSILON = 1e-6
# The norm that weights count as having at least.
_LEAST = 1e-12


@final
@define(eq=False)
class GradientMonitor(Callback):
    """Clip the gradients of a step, and measure them as metrics of it.

    The step calls `clip` between `backward` and the update, and returns what `metrics` gives after it::

        loss.backward()
        monitor.clip()
        optimizer.step()
        return {"loss": loss, **monitor.metrics()}

    "grad_norm" is the Euclidean norm of all gradients before they are clipped. With `max_norm`, gradients of a larger
    norm are multiplied by `max_norm / (norm + 1e-6)`, those of PyTorch by its own `clip_grad_norm_`, and "clipped" is 1
    where that was done, so that an epoch's mean is the share of clipped updates. With `ratio`, "update_ratio" is the
    norm of what the update changed over that of the weights before it (1e-12 at least); it costs a copy of the weights.
    With `per_group`, norm and ratio are given for each group of the optimizer too, as "grad_norm_0". Tensors stay on
    their device: no step waits for it. Gradients that a GradScaler has scaled must be unscaled first. Where gradients
    are accumulated, a step without an update calls neither.

    A norm that is not finite, as of gradients that a GradScaler has scaled too far, is left out of the epoch's mean,
    and of what is recorded of the step: a norm is a `metrics.Mean` of weight 1 or 0. Clipping by it gives what
    PyTorch's does, zeros and NaN.

    Args:
        max_norm: The largest norm that is not clipped; None to measure only. Above 0.
        ratio: Whether the update is measured.
        per_group: Whether each group is measured too.
        optimizer: Whose gradients; by default the run's.
        prefix: What the names begin with, where several optimizers have a monitor each.

    Raises:
        ValueError: In `fit`, before the first step, if there is no optimizer.
        RuntimeError: In `clip` outside a fit, and in `metrics` without a `clip` before it.

    >>> from lucid_train import Trainer, nn, optims
    >>> weight = nn.Parameter([2.0, 0.0])
    >>> optimizer, monitor = optims.SGD([weight], lr=0.5), GradientMonitor(max_norm=10, ratio=True)
    >>> def train_step(batch):
    ...     weight.grad = batch
    ...     monitor.clip()
    ...     optimizer.step()
    ...     return monitor.metrics()
    >>> Trainer(train_step, data=[[3.0, 4.0]], optimizer=optimizer, callbacks=[monitor]).fit()[-1].metrics
    {'grad_norm': 5.0, 'clipped': 0.0, 'update_ratio': 1.25}
    """

    max_norm: float | None = field(default=None, validator=checked(real_number, above=0))
    ratio: bool = field(default=False, kw_only=True, validator=checked(flag))
    per_group: bool = field(default=False, kw_only=True, validator=checked(flag))
    optimizer: HasParamGroups | None = field(default=None, kw_only=True, repr=False)
    prefix: str | None = field(default=None, kw_only=True, validator=optional_text)
    _of: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _found: dict[str, Any] | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    # Of each group its weights as they were, if the update is measured; the memory is used again in each step.
    _held: list[list[Any]] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)

    def describe(self) -> dict[str, str]:
        clipped = "" if self.max_norm is None else f", clipped to {self.max_norm:g}"
        return {"gradients": f"their norm{clipped}{', the ratio of updates to weights' if self.ratio else ''}"}

    def on_fit_start(self, event: FitStart) -> None:
        self._of = event.run.optimizer if self.optimizer is None else self.optimizer
        if self._of is None:
            raise ValueError("GradientMonitor needs an optimizer: pass Trainer(optimizer=...) or optimizer=...")

    def on_fit_end(self, event: FitEnd) -> None:
        self._of, self._found, self._held = None, None, []

    def clip(self) -> None:
        """Measure the gradients, and clip them if there is a `max_norm`."""
        if self._of is None:
            raise RuntimeError(
                "GradientMonitor.clip() must be called by the step of a Trainer that has it in 'callbacks'"
            )
        groups = [[each for each in group["params"] if each.grad is not None] for group in self._of.param_groups]
        norms = [_norm([each.grad for each in group]) for group in groups] if self.per_group else []
        total = _clipped([*chain(*groups)], self.max_norm)
        found = {"grad_norm": total, **{f"grad_norm_{place}": norm for place, norm in enumerate(norms)}}
        self._found = {name: _if_finite(norm) for name, norm in found.items()}
        if self.max_norm is not None:
            over = total > self.max_norm
            self._found["clipped"] = over.float() if _is_tensor(total) else float(over)
        if self.ratio:
            self._hold()

    def metrics(self) -> dict[str, Any]:
        """Return what was measured in this step, for the mapping that it returns."""
        if self._found is None:
            raise RuntimeError("GradientMonitor.metrics() must be called after clip(), once")
        found, self._found = self._found, None
        if self.ratio:
            parts = [[*chain(*self._held)], *(self._held if self.per_group else ())]
            norms = [_norm(part) for part in parts]
            for then, now in zip(chain(*self._held), chain(*self._weights()), strict=True):
                then -= now
            names = "update_ratio", *(f"update_ratio_{place}" for place in range(len(self._held)))
            found |= {name: _ratio(_norm(part), norm) for name, part, norm in zip(names, parts, norms, strict=False)}
        return {f"{self.prefix or ''}{name}": value for name, value in found.items()}

    def _hold(self) -> None:
        """Copy the weights."""
        weights = self._weights()
        held, now = ([[_layout(each) for each in group] for group in groups] for groups in (self._held, weights))
        if held != now:
            self._held = [[_copied(each) for each in group] for group in weights]
            return
        for each, weight in zip(chain(*self._held), chain(*weights), strict=True):
            each[...] = weight

    def _weights(self) -> list[list[Any]]:
        """Return the weights of each group, without their graph."""
        params = [group["params"] for group in self._of.param_groups]
        return [[each.detach() if _is_tensor(each) else each.data for each in group] for group in params]


def _is_tensor(value: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _layout(value: Any) -> tuple[Any, ...]:
    return value.shape, value.dtype, value.device


def _copied(value: Any) -> Any:
    return value.clone() if _is_tensor(value) else value.copy()


def _clipped(parameters: Sequence[Any], largest: float | None) -> Any:
    """Return the norm of the gradients of parameters that have one, and clip them if a largest norm is given."""
    gradients = [each.grad for each in parameters]
    if largest is None or not gradients:
        return _norm(gradients)
    if _is_tensor(parameters[0]):
        torch: Any = sys.modules["torch"]
        return _whole(torch.nn.utils.clip_grad_norm_(parameters, largest))
    norm = _norm(gradients)
    if not norm <= largest:  # NaN too
        for gradient in gradients:
            gradient *= min(largest / (norm + _EPSILON), 1.0)
    return norm


def _norm(values: Sequence[Any]) -> Any:
    """Return the Euclidean norm of arrays or tensors; 0.0 of none."""
    if values and _is_tensor(values[0]):
        torch: Any = sys.modules["torch"]
        return _whole(torch.nn.utils.get_total_norm([each.detach() for each in values]))
    # A sum of squares in half precision would overflow.
    return math.hypot(*(float(np.linalg.norm(_wide(each).ravel())) for each in values))


def _if_finite(norm: Any) -> Mean:
    if not _is_tensor(norm):
        return Mean(norm, 1.0) if math.isfinite(norm) else Mean(0.0, 0.0)
    is_finite = norm.isfinite()
    return Mean(norm.where(is_finite, 0.0), is_finite.to(norm.dtype))


def _ratio(change: Any, norm: Any) -> Any:
    return change / (norm.clamp(min=_LEAST) if _is_tensor(norm) else max(norm, _LEAST))


def _whole(norm: Any) -> Any:
    """Return the norm of gradients that are spread over processes, which all of them compute."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def _wide(array: Any) -> Any:
    return np.asarray(array, dtype=np.result_type(array, np.float32))
