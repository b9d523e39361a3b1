"""Whether an optimizer has been stepped since a schedule was put on it, found out without patching the optimizer."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class UpdateWatch:
    """Watches one optimizer from now until `close`.

    PyTorch's optimizers tell it by a step hook, taken off again by `close`; an optimizer with a `step_count`, as ours
    have, by the count. Of any other optimizer nothing can be known, and nothing is claimed.
    """

    def __init__(self, optimizer: Any) -> None:
        self._told = False
        self._count: int | None = getattr(optimizer, "step_count", None)
        register = getattr(optimizer, "register_step_post_hook", None)
        # The hook must not refer to the schedule, or the optimizer would keep it alive.
        self._handle = register(self._tell) if self._count is None and register is not None else None

    def _tell(self, *_: Any) -> None:
        self._told = True

    def close(self, optimizer: Any) -> bool:
        """Stop watching; return False if it is certain that the optimizer was not stepped meanwhile."""
        if self._handle is not None:
            self._handle.remove()
            return self._told
        return self._count is None or bool(optimizer.step_count != self._count)
