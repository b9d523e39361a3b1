"""Header and summary of a fit: what is known of it before it begins, and after it has ended."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from attrs import define
from rich.text import Text

from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.formatting import Numbers
from lucid_train.callbacks.display.table import Record, metric_names
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.description import object_name, parameter_count
from lucid_train.events import FitEnd
from lucid_train.history import EvaluationRecord
from lucid_train.monitor import Monitor
from lucid_train.saving.checkpoint.directory import BEST, LAST, Directory
from lucid_train.training.plan import schedule_text
from lucid_train.training.run import Run

# Columns of the header and the summary, wherever they are shown.
WIDTH = 80
_WIDEST_CURVE = 40
# A curve of fewer points says nothing.
_SHORTEST_CURVE = 3


@define(frozen=True)
class Entry:
    """A label and what belongs to it.

    Args:
        label: The label.
        text: What is said.
        style: The style of the label.
        curve: Numbers to draw behind the text; None for an entry that has no curve, and that a plain line says as well.
        broken: Whether a word that is too long for a line of a terminal is broken; a path that is cannot be copied.
    """

    label: str
    text: str
    style: str = "label"
    curve: Sequence[float] | None = None
    broken: bool = True


def as_plain(entries: Sequence[Entry], theme: Theme) -> list[Text]:
    """Return entries as plain lines, without those that draw a curve."""
    lines = []
    for entry in (each for each in entries if each.curve is None):
        phrases = _phrases(f"{entry.label} {entry.text}", theme)
        lines += formatting.flow(phrases, WIDTH, 2, " ", fold=False)
    return lines


def _phrases(text: str, theme: Theme) -> list[Text]:
    """Return the parts of a text between which a line may end: what belongs together stays together."""
    return [theme.text(part) for part in re.split("(?<=[,;:.]) ", text)]


def as_lines(entries: Sequence[Entry], theme: Theme, width: int) -> list[Text]:
    """Return entries one below the other, and their curves too."""
    width = min(width, WIDTH)
    room = max((theme.width(entry.label) for entry in entries), default=0)
    before = max((theme.width(entry.text) for entry in entries if entry.curve is not None), default=0)
    margin = 1 if width >= 60 else 0
    space = width - margin - room - 2
    lines = []
    for entry in entries:
        parts = [theme.cell(entry.label, room + 1, entry.style, left=True)]
        if entry.curve is not None and len(entry.curve) >= _SHORTEST_CURVE and space - before - 2 >= _SHORTEST_CURVE:
            size = min(_WIDEST_CURVE, space - before - 2)
            curve = formatting.curve(entry.curve, size, ascii_only=theme.ascii_only)
            text = theme.cell(entry.text, before, left=True)
            parts.append(formatting.join([text, Text(curve, style=theme.styles["lucid.curve"], end="")]))
        else:
            parts += _phrases(entry.text, theme)
        longest = max(map(theme.width, entry.text.split()), default=0)
        indent = room + 2 if space >= max(30, longest) else 2
        flowing = formatting.flow(parts, width - margin, indent, " ", fold=entry.broken)
        lines += [Text(" " * margin, end="") + line for line in flowing]
    return lines


def header_entries(run: Run, monitor: Monitor | None) -> list[Entry]:
    """Return what is known of a run that begins or goes on, where it is not what is always so.

    Args:
        run: The run.
        monitor: The metric whose best value is marked, where it is known already: the star is explained then.
    """
    entries = []
    if run.model is not None:
        count = parameter_count(run.model)
        parts = [object_name(run.model), "" if count is None else formatting.plural(count, "parameter")]
        entries.append(Entry("model", ", ".join(filter(None, parts))))
    first, done = len(run.history) + 1, run.epoch_step
    span = f"epochs {first} to {run.epochs}" if first < run.epochs else f"epoch {first}"
    if first == 1 and not done:
        span = formatting.plural(run.epochs, "epoch")
    steps = "" if run.steps_per_epoch is None else f" of {formatting.plural(run.steps_per_epoch, 'step')}"
    parts = [span + steps, *([f"from step {done + 1}"] if done else [])]
    if run.optimizer is not None:
        groups = len(run.last_lr)
        parts.append(object_name(run.optimizer) + (f" with {groups} groups" if groups > 1 else ""))
    entries.append(Entry("training", ", ".join(parts)))
    if run.world_size > 1:
        text = f"{run.world_size:,} ({run.connection}); while an epoch runs, values are of the first"
        entries.append(Entry("processes", text + "; each saves its own weights" * run.own_weights))
    entries += [Entry("schedule", schedule_text(each, run)) for each in run.callbacks if each.schedules()]
    described: dict[str, list[str]] = {}
    for callback in run.callbacks:
        for label, text in callback.describe().items():
            described.setdefault(label, []).append(text)
    if monitor is not None:
        goal = f"{'lowest' if monitor.mode == 'min' else 'highest'} {monitor.name}"
        texts = next((texts for texts in described.values() if texts[0].endswith(goal)), None)
        if texts is None:
            described["best"] = [goal]
        (texts or described["best"])[0] += " (*)"
    return entries + [Entry(label, "; ".join(texts)) for label, texts in described.items()]


def awaited_lines(run: Run, throughput: Throughput, theme: Theme, width: int) -> list[Text]:
    """Return what a run that was interrupted waits for, as one sentence or two."""
    saves = any(callback.checkpoints() is not None for callback in run.callbacks)
    text = f"this {'step' if throughput.evaluating is None else 'evaluation'} ends first"
    text += ", then the run is saved." if saves else "."
    if isinstance(run.interruption, KeyboardInterrupt):
        text += " Ctrl-C again stops at once" + (", without saving." if saves else ".")
    return formatting.flow([theme.text("Stopping:", "interrupted"), *_phrases(text, theme)], min(width, WIDTH), gap=" ")


def saved_entries(event: FitEnd, saved: Path | None) -> list[Entry]:
    """Return what was saved and, if the run is not completed, how it goes on from there; nothing if nothing was.

    Args:
        event: The end of the fit.
        saved: The last checkpoint that this fit has written, or None.
    """
    run = event.run
    places = [Path(place) for callback in run.callbacks if (place := callback.checkpoints()) is not None]
    if saved is None and run.epoch and places:
        saved = next(reversed(Directory(places[0]).files()), None)
    if saved is None:
        return []
    found = []
    for name in (BEST, LAST):
        # A link, where the system has links: the name of the file that it leads to says which one it is.
        match = re.search(r"-epoch-(\d+)-step-(\d+)", os.path.basename(os.path.realpath(saved.parent / name)))
        if match is not None and (saved.parent / name).is_file():
            found.append(f"{name} (epoch {match[1]}" + (")" if event.status == "completed" else f", step {match[2]})"))
    text = f"{saved.parent}: {', '.join(found)}" if found else str(saved)
    if event.status != "completed" and run.goes_on and run.finished_reason is None:
        text += "; the same command goes on from there"
    elif event.status != "completed":
        resume = '"auto"' if len(places) < 2 else f'"{saved.parent}"'
        accept = "" if run.finished_reason is None else ', accept="stopped"'
        text += f"; go on with fit(resume={resume}{accept})"
    return [Entry("saved", text, broken=False)]


def summary_entries(
    event: FitEnd, throughput: Throughput, monitor: Monitor | None, best: Record | None, numbers: Numbers
) -> list[Entry]:
    """Return how a fit has ended and its results.

    Args:
        event: The end of the fit.
        throughput: The times of the fit.
        monitor: The metric by which epochs are compared, or None if it has none.
        best: The best epoch or evaluation by that metric, or None if there is none.
        numbers: How numbers are written.
    """
    run, history, names = event.run, event.history, metric_names(event.history)
    steps = throughput.steps + throughput.epoch_steps
    done = f"{formatting.plural(throughput.epochs, 'epoch')}, {formatting.plural(steps, 'step')}"
    trained = f"{done} in {formatting.seconds(throughput.elapsed)}"
    if throughput.seconds > 0 and throughput.steps:
        trained += f" ({formatting.speed(throughput.steps / throughput.seconds)})"
    if event.reason is None:
        entries = [Entry(event.status, trained, event.status)]
    else:
        # "interrupted by Ctrl-C" need not repeat the status.
        first, comma, rest = event.reason.removeprefix(f"{event.status} ").partition(", ")
        interrupted = event.status == "interrupted"
        text = f"{first} {_place(run)}{comma}{rest}" if interrupted else f"{_place(run)}: {first}{comma}{rest}"
        entries = [Entry(event.status, text, event.status), Entry("trained", trained)]
    if monitor is not None and best is not None:
        metrics = {monitor.name: best.metrics[monitor.name], **best.metrics}
        place = f"epoch {best.epoch}" + (f", step {best.step}" if isinstance(best, EvaluationRecord) else "")
        texts = [f"{name} {numbers.metric(name, value)}" for name, value in metrics.items()]
        entries.append(Entry("best", f"{place}: {', '.join(texts)}"))
    elif monitor is not None and history and monitor.name not in names:
        entries.append(Entry("best", f"unknown: {monitor.name} is not among the metrics, {', '.join(names) or 'none'}"))
    of_epochs = history.metric_names()
    for name in dict.fromkeys([*names[:1], *([monitor.name] if monitor is not None and monitor.name in names else [])]):
        measured = history if name in of_epochs else history.evaluations
        values = [record.metrics.get(name, math.nan) for record in measured]
        known = [value for value in values if not math.isnan(value)] or [math.nan]
        if len(values) > 1:
            ends = f"{numbers.metric(name, known[0])} -> {numbers.metric(name, known[-1])}"
            entries.append(Entry(name, ends, curve=values))
    rates = [record.lr for record in history if record.lr]
    if len(set(rates)) > 1:
        ends = f"{numbers.rates(rates[0])} -> {numbers.rates(rates[-1])}"
        entries.append(Entry("lr", ends, curve=[lr[0] for lr in rates]))
    for label in dict.fromkeys(each for record in history for each in record.scheduled):
        used = [record.scheduled[label] for record in history if label in record.scheduled]
        if len(set(used)) > 1:
            ends = f"{numbers.scheduled(label, used[0])} -> {numbers.scheduled(label, used[-1])}"
            entries.append(Entry(label, ends, curve=[values[0] for values in used]))
    if timings := sorted(run.hook_seconds.items(), key=lambda item: -item[1]):
        texts = [f"{name} {formatting.seconds(spent)}" for name, spent in timings]
        entries.append(Entry("callbacks", ", ".join(texts)))
    return entries


def _place(run: Run) -> str:
    """Return where a run has ended."""
    finished = len(run.history)
    if run.epoch <= finished:
        return f"after epoch {finished}" if finished else "before the first epoch"
    return f"in epoch {run.epoch}" + (f", after step {run.step:,}" if run.step else "")
