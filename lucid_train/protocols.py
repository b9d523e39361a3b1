"""What the library requires of objects from elsewhere: parameter groups, a state, a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class HasParamGroups(Protocol):
    """An optimizer: anything with parameter groups, each a dict with at least "lr"."""

    @property
    def param_groups(self) -> Sequence[dict[str, Any]]:
        """The groups."""


class Stateful(Protocol):
    """Anything whose state can be saved and loaded: a model, an optimizer, a scaler, a sampler."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any, /) -> object:
        """Load a state that `state_dict` returned."""


class MetricObject(Protocol):
    """A metric that gathers what it needs over many batches, as those of torchmetrics do."""

    @property
    def update(self) -> Callable[..., object]:
        """Take a batch into account; the program calls it."""

    def compute(self) -> Any:
        """Return the metric of all batches since the last reset: a single number, or a mapping of them by name."""

    def reset(self) -> object:
        """Forget them."""


class Steppable(Protocol):
    """A scheduler: anything with `step()`, or with `step(metric)` if it follows one."""

    @property
    def step(self) -> Callable[..., object]:
        """Go on to the next value."""


class HasGeneratorState(Protocol):
    """A random generator as PyTorch and the older ones of numpy are."""

    def get_state(self) -> Any:
        """Return the state."""

    def set_state(self, state: Any, /) -> object:
        """Set a state that `get_state` returned."""


class HasRank(Protocol):
    """Where a process stands among those of a run, as a `Group` of `lucid_train.group` says it."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def world_size(self) -> int:
        """How many there are."""
