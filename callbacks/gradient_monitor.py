"""GradientMonitor: the norm of the gradients, how often they are clipped, how far an update goes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from attrs import define, field

from lucid_train.callback import TRANSIENT, Callback
from lucid_train.events import FitEnd, FitStart
from lucid_train.protocols import HasParamGroups
from lucid_train.validation import checked, flag, real_number

# What PyTorch's clip_grad_norm_ adds to the norm that it divides by.
_EPSILON = 1e-6
# The norm that weights count as having at least.
_LEAST = 1e-12


@final
@define(eq=False)
class GradientMonitor(Callback):
    """Clip the gradients of a step, and measure them as metrics of it.

    The step calls `clip` between `backward` and the update, and returns what `metrics` gives after it:

        loss.backward()
        monitor.clip()
        optimizer.step()
        return {"loss": loss, **monitor.metrics()}

    "grad_norm" is the Euclidean norm of all gradients before they are clipped. With `max_norm`, gradients of a larger
    norm are multiplied by `max_norm / (norm + 1e-6)`, as PyTorch's `clip_grad_norm_` does, and "clipped" is 1 where
    that was done, so that an epoch's mean is the share of clipped updates. With `ratio`, "update_ratio" is the norm of
    what the update changed over that of the weights before it (1e-12 at least); it costs a copy of the weights. With
    `per_group`, norm and ratio are given for each group of the optimizer too, as "grad_norm_0". Tensors stay on their
    device: no step waits for it. Gradients that a GradScaler has scaled must be unscaled first.

    Args:
        max_norm: The largest norm that is not clipped; None to measure only. Above 0.
        ratio: Whether the update is measured.
        per_group: Whether each group is measured too.
        optimizer: Whose gradients; by default the run's.

    Raises:
        ValueError: In `fit`, before the first step, if there is no optimizer.
        TypeError: In `clip`, if a gradient is a DTensor.
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
    _of: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _found: dict[str, Any] | None = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    # Of each group its weights as they were, if the update is measured.
    _before: list[list[Any]] = field(factory=list, init=False, repr=False, metadata=TRANSIENT)

    def describe(self) -> dict[str, str]:
        clipped = "" if self.max_norm is None else f", clipped to {self.max_norm:g}"
        return {"gradients": f"their norm{clipped}{', the ratio of updates to weights' if self.ratio else ''}"}

    def on_fit_start(self, event: FitStart) -> None:
        self._of = event.run.optimizer if self.optimizer is None else self.optimizer
        if self._of is None:
            raise ValueError("GradientMonitor needs an optimizer: pass Trainer(optimizer=...) or optimizer=...")

    def on_fit_end(self, event: FitEnd) -> None:
        self._of, self._found, self._before = None, None, []

    def clip(self) -> None:
        """Measure the gradients, and clip them if there is a `max_norm`."""
        if self._of is None:
            raise RuntimeError(
                "GradientMonitor.clip() must be called by the step of a Trainer that has it in 'callbacks'"
            )
        groups = [[each.grad for each in group["params"] if each.grad is not None] for group in self._of.param_groups]
        norms = [_norm(group) for group in groups]
        total = _norm(norms)
        self._found = {"grad_norm": total}
        if self.per_group:
            self._found |= {f"grad_norm_{place}": norm for place, norm in enumerate(norms)}
        if self.max_norm is not None:
            is_tensor = _is_tensor(total)
            over = total > self.max_norm
            self._found["clipped"] = over.float() if is_tensor else float(over)
            factor = self.max_norm / (total + _EPSILON)
            factor = factor.clamp(max=1.0) if is_tensor else min(1.0, factor)
            for gradient in (each for group in groups for each in group):
                gradient *= factor.to(gradient.device, gradient.dtype) if is_tensor else factor
        if self.ratio:
            self._before = [[_copied(each) for each in weights] for weights in self._weights()]

    def metrics(self) -> dict[str, Any]:
        """Return what was measured in this step, for the mapping that it returns."""
        if self._found is None:
            raise RuntimeError("GradientMonitor.metrics() must be called after clip(), once")
        found, self._found = self._found, None
        if self.ratio:
            before, self._before = self._before, []
            changed = [
                _norm([now - then for now, then in zip(weights, held, strict=True)])
                for weights, held in zip(self._weights(), before, strict=True)
            ]
            norms = [_norm(held) for held in before]
            found["update_ratio"] = _norm(changed) / _positive(_norm(norms))
            if self.per_group:
                found |= {f"update_ratio_{i}": changed[i] / _positive(norms[i]) for i in range(len(norms))}
        return found

    def _weights(self) -> list[list[Any]]:
        """Return the weights of each group, without their graph."""
        params = [group["params"] for group in self._of.param_groups]
        return [[each.detach() if _is_tensor(each) else each.data for each in group] for group in params]


def _is_tensor(value: Any) -> bool:
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _copied(value: Any) -> Any:
    return value.clone() if _is_tensor(value) else value.copy()


def _positive(norm: Any) -> Any:
    """Return a norm to divide by, as weights that begin at zero have none."""
    return norm.clamp(min=_LEAST) if _is_tensor(norm) else max(norm, _LEAST)


def _norm(values: Sequence[Any]) -> Any:
    """Return the Euclidean norm of arrays or tensors, in at least float32; 0.0 of none."""
    for value in values:
        if hasattr(value, "full_tensor"):
            raise TypeError("GradientMonitor must be given whole gradients, no DTensor; use clip_grad_norm_ of PyTorch")
    tensors = [value for value in values if _is_tensor(value)]
    if not tensors:
        return float(np.sqrt(sum(float(np.vdot(value, value)) for value in values)))
    torch: Any = sys.modules["torch"]
    wide = [
        torch.linalg.vector_norm(each.detach().to(torch.promote_types(each.dtype, torch.float32))) for each in tensors
    ]
    return torch.linalg.vector_norm(torch.stack([each.to(wide[0].device) for each in wide]))
