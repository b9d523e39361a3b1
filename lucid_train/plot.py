"""A run's metrics and rates as a figure; this is what needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lucid_train.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(history: History, names: tuple[str, ...] = ()) -> Figure:
    """Return a figure of metrics over the epochs, and of the rates below; see `History.plot`."""
    try:
        # The class itself, not pyplot: nothing is registered, no window opens and no backend is chosen.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("History.plot needs matplotlib: pip install 'lucid-train[plot]'") from error
    metrics = {name: history.metric(name) for name in names or history.metric_names()}
    epochs = [record.epoch for record in history]
    groups = max((len(record.lr) for record in history), default=0)
    drawn = Figure(figsize=(8, 6 if metrics and groups else 4), layout="constrained")
    panels = drawn.subplots(max(1, bool(metrics) + bool(groups)), sharex=True, squeeze=False)[:, 0]
    # A mark where an epoch stands alone, so that one epoch between two that lack the metric is seen.
    for name, values in metrics.items():
        panels[0].plot(epochs, values, marker=".", label=name)
    if metrics:
        panels[0].legend()
    for group in range(groups):
        rates = [record.lr[group] if group < len(record.lr) else float("nan") for record in history]
        panels[-1].plot(epochs, rates, drawstyle="steps-mid", label=f"lr of group {group}")
    if groups:
        panels[-1].set_ylabel("lr")
    if groups > 1:
        panels[-1].legend()
    panels[-1].set_xlabel("epoch")
    return drawn
