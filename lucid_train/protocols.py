"""What the library requires of objects from elsewhere: parameter groups, a state, a step."""

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
        """Load a state that `state_dict` returned."""
