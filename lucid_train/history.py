"""The finished epochs of a run as data: records, columns, arrays, CSV."""

from __future__ import annotations

import csv
import math
import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

import attrs
from attrs import define, field

from lucid_train.files import check_replaceable, write_whole
from lucid_train.monitor import Mode, Monitor
from lucid_train.plot import Points, curves, html_page, html_panels, html_table, html_text, number_texts
from lucid_train.validation import check_entries, whole_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# The columns of a state that are no rates and no metrics, and how their numbers are read.
_COLUMNS: dict[str, Callable[[Any], float]] = {"epoch": operator.index, "steps": operator.index, "seconds": float}
_RATES = ("lr", "last_lr")
# What a checkpoint may claim, and cost, whose history is lost.
_MOST_LOST = 1_000_000


@define(frozen=True, kw_only=True)
class EpochRecord:
    """One finished epoch.

    Args:
        epoch: Its number, from 1.
        steps: The number of its steps.
        seconds: Its duration, evaluation included.
        metrics: The means of the steps' metrics, and the results of the evaluation.
        lr: The rates that its last update used, one per group.
        last_lr: The rates set for the next update, one per group.
        scheduled: What schedules set besides the rates, as its last update used it: by name, such as "weight_decay",
            one number per group.
    """

    epoch: int
    steps: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(factory=dict)
    lr: tuple[float, ...] = ()
    last_lr: tuple[float, ...] = ()
    scheduled: Mapping[str, tuple[float, ...]] = field(factory=dict)


@define(frozen=True, kw_only=True)
class EvaluationRecord:
    """One evaluation within an epoch.

    Args:
        epoch: The epoch's number, from 1.
        step: Steps done before it, counted through the whole run.
        seconds: How long it took.
        metrics: What it found.
        asked: Whether a command has asked for it: nothing acts on it, and it is never the best.
    """

    epoch: int
    step: int
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(factory=dict)
    asked: bool = False


def _as_list(records: Iterable[EpochRecord]) -> list[EpochRecord]:
    return list(records)


@define(eq=False, repr=False)
class History(Sequence[EpochRecord]):
    """The finished epochs of a run in order, and how the run ended. A notebook shows it as curves and a table.

    Attributes:
        evaluations: The evaluations within epochs, in order; one at an epoch's end is part of its record.
        status: How the run ended, or "running", or "ready" before the first fit.
        reason: Why it did not complete, or None.

    >>> history = History([EpochRecord(epoch=1, metrics={"loss": 0.5}), EpochRecord(epoch=2, metrics={"loss": 0.25})])
    >>> history.metric("loss")
    [0.5, 0.25]
    >>> history.best("loss").epoch
    2
    """

    _records: list[EpochRecord] = field(factory=list, converter=_as_list)
    evaluations: list[EvaluationRecord] = field(factory=list, init=False)
    status: str = field(default="ready", init=False)
    reason: str | None = field(default=None, init=False)
    # The names of what is scheduled besides the rates in the first epochs, and how many these are.
    _names: dict[str, None] = field(factory=dict, init=False)
    _named: int = field(default=0, init=False)
    # The cell of a notebook in which a display has shown the rows.
    _rows_shown_in: int | None = field(default=None, init=False)

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
        if not isinstance(other, History):
            return NotImplemented
        return list(self) == list(other) and self.evaluations == other.evaluations

    def __repr__(self) -> str:
        return f"History({self._words})"

    @property
    def _words(self) -> str:
        return f"{len(self)} epoch{'s' * (len(self) != 1)}, {self.status}"

    def _repr_html_(self) -> str:
        names, scheduled = self._all_names(), self._scheduled()
        parts = [html_panels([*self._panels(names), *scheduled])]
        if self._rows_shown_in is None or self._rows_shown_in != _cell():
            rows = self.records()
            columns = [name for name in ("epoch", "step") if name == "epoch" or self.evaluations]
            column_of = {name: self._metric_column(name) for name in names}
            columns += [*column_of.values(), *(name for each in scheduled for name in each), "seconds"]
            values = {name: [row.get(name) for row in rows] for name in columns}
            best = {}
            for name in names:
                column = values[column_of[name]]
                finite = [value for value in column if value is not None and math.isfinite(value)]
                if finite and (mode := Monitor.mode_of(name)):
                    best[column_of[name]] = column.index(min(finite) if mode == "min" else max(finite))
            end = self._words + (f": {self.reason}" if self.reason else "")
            table = html_table({name: number_texts(column) for name, column in values.items()}, columns, best)
            parts = [html_text(end), *parts, table]
        return html_page(parts)

    def rows_are_shown(self) -> None:
        """Note that a display has shown the rows in this cell of a notebook: there only the curves are shown again."""
        self._rows_shown_in = _cell()

    def append(self, record: EpochRecord) -> None:
        """Add the next epoch; the Trainer does this."""
        self._records.append(record)

    def metric(self, name: str) -> list[float]:
        """Return the values of one metric, one per epoch; NaN where an epoch lacks it.

        Raises:
            KeyError: If no epoch has it.
        """
        _known(name, self.metric_names())
        return [record.metrics.get(name, math.nan) for record in self]

    def metric_names(self) -> list[str]:
        """Return the names of all metrics, in the order of their first appearance."""
        return list(dict.fromkeys(name for record in self for name in record.metrics))

    def best(self, name: str, mode: Mode | None = None) -> EpochRecord:
        """Return the epoch with the best value of a metric, the first of equals.

        Args:
            name: The metric's name.
            mode: Whether "min" or "max" is better. Left out, it follows if the name ends in loss or accuracy.

        Raises:
            KeyError: If no epoch has the metric.
            ValueError: If it is NaN in every epoch, or the mode is left out and does not follow from the name.
        """
        self.metric(name)  # refuses a name that is unknown
        best = Monitor(name, mode).best_of(self)
        if best is None:
            raise ValueError(f"{name!r} must be a number in at least one epoch: it is NaN in all {len(self)}")
        return best

    def columns(self) -> list[str]:
        """Return the names of the columns of `to_csv` and `arrays`.

        These are epoch, steps and seconds; lr, the rate that the epoch's last update used, and lr_1, lr_2 and so on for
        further groups; what else is scheduled, likewise; then the metrics. A metric with one of these names gets the
        prefix `metric_`.
        """
        return [*_COLUMNS, *self._scheduled_columns(), *map(self._metric_column, self.metric_names())]

    def row(self, index: int) -> dict[str, float]:
        """Return the numbers of one epoch by column; columns that it lacks are left out."""
        record = self[index]
        metrics = {self._metric_column(name): value for name, value in record.metrics.items()}
        return {
            "epoch": record.epoch,
            "steps": record.steps,
            "seconds": record.seconds,
            **_by_column(record),
            **metrics,
        }

    def records(self) -> list[dict[str, float]]:
        """Return the epochs and the evaluations within them as flat dicts of numbers, in the order of their ends.

        Each has "epoch", from 1; "step", how many steps of the run were done; "seconds", how long it took; and its
        metrics. An epoch also has "steps", the number of its own, and "lr", the rate that its last update used, with
        "lr_1" and so on for further groups; what else is scheduled, likewise. What a record lacks is left out. A metric
        with one of these names gets the prefix `metric_`, as in `columns`.

        `pandas.DataFrame(history.records())` is a table with a row for each.

        >>> history = History([EpochRecord(epoch=1, steps=4, seconds=0.5, metrics={"loss": 0.25}, lr=(0.1,))])
        >>> history.records()
        [{'epoch': 1, 'step': 4, 'steps': 4, 'seconds': 0.5, 'lr': 0.1, 'loss': 0.25}]
        """
        done = accumulate(record.steps for record in self)
        found = [{"epoch": 0, "step": step, **self.row(index)} for index, step in enumerate(done)]
        for each in self.evaluations:
            metrics = {self._metric_column(name): value for name, value in each.metrics.items()}
            found.append({"epoch": each.epoch, "step": each.step, "seconds": each.seconds, **metrics})
        # Those within an epoch come before its end.
        return sorted(found, key=lambda record: (record["epoch"], "steps" in record, record["step"]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the columns as numpy arrays with one entry per epoch; NaN where an epoch lacks a number.

        >>> history = History([EpochRecord(epoch=1, lr=(0.1,)), EpochRecord(epoch=2, lr=(0.05,))])
        >>> history.arrays()["lr"].tolist()
        [0.1, 0.05]
        """
        import numpy as np

        rows = [self.row(index) for index in range(len(self))]
        dtypes: dict[str, type] = {"epoch": np.int64, "steps": np.int64}
        return {
            name: np.array([row.get(name, math.nan) for row in rows], dtype=dtypes.get(name, np.float64))
            for name in self.columns()
        }

    def to_csv(self, file: str | os.PathLike[str] | IO[str]) -> None:
        """Write one row per epoch, with `columns` as the header; a cell is empty where an epoch lacks a number.

        Floats are written in full: reading them back gives the same numbers.

        Args:
            file: A path, or a file opened for text.

        Raises:
            OSError: If the file cannot be written.
        """
        names = self.columns()
        text = csv_line(names) + "".join(csv_line(csv_cells(names, self.row(index))) for index in range(len(self)))
        if isinstance(file, (str, os.PathLike)):
            path = Path(file)
            check_replaceable("file", path)
            write_whole(path, [text.encode()])
        else:
            file.write(text)

    def plot(self, *names: str, figure: Figure | None = None) -> Figure:
        """Return a figure of metrics over the epochs, with the rates and what else is scheduled below.

        "loss" and "val_loss" share a panel, and so on. An evaluation within an epoch stands between that and the last.

        A notebook shows the figure; elsewhere save it with `figure.savefig("run.png")`. It is none of pyplot's, so that
        no window opens: for that, hand over one that is, `history.plot(figure=pyplot.figure())`.

        This needs matplotlib: `pip install lucid-train[plot]`.

        Args:
            *names: The metrics; by default all of them.
            figure: An empty figure to draw in; by default a new one.

        Raises:
            ImportError: If matplotlib is not installed.
            KeyError: If neither an epoch nor an evaluation has one of the metrics.
        """
        return curves(self._panels(names or self._all_names()), self._scheduled(), figure)

    def _all_names(self) -> list[str]:
        """Return the names of all metrics: those of epochs, then those of evaluations within epochs."""
        return list(dict.fromkeys(name for each in (*self, *self.evaluations) for name in each.metrics))

    def _panels(self, names: Iterable[str]) -> list[dict[str, Points]]:
        """Return the curves of metrics by panel: that of the steps and that of the evaluation are in one."""
        panels: dict[str, dict[str, Points]] = {}
        for name in names:
            panels.setdefault(name.removeprefix("val_"), {})[name] = self._points(name)
        return list(panels.values())

    def _points(self, name: str) -> Points:
        """Return where a metric's curve goes: an epoch's value at its end, that of an evaluation within it before."""
        _known(name, self._all_names())
        points = [(float(record.epoch), record.metrics[name]) for record in self if name in record.metrics]
        starts = [0, *accumulate(record.steps for record in self)]
        steps = [record.steps for record in self]
        for each in (each for each in self.evaluations if name in each.metrics):
            index = min(each.epoch - 1, len(steps))
            done = each.step - starts[index]
            # Nothing says yet how many steps an epoch has that is still open.
            whole = steps[index] if index < len(steps) else max([*steps[-1:], done])
            points.append((index + done / max(whole, done, 1), each.metrics[name]))
        points.sort(key=lambda point: point[0])
        return [x for x, _ in points], [y for _, y in points]

    def _scheduled(self) -> list[dict[str, Points]]:
        """Return where the curves of the rates go, and of what else is scheduled, by column: a panel for each name."""
        panels: dict[str, dict[str, Points]] = {}
        for name, group in self._scheduled_columns().values():
            found = [(record.epoch, values[group]) for record, values in self._values_of(name) if group < len(values)]
            panels.setdefault(name, {})[_column(name, group)] = [epoch for epoch, _ in found], [y for _, y in found]
        return list(panels.values())

    def _values_of(self, name: str) -> Iterator[tuple[EpochRecord, Sequence[float]]]:
        """Return the records that have a scheduled number, with its values of the groups."""
        found = ((record, record.lr if name == "lr" else record.scheduled.get(name, ())) for record in self)
        return ((record, values) for record, values in found if values)

    def _scheduled_columns(self) -> dict[str, tuple[str, int]]:
        """Return the columns of the rates and of what else is scheduled: of each the name, and the group."""
        names = ["lr", *self._scheduled_names()]
        groups = {name: max((len(values) for _, values in self._values_of(name)), default=0) for name in names}
        return {_column(name, group): (name, group) for name, count in groups.items() for group in range(count)}

    def _metric_column(self, name: str) -> str:
        """Return the column name of a metric: neither one of the others, nor that of another which got the prefix."""
        scheduled = self._scheduled_names()
        return f"metric_{name}" if name in scheduled or _stem(name) in scheduled or is_reserved(name) else name

    def _scheduled_names(self) -> dict[str, None]:
        """Return the names of what is scheduled besides the rates; each epoch is looked at once."""
        for record in self._records[self._named :]:
            self._names |= dict.fromkeys(record.scheduled)
        self._named = len(self._records)
        return self._names

    def to_dict(self) -> dict[str, Any]:
        """Return the history as dicts, lists, strings and numbers."""
        epochs, evaluations = _as_dicts(self), _as_dicts(self.evaluations)
        for epoch in epochs:
            epoch["lr"], epoch["last_lr"] = list(epoch["lr"]), list(epoch["last_lr"])
            epoch["scheduled"] = {name: list(values) for name, values in epoch["scheduled"].items()}
        return {"status": self.status, "reason": self.reason, "epochs": epochs, "evaluations": evaluations}

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs as plain JSON, column by column: a long history is a few lists of numbers."""
        columns: dict[str, Any] = {name: [getattr(record, name) for record in self] for name in _COLUMNS}
        for name in _RATES:
            columns[name] = _per_group(getattr(record, name) for record in self)
        names = self._scheduled_names()
        columns["scheduled"] = {name: _per_group(record.scheduled.get(name, ()) for record in self) for name in names}
        metrics: dict[str, Any] = {}
        for index, record in enumerate(self):
            for name, value in record.metrics.items():
                column = metrics.setdefault(name, {"epochs": [], "values": []})
                column["epochs"].append(index)
                column["values"].append(float(value))
        return {**columns, "metrics": metrics, "evaluations": _as_dicts(self.evaluations)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the epochs that `state_dict` returned, in place of those that are here.

        Of a state that names a file which is lost, only the number of epochs is known: they are here without metrics,
        rates, and how long they took.

        Raises:
            ValueError: If an entry is missing, unknown or of the wrong kind, or two are not of one length.
        """
        if isinstance(state, Mapping) and "segment" in state:
            count = whole_number("epochs", state.get("epochs"), least=0)
            if count > _MOST_LOST:
                raise ValueError(f"'epochs' must be at most {_MOST_LOST} where the history is lost: {count}")
            self._records, self.evaluations = [EpochRecord(epoch=epoch) for epoch in range(1, count + 1)], []
            self._names, self._named = {}, 0
            return
        try:
            check_entries("the state of a History", state, (*_COLUMNS, *_RATES, "scheduled", "metrics", "evaluations"))
            records = _records(state)
            evaluations = [_evaluation(entries) for entries in state["evaluations"]]
        except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise ValueError(f"the state is not one of a History: {type(error).__name__}: {error}") from error
        self._records, self.evaluations = records, evaluations
        self._names, self._named = {}, 0


def csv_cells(names: Sequence[str], row: Mapping[str, float]) -> list[str]:
    """Return the cells of a row of a CSV file, in the order of `names`; one that the row lacks is empty."""
    return [number_text(row[name]) if name in row else "" for name in names]


def number_text(value: float) -> str:
    """Return a number in full: reading it back gives the same number."""
    return str(value) if isinstance(value, int) else repr(float(value))


def csv_line(entries: Sequence[str]) -> str:
    """Return a line of a CSV file, with its newline."""
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(entries)
    return buffer.getvalue()


def _known(name: str, names: Sequence[str]) -> None:
    if name not in names:
        known = ", ".join(names) or "of which there are none"
        raise KeyError(f"'name' must be one of the metrics, {known}: {name!r}")


def _cell() -> int | None:
    """Return the number of the notebook's cell that is being executed, or None where there is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return None if shell is None else shell.execution_count


def is_reserved(name: str) -> bool:
    """Return whether a name is that of a column that every history may have, or begins as some do."""
    return name in ("epoch", "step", "steps", "seconds", "lr") or name.startswith(("lr_", "metric_"))


def _column(name: str, group: int) -> str:
    """Return the column name of a parameter group's rate, or other scheduled number."""
    return f"{name}_{group}" if group else name


def _stem(name: str) -> str:
    """Return the scheduled number that a column would be of, "kl" for "kl_1"."""
    stem, _, number = name.rpartition("_")
    return stem if number.isdecimal() else name


def _by_column(record: EpochRecord) -> dict[str, float]:
    """Return the scheduled numbers of a record by column, the rates first."""
    found = {"lr": record.lr, **record.scheduled}
    return {_column(name, group): value for name, values in found.items() for group, value in enumerate(values)}


def _per_group(rows: Iterable[Sequence[float]]) -> dict[str, Any]:
    """Return numbers per group, of each epoch, as two lists; `_rows` reads them."""
    listed = list(rows)
    return {"groups": list(map(len, listed)), "values": [value for each in listed for value in each]}


def _rows(name: str, packed: Mapping[str, Any]) -> list[tuple[float, ...]]:
    groups, values = packed["groups"], list(map(float, packed["values"]))
    if sum(groups) != len(values):
        raise ValueError(f"{name!r} must have a value for each of {sum(groups)} groups: {len(values)}")
    left = iter(values)
    return [tuple(islice(left, count)) for count in groups]


def _as_dicts(records: Sequence[EpochRecord | EvaluationRecord]) -> list[dict[str, Any]]:
    return [{**attrs.asdict(record), "metrics": dict(record.metrics)} for record in records]


def _records(state: Mapping[str, Any]) -> list[EpochRecord]:
    columns = [list(map(read, state[name])) for name, read in _COLUMNS.items()]
    metrics: dict[int, dict[str, float]] = {index: {} for index in range(len(columns[0]))}
    for name, column in state["metrics"].items():
        for index, value in zip(column["epochs"], map(float, column["values"]), strict=True):
            metrics[index][name] = value
    scheduled: list[dict[str, tuple[float, ...]]] = [{} for _ in columns[0]]
    for name, packed in state["scheduled"].items():
        for found, values in zip(scheduled, _rows(name, packed), strict=True):
            found |= {name: values} if values else {}
    rows = zip(*columns, metrics.values(), *(_rows(name, state[name]) for name in _RATES), scheduled, strict=True)
    return [
        EpochRecord(epoch=epoch, steps=steps, seconds=seconds, metrics=found, lr=lr, last_lr=last_lr, scheduled=numbers)
        for epoch, steps, seconds, found, lr, last_lr, numbers in rows
    ]


def _evaluation(entries: Mapping[str, Any]) -> EvaluationRecord:
    numbers = {"epoch": operator.index(entries["epoch"]), "step": operator.index(entries["step"])}
    metrics = {name: float(value) for name, value in entries["metrics"].items()}
    return EvaluationRecord(**{**entries, **numbers, "seconds": float(entries["seconds"]), "metrics": metrics})
