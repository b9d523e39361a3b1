"""What there is to say about a fit before it begins and after it has ended."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from attrs import define
from rich.text import Text

from lucid_train.callback import FunctionListener
from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.table import Best
from lucid_train.callbacks.display.theme import Look, flow
from lucid_train.callbacks.display.throughput import Pace
from lucid_train.events import FitEnd
from lucid_train.history import EpochRecord
from lucid_train.training.run import Run

_WIDEST_CURVE = 40


@define(frozen=True)
class Fact:
    """A label and what belongs to it.

    Args:
        label: What it is about.
        parts: What there is to say, in pieces that stay whole.
        style: The style of the label.
        curve: Numbers to draw after it, where there is a screen for it.
    """

    label: str
    parts: Sequence[str]
    style: str = "label"
    curve: Sequence[float] = ()


def as_line(facts: Sequence[Fact]) -> str:
    """Return facts in one line."""
    return "  ".join(" ".join([fact.label, "  ".join(fact.parts)]).rstrip() for fact in facts)


def as_lines(facts: Sequence[Fact], look: Look, width: int) -> list[Text]:
    """Return facts under one another, each at its label."""
    room = max((look.width(fact.label) for fact in facts), default=0)
    margin = 1 if width >= 60 else 0
    lines = []
    for fact in facts:
        label = look.cell(fact.label, room, fact.style, left=True)
        space = width - margin - room - 2
        # A part stays whole if a line can hold it; the words of one that is longer go where there is room.
        words = [
            word
            for part in fact.parts
            for word in ([part, ""] if look.width(part) <= space else [*part.split(" "), ""])
        ]
        indent = room + 2 if all(look.width(word) <= space for word in words) else 2
        parts = [label, Text(""), *map(look.text, words)]
        if fact.curve:
            drawn = formatting.curve(fact.curve, min(_WIDEST_CURVE, space), ascii_only=look.ascii_only)
            parts.append(Text(drawn, style=look.styles["lucid.curve"], end=""))
        lines += [Text(" " * margin, end="") + line for line in flow(parts, width - margin, " ", indent)]
    return lines


def before(run: Run) -> list[Fact]:
    """Return what is known of a run that begins or goes on."""
    facts = []
    if run.model is not None:
        count = _parameters(run.model)
        parts = [type(run.model).__name__, "" if count is None else formatting.plural(count, "parameter")]
        facts.append(Fact("model", [", ".join(filter(None, parts))]))
    first = len(run.history) + 1
    span = formatting.plural(run.epochs, "epoch") if first == 1 else f"epochs {first} to {run.epochs}"
    steps = "" if run.steps_per_epoch is None else f" of {formatting.plural(run.steps_per_epoch, 'step')}"
    facts.append(Fact("training", [span + steps]))
    if lr := run.last_lr:
        groups = f" ({len(lr)} groups)" if len(lr) > 2 and len(set(lr)) > 1 else ""
        facts.append(Fact("lr", [formatting.rates(lr) + groups]))
    facts += [Fact("schedule", [_shown(each)]) for each in run.callbacks if each.schedules()]
    if run.callbacks:
        facts.append(Fact("callbacks", [", ".join(_name(callback) for callback in run.callbacks)]))
    return facts


def after(event: FitEnd, pace: Pace, best: Best) -> list[Fact]:
    """Return what a fit that has ended came to."""
    run, history = event.run, event.history
    steps = pace.steps + pace.steps_at_hand(run.epoch_step)
    done = f"{formatting.plural(pace.epochs, 'epoch')}, {formatting.plural(steps, 'step')}"
    trained = [f"{done} in {formatting.seconds(pace.elapsed)}"]
    if pace.seconds > 0 and pace.steps:
        trained.append(formatting.pace(pace.steps / pace.seconds))
    if run.epoch_step:
        total = "" if run.steps_per_epoch is None else f"/{run.steps_per_epoch}"
        trained.append(f"up to step {run.epoch_step}{total} of epoch {run.epoch}")
    # "interrupted by the keyboard" need not say twice that it was.
    reason = (event.reason or "").removeprefix(f"{event.status} ")
    facts = [Fact(event.status, [reason] if reason else trained, event.status)]
    if reason:
        facts.append(Fact("trained", trained))
    if best.epoch:
        facts.append(Fact("best", _best(history[best.epoch - 1], best)))
    elif best.monitor and history:
        known = ", ".join(history.metric_names()) or "none"
        facts.append(Fact("best", [f"unknown: {best.monitor} is not among the metrics, {known}"]))
    if rates := [rate for record in history for rate in record.lr]:
        low, high = formatting.rate(min(rates)), formatting.rate(max(rates))
        curve = [record.lr[0] for record in history if record.lr]
        facts.append(Fact("lr", [low if low == high else f"{low} .. {high}"], curve=curve))
    name = best.name if best.name in history.metric_names() else next(iter(history.metric_names()), None)
    if name is not None:
        values = history.metric(name)
        ends = [value for value in values if not math.isnan(value)] or [math.nan]
        facts.append(Fact(name, [f"{formatting.metric(ends[0])} .. {formatting.metric(ends[-1])}"], curve=values))
    if timings := sorted(run.hook_seconds.items(), key=lambda item: -item[1]):
        facts.append(Fact("callbacks", [f"{name} {formatting.seconds(spent)}" for name, spent in timings]))
    return facts


def _best(record: EpochRecord, best: Best) -> list[str]:
    watched = [] if best.name is None else [best.name]
    names = list(dict.fromkeys([*watched, *record.metrics]))
    return [f"epoch {record.epoch}", *(f"{name} {formatting.metric(record.metrics[name])}" for name in names)]


def _name(callback: Any) -> str:
    if isinstance(callback, FunctionListener):
        return getattr(callback.function, "__name__", type(callback.function).__name__)
    return type(callback).__name__


def _shown(callback: Any) -> str:
    # PyTorch's schedulers have no repr of their own; where they are in memory is nobody's business.
    return re.sub(r" object at 0x[0-9a-f]+", "", repr(callback))


def _parameters(model: Any) -> int | None:
    """Return how many numbers a model trains, if it has a way to tell."""
    try:
        # A tensor has a shape, a parameter of lucid_train.nn has data that has one.
        held = [each if hasattr(each, "shape") else each.data for each in model.parameters()]
        return sum(math.prod(map(int, each.shape)) for each in held)
    except Exception:  # anything may be a model, and a display must not be what stops its training
        return None
