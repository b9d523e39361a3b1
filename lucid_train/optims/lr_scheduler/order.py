"""Whether an optimizer has been stepped since a schedule was put on it, found out without patching the optimizer."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class UpdateWatch:
    """Watches one optimizer from now until `close`.

    PyTorch's optimizers tell it by a step hook, taken off again by `close`; an optimizer with a `step_count`, as ours
    have, by the count. Of any other optimizer nothing can be known, and nothing is claimed. A schedule that is dropped
    before its first step takes the watch along, hook and all.
    """

    def __init__(self, optimizer: Any) -> None:
        self._handle: Any = None
        told: set[str] = set()
        self._told = told
        count = getattr(optimizer, "step_count", None)
        self._count: int | None = count if isinstance(count, int) else None
        register = getattr(optimizer, "register_step_post_hook", None)
        # The hook must refer neither to the schedule nor to this watch, or the optimizer would keep them alive.
        if self._count is None and callable(register):
            self._handle = register(lambda *_: told.add("stepped"))

    def __del__(self) -> None:
        self._take_off()

    def _take_off(self) -> bool:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.remove()
        return handle is not None

    def close(self, optimizer: Any) -> bool:
        """Stop watching; return False if it is certain that the optimizer was not stepped meanwhile."""
        if self._take_off():
            return bool(self._told)
        return self._count is None or bool(optimizer.step_count != self._count)
