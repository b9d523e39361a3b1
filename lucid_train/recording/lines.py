"""The events of a run as lines of JSON: what a line holds, how it is written and read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from lucid_train.description import error_text, short_text
from lucid_train.events import EpochReport, Event, StepEnd, event_classes, find_event_class
from lucid_train.files import open_file
from lucid_train.history import EpochRecord, EvaluationRecord
from lucid_train.metrics import StepResult, to_metrics
from lucid_train.recording import values
from lucid_train.saving.bounded_json import affordable_size, parse, parsing_cost
from lucid_train.training.run import Run
from lucid_train.validation import one_of

_Read = Callable[[str, Any], Any]

FORMAT = 1
LONGEST_LINE = 1 << 26
# What a user's event carries is ten levels of tagged values.
_DEEPEST = 50
# Seconds since 1970 in the year 33658.
_END_OF_TIME = 1e12
LIBRARY_EVENTS = {cls.__name__: cls for cls in event_classes() if cls.__module__ == Event.__module__}
# What a line says of the run when it has changed. What has been added to the history it says too, record by record.
RUN_FIELDS = (
    "epochs",
    "steps_per_epoch",
    "evaluate_every",
    "evaluate_steps",
    "epoch",
    "step",
    "reason",
    "last_lr",
    "scheduled",
)
ADDED_FIELDS = ("history", "evaluations")
# The run says the rest; its batches are not recorded.
_NOT_RECORDED = {"run", "batch", "history", "record"}
_FIELDS: dict[type, tuple[str, ...]] = {
    cls: tuple(f.name for f in attrs.fields(cls) if f.name not in _NOT_RECORDED)
    for cls in (*LIBRARY_EVENTS.values(), EpochRecord, EvaluationRecord)
}


class RecordedError(Exception):
    """An exception that left a recorded run, as its class name and message; the class itself is not looked up."""


@attrs.frozen
class Line:
    """One line of a log.

    Args:
        event: The event's class name, or "progress" for a line that only says how far the run has come.
        time: Seconds since 1970 when it was written.
        run: What has changed in the run since the previous line.
        fields: What the event carries.
        number: The line's number in the file, from 1.
        begin: Its byte offset.
        end: Byte offset of the next line.
    """

    event: str
    time: float
    run: dict[str, Any]
    fields: dict[str, Any]
    number: int
    begin: int
    end: int


def write_line(event: str, time: float, fields: Mapping[str, Any], run: Mapping[str, Any]) -> bytes:
    """Return a line as bytes: strict JSON in ASCII, newline included.

    A user's own event that would make it more than readers accept is shortened.
    """
    entries = {"event": event, "time": round(time, 3), **fields} | ({"run": run} if run else {})
    line = json.dumps(entries, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    if "fields" not in fields or (len(line) <= LONGEST_LINE and affordable_size(parsing_cost(line)) <= _room(line)):
        return line
    own = {name: {"!repr": short_text(value)} for name, value in fields["fields"].items()}
    return write_line(event, time, {**fields, "fields": own}, run)


def read_log(path: Path, *, offset: int = 0, number: int = 0) -> Iterator[Line]:
    """Yield the lines of a log from a byte offset on. An incomplete last line, one without a newline, is left out.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line is not one of a log; the error names it.
    """
    try:
        opened = open_file(path)
    except ValueError as error:
        raise not_a_log(path, str(error)) from None
    with opened as file:
        file.seek(offset)
        while (raw := file.readline(LONGEST_LINE + 1)).endswith(b"\n"):
            number, begin, offset = number + 1, offset, offset + len(raw)
            try:
                line = Line(*_read_entries(raw), number, begin, offset)
                if number == 1 and (line.event != "FitStart" or line.fields.get("format") != FORMAT):
                    raise ValueError(f"it is not the first line of a log of format {FORMAT}")
            except ValueError as error:
                raise not_a_log(path, f"in line {number}, {error}") from None
            yield line
        if len(raw) > LONGEST_LINE:
            raise not_a_log(path, f"line {number + 1} is longer than {LONGEST_LINE} bytes")


def _room(line: bytes) -> int:
    """Return the length of the file whose parsing may take as much memory as that of a line may."""
    return 5 * len(line) + (4 << 20)  # a line is short, and the numbers of an epoch have names each time


def not_a_log(path: Path, why: str) -> ValueError:
    """Return the error for a file that is not the log of a run."""
    return ValueError(f"'{path}' is not the log of a run: {why}")


def _read_entries(raw: bytes) -> tuple[str, float, dict[str, Any], dict[str, Any]]:
    """Return the event of a line, its time, what has changed in the run, and what the event carries."""
    entries = parse(raw, size=_room(raw), depth=_DEEPEST)
    if not isinstance(entries, dict):
        raise ValueError("it is not a JSON object")
    event, time, run = entries.pop("event", None), entries.pop("time", None), entries.pop("run", {})
    known = isinstance(event, str) and isinstance(run, dict) and values.is_number(time)
    if not known or not 0 <= time < _END_OF_TIME:
        raise ValueError("it lacks the name of an event, or its time")
    return event, float(time), run, entries


def pack_fields(names: Iterable[str], value: Any) -> dict[str, Any]:
    """Return the named fields of an event, a record or a run as JSON."""
    return {name: _FORMS[name][0](getattr(value, name)) for name in names}


def read_fields(names: Iterable[str], packed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named fields of an event, a record or a run.

    Raises:
        ValueError: If one is missing or of the wrong kind.
    """
    return {name: _FORMS[name][1](name, packed.get(name)) for name in names}


def pack_records(records: Iterable[EpochRecord | EvaluationRecord]) -> list[dict[str, Any]]:
    """Return records of the history as JSON."""
    return [pack_fields(_FIELDS[type(record)], record) for record in records]


def pack_event(event: Event) -> dict[str, Any]:
    """Return what an event carries besides the run as JSON; what is not JSON by its repr."""
    cls = type(event)
    if cls not in _FIELDS:
        own = {f.alias: getattr(event, f.name) for f in attrs.fields(cls) if f.init and f.name != "run"}
        return {"module": cls.__module__, "fields": {name: values.pack_value(value) for name, value in own.items()}}
    packed = pack_fields(_FIELDS[cls], event)
    if isinstance(event, StepEnd) and type(event.output) is StepResult:
        weight = event.output.weight
        packed["weight"] = weight if type(weight) is int else values.pack_number(weight)
        packed["updated"] = event.output.updated
    return packed


def read_event(line: Line, run: Run) -> Event | None:
    """Return the event of a line up to which the run has been brought, or None if its class is not defined here.

    Raises:
        ValueError: If the line does not hold what the event carries.
    """
    cls = find_event_class(line.event, line.fields.get("module"))
    if cls is None:
        return None
    if cls in _FIELDS:
        fields = read_fields(_FIELDS[cls], line.fields)
        if cls is EpochReport:
            if not run.history:
                raise ValueError("no epoch has ended")
            fields["record"] = run.history[-1]
        if cls is StepEnd and "updated" in line.fields:
            weight = line.fields.get("weight", 1)
            number, updated = (
                values.read_number("weight", weight),
                values.read_json("updated", line.fields["updated"], bool),
            )
            fields["output"] = StepResult(fields["output"], weight if type(weight) is int else number, updated)
        return cls(run=run, **fields)
    fields = values.read_json("fields", values.read_value(line.fields.get("fields")), dict)
    try:
        return cls(run=run, **fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{line.event} is not what it was when it was recorded, {error}") from error


def _pack_output(output: Any) -> Any:
    metrics = values.pack_metrics(to_metrics(output))
    output = output.metrics if type(output) is StepResult else output
    return metrics if isinstance(output, Mapping) else metrics.get("loss")


def _read_output(name: str, packed: Any) -> Any:
    return (values.read_metrics if isinstance(packed, dict) else values.read_number)(name, packed)


def _read_records(cls: type) -> _Read:
    def read(name: str, packed: Any) -> Any:
        entries = (values.read_json(name, each, dict) for each in values.read_json(name, packed, list))
        return [cls(**read_fields(_FIELDS[cls], each)) for each in entries]

    return read


def _or_null(read: _Read) -> _Read:
    return lambda name, packed: None if packed is None else read(name, packed)


def _as_it_is(value: Any) -> Any:
    return value


# How the fields of a name are written and read, wherever they occur.
_FORMS: dict[str, tuple[Callable[[Any], Any], _Read]] = {
    name: (pack, read)
    for names, pack, read in (
        ("answer by command id", _as_it_is, partial(values.read_json, kind=str)),
        ("asked done", _as_it_is, partial(values.read_json, kind=bool)),
        ("epoch epochs step steps", _as_it_is, values.read_count),
        ("error", error_text, lambda name, packed: RecordedError(str(packed))),
        ("evaluate_every evaluate_steps", _as_it_is, _or_null(partial(values.read_count, least=1))),
        ("evaluations", pack_records, _read_records(EvaluationRecord)),
        ("file", os.fspath, lambda name, packed: Path(values.read_json(name, packed, str))),
        ("history", pack_records, _read_records(EpochRecord)),
        ("lr last_lr", values.pack_rates, values.read_rates),
        ("metrics", values.pack_metrics, values.read_metrics),
        ("output", _pack_output, _or_null(_read_output)),
        ("reason", _as_it_is, _or_null(partial(values.read_json, kind=str))),
        ("scheduled", values.pack_scheduled, values.read_scheduled),
        ("seconds", values.pack_number, values.read_number),
        ("status", _as_it_is, partial(one_of, choices=("completed", "stopped", "interrupted", "failed"))),
        ("steps_per_epoch", _as_it_is, _or_null(values.read_count)),
        ("within_epoch", _as_it_is, partial(values.read_json, kind=bool)),
    )
    for name in names.split()
}
