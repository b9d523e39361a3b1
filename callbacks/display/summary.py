"""Header and summary of a fit: what is known of it before it begins, and after it has ended."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import define
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.table import Record, metric_names
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.description import object_name, parameter_count, text_without_addresses
from lucid_train.events import FitEnd
from lucid_train.history import EvaluationRecord
from lucid_train.monitor import Monitor
from lucid_train.saving.checkpoint.directory import Directory
from lucid_train.training.plan import schedule_text
from lucid_train.training.run import Run

_WIDEST_CURVE = 40


@define(frozen=True)
class Entry:
    """A label and what belongs to it.

    Args:
        label: The label.
        parts: Texts, each of which stays whole if a line can hold it.
        style: The style of the label.
        curve: Numbers to draw behind the texts.
        broken: Whether a line that is too long is broken; a path that is cannot be copied.
    """

    label: str
    parts: Sequence[str]
    style: str = "label"
    curve: Sequence[float] = ()
    broken: bool = True


def as_line(entries: Sequence[Entry]) -> str:
    """Return entries in one line, without their curves."""
    return "  ".join(" ".join([entry.label, "  ".join(entry.parts)]).rstrip() for entry in entries)


def as_lines(entries: Sequence[Entry], theme: Theme, width: int) -> list[Text]:
    """Return entries one below the other."""
    room = max((theme.width(entry.label) for entry in entries), default=0)
    margin = 1 if width >= 60 else 0
    space = width - margin - room - 2
    lines = []
    for entry in entries:
        parts = [theme.cell(entry.label, room, entry.style, left=True), *map(theme.text, entry.parts)]
        if entry.curve:
            curve = formatting.curve(entry.curve, min(_WIDEST_CURVE, space), ascii_only=theme.ascii_only)
            parts.append(Text(curve, style=theme.styles["lucid.curve"], end=""))
        indent = room + 2 if space >= 20 else 2
        longest = width - margin if entry.broken else sys.maxsize
        lines += [Text(" " * margin, end="") + line for line in formatting.flow(parts, longest, indent)]
    return lines


def header_entries(run: Run) -> list[Entry]:
    """Return what is known of a run that begins or goes on."""
    entries = []
    if run.model is not None:
        count = parameter_count(run.model)
        parts = [object_name(run.model), "" if count is None else formatting.plural(count, "parameter")]
        entries.append(Entry("model", [", ".join(filter(None, parts))]))
    first = len(run.history) + 1
    span = formatting.plural(run.epochs, "epoch") if first == 1 else f"epochs {first} to {run.epochs}"
    steps = "" if run.steps_per_epoch is None else f" of {formatting.plural(run.steps_per_epoch, 'step')}"
    entries.append(Entry("training", [span + steps]))
    if lr := run.last_lr:
        groups = f" ({len(lr)} groups)" if len(lr) > 2 and len(set(lr)) > 1 else ""
        entries.append(Entry("lr", [formatting.rates(lr) + groups]))
    schedules = [schedule_text(each, run) for each in run.callbacks if each.schedules()]
    entries += [Entry("schedule", [text_without_addresses(text)]) for text in schedules]
    judges = [f"{object_name(each)} on {monitor}" for each in run.callbacks if (monitor := each.monitored())]
    entries += [Entry("monitor", judges)] if judges else []
    if run.callbacks:
        entries.append(Entry("callbacks", [", ".join(map(object_name, run.callbacks))]))
    return entries


def awaited_entry(run: Run, throughput: Throughput) -> Entry:
    """Return what a run that was interrupted waits for."""
    saves = any(callback.checkpoints() is not None for callback in run.callbacks)
    text = f"after this {'step' if throughput.evaluating is None else 'evaluation'}"
    text += ", then saving" * saves
    if isinstance(run.interruption, KeyboardInterrupt):
        text += "; Ctrl-C again to stop now" + " without saving" * saves
    return Entry("stopping", [text], "interrupted")


def saved_entries(event: FitEnd, saved: Path | None) -> list[Entry]:
    """Return from which checkpoint a run that is not completed can go on, and how; nothing if there is none.

    Args:
        event: The end of the fit.
        saved: The last one that this fit has written, or None.
    """
    run = event.run
    places = [Path(place) for callback in run.callbacks if (place := callback.checkpoints()) is not None]
    if saved is None and run.epoch and places:
        saved = next(reversed(Directory(places[0]).files()), None)
    if saved is None or event.status == "completed":
        return []
    resume = '"auto"' if len(places) < 2 else f'"{saved.parent}"'
    accept = "" if run.finished_reason is None else ', accept="stopped"'
    return [Entry("saved", [f"{saved}; go on with fit(resume={resume}{accept})"], broken=False)]


def summary_entries(event: FitEnd, throughput: Throughput, monitor: Monitor | None, best: Record | None) -> list[Entry]:
    """Return how a fit has ended and its results.

    Args:
        event: The end of the fit.
        throughput: The times of the fit.
        monitor: The metric by which the run is judged, or None if it has none.
        best: The best epoch or evaluation by that metric, or None if there is none.
    """
    run, history, names = event.run, event.history, metric_names(event.history)
    steps = throughput.steps + throughput.epoch_steps
    done = f"{formatting.plural(throughput.epochs, 'epoch')}, {formatting.plural(steps, 'step')}"
    trained = [f"{done} in {formatting.seconds(throughput.elapsed)}"]
    if throughput.seconds > 0 and throughput.steps:
        trained.append(formatting.speed(throughput.steps / throughput.seconds))
    if run.epoch_step:
        total = "" if run.steps_per_epoch is None else f"/{run.steps_per_epoch}"
        trained.append(f"up to step {run.epoch_step}{total} of epoch {run.epoch}")
    # "interrupted by the keyboard" need not repeat the status.
    reason = (event.reason or "").removeprefix(f"{event.status} ")
    entries = [Entry(event.status, [reason] if reason else trained, event.status)]
    if reason:
        entries.append(Entry("trained", trained))
    if monitor is not None and best is not None:
        metrics = {monitor.name: best.metrics[monitor.name], **best.metrics}
        place = [f"epoch {best.epoch}", *([f"step {best.step}"] if isinstance(best, EvaluationRecord) else [])]
        entries.append(Entry("best", place + [f"{name} {formatting.metric(value)}" for name, value in metrics.items()]))
    elif monitor is not None and history and monitor.name not in names:
        known = ", ".join(names) or "none"
        entries.append(Entry("best", [f"unknown: {monitor.name} is not among the metrics, {known}"]))
    if rates := [rate for record in history for rate in record.lr]:
        low, high = formatting.rate(min(rates)), formatting.rate(max(rates))
        curve = [record.lr[0] for record in history if record.lr]
        entries.append(Entry("lr", [low if low == high else f"{low} .. {high}"], curve=curve))
    if names:
        name = monitor.name if monitor is not None and monitor.name in names else names[0]
        measured = history if name in history.metric_names() else history.evaluations
        values = [record.metrics.get(name, math.nan) for record in measured]
        known_values = [value for value in values if not math.isnan(value)] or [math.nan]
        first, last = formatting.metric(known_values[0]), formatting.metric(known_values[-1])
        entries.append(Entry(name, [f"{first} .. {last}"], curve=values))
    if timings := sorted(run.hook_seconds.items(), key=lambda item: -item[1]):
        entries.append(Entry("callbacks", [f"{name} {formatting.seconds(spent)}" for name, spent in timings]))
    return entries
