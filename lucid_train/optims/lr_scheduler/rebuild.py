"""How a schedule is built anew on an optimizer that has been restored already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lucid_train.optims.param_groups import write_rate


@contextmanager
def rebuilding(optimizer: Any, state: Mapping[str, Any] | None) -> Iterator[None]:
    """Let a schedule that is to go on from `state` be built from its base rates, and undo what building it has written.

    The optimizer was restored already: its rates are decayed ones, and its momenta may be those of an earlier part.
    Without an optimizer or a state nothing happens.
    """
    if optimizer is None or state is None:
        yield
        return
    held = [
        ({name: value for name, value in g.items() if name not in ("params", "lr")}, float(g["lr"]))
        for g in optimizer.param_groups
    ]
    bases = state.get("base_lrs") or ()
    for group, base_lr in zip(optimizer.param_groups, bases, strict=False):
        write_rate(group, float(base_lr))
    try:
        yield
    finally:
        for group, (entries, rate) in zip(optimizer.param_groups, held, strict=False):
            group.update(entries)
            write_rate(group, rate)
