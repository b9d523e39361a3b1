"""Curves as a figure of matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(epochs: Sequence[int], metrics: Mapping[str, Sequence[float]], rates: Sequence[Sequence[float]]) -> Figure:
    """Return a figure with metrics above and learning rates below.

    Args:
        epochs: The epochs, n of them.
        metrics: By name, n values each; NaN leaves a gap.
        rates: One sequence of n rates per parameter group.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        # The class itself, not pyplot: nothing is registered, no window opens and no backend is chosen.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: pip install 'lucid-train[plot]'") from error
    figure = Figure(figsize=(8, 6 if metrics and rates else 4), layout="constrained")
    panels = figure.subplots(max(1, bool(metrics) + bool(rates)), sharex=True, squeeze=False)[:, 0]
    for name, values in metrics.items():
        # A mark shows an epoch that stands alone, between two that lack the metric.
        panels[0].plot(epochs, values, marker=".", label=name)
    if metrics:
        panels[0].legend()
    for group, values in enumerate(rates):
        panels[-1].plot(epochs, values, drawstyle="steps-mid", label=f"lr of group {group}")
    if rates:
        panels[-1].set_ylabel("lr")
    if len(rates) > 1:
        panels[-1].legend()
    panels[-1].set_xlabel("epoch")
    return figure
