"""The finished epochs of a run, as data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, overload

import attrs
from attrs import define, field

from lucid_train.arguments import one_of

Mode = Literal["min", "max"]


@define(frozen=True, kw_only=True)
class EpochRecord:
    """One finished epoch.

    Args:
        epoch: Its number, from 1.
        steps: Steps done in it.
        seconds: How long it took, evaluation included.
        metrics: The mean of every metric of the steps, and what the evaluation found.
        lr: The rates that its last update used, one per group.
        last_lr: The rates that the schedules have set for the next update, one per group.
    """

    epoch: int
    steps: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(factory=dict)
    lr: tuple[float, ...] = ()
    last_lr: tuple[float, ...] = ()


@define(eq=False, repr=False)
class History(Sequence[EpochRecord]):
    """The finished epochs of a run in order, and how the run ended.

    >>> history = History([EpochRecord(epoch=1, metrics={"loss": 0.5}), EpochRecord(epoch=2, metrics={"loss": 0.25})])
    >>> history.metric("loss")
    [0.5, 0.25]
    >>> history.best("loss").epoch
    2
    """

    _records: list[EpochRecord] = field(factory=list, converter=list)
    status: str = field(default="ready", init=False)
    reason: str | None = field(default=None, init=False)

    @overload
    def __getitem__(self, index: int) -> EpochRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[EpochRecord]: ...

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, History) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, {self.status})"

    def append(self, record: EpochRecord) -> None:
        """Add the next epoch; the Trainer does this."""
        self._records.append(record)

    def metric(self, name: str) -> list[float]:
        """Return one metric of every epoch; NaN for an epoch that lacks it.

        Raises:
            KeyError: If no epoch has it.
        """
        names = self.metric_names()
        if name not in names:
            raise KeyError(f"no metric {name!r} among {', '.join(names) or 'none at all'}")
        return [record.metrics.get(name, math.nan) for record in self]

    def metric_names(self) -> list[str]:
        """Return the names of all metrics, in the order in which they first came."""
        return list(dict.fromkeys(name for record in self for name in record.metrics))

    def best(self, name: str, mode: Mode = "min") -> EpochRecord:
        """Return the epoch whose metric is lowest, or with mode "max" highest; the first of equals.

        Raises:
            KeyError: If no epoch has the metric.
            ValueError: If it is NaN in every epoch, or `mode` is neither "min" nor "max".
        """
        sign = 1 if one_of("mode", mode, ("min", "max")) == "min" else -1
        numbers = [sign * value for value in self.metric(name)]
        known = [index for index, number in enumerate(numbers) if not math.isnan(number)]
        if not known:
            raise ValueError(f"{name!r} must be a number in one epoch at least: it is NaN in all {len(self)}")
        return self[min(known, key=numbers.__getitem__)]

    def to_dict(self) -> dict[str, Any]:
        """Return the history as dicts, lists, strings and numbers."""
        epochs = [{**attrs.asdict(record), "metrics": dict(record.metrics)} for record in self]
        for epoch in epochs:
            epoch["lr"], epoch["last_lr"] = list(epoch["lr"]), list(epoch["last_lr"])
        return {"status": self.status, "reason": self.reason, "epochs": epochs}
