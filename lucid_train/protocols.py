"""What the library asks of other people's objects: parameter groups, a state, a step."""

from __future__ import annotations

from collections.abc import Sequence
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
        """Take over a state that `state_dict` returned."""


class Steppable(Protocol):
    """Anything that advances by `step()`: a scheduler of this library, PyTorch's, Lucid's."""

    def step(self, *arguments: Any) -> object:
        """Advance by one epoch or update."""
