"""The event stream of a run as lines of JSON: what a line says, how it is written and how it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import define

from lucid_train.events import (
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitError,
    Status,
    StepEnd,
)
from lucid_train.history import EpochRecord
from lucid_train.metrics import NoUpdate, to_metrics
from lucid_train.recording.values import (
    is_number,
    pack_metrics,
    pack_number,
    pack_value,
    read_count,
    read_metrics,
    read_number,
    read_rates,
    read_value,
    short_text,
)
from lucid_train.training.run import Run

FORMAT = 1
# Seconds since 1970 in the year 33658.
_END_OF_TIME = 1e12
LONGEST_LINE = 1 << 26
LIBRARY_EVENTS = (EpochStart, StepEnd, EvaluateStart, EvaluateEnd, EpochEnd, EpochReport, FitError, FitEnd)


class RecordedError(Exception):
    """An exception that left a recorded run, by its type's name and its message; its class is not looked up."""


@define(frozen=True)
class Line:
    """One line of a log.

    Args:
        event: The event's class name, or "progress" for a line that only says how far the run has come.
        time: Seconds since 1970 when it was written.
        run: What has changed of the run since the line before.
        fields: What the event carries.
        number: The line's number in the file, from 1.
        end: Where the next line begins, in bytes.
    """

    event: str
    time: float
    run: dict[str, Any]
    fields: dict[str, Any]
    number: int = 0
    end: int = 0


def write_line(event: str, time: float, fields: Mapping[str, Any], run: Mapping[str, Any]) -> bytes:
    """Return a line as bytes: strict JSON in ASCII, with its newline."""
    entries = {"event": event, "time": round(time, 3), **fields} | ({"run": run} if run else {})
    return json.dumps(entries, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def read_line(raw: bytes, *, number: int = 0, end: int = 0) -> Line:
    """Return what a whole line says.

    Raises:
        ValueError: If it is no line of a log.
    """
    try:
        entries = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(entries, dict):
        raise ValueError("it is no JSON object")
    event, time, run = entries.pop("event", None), entries.pop("time", None), entries.pop("run", {})
    if not isinstance(event, str) or not isinstance(run, dict) or not is_number(time) or not 0 <= time < _END_OF_TIME:
        raise ValueError("it lacks the name of an event, or its time")
    return Line(event, float(time), run, entries, number, end)


def read_log(path: Path, *, offset: int = 0, number: int = 0) -> Iterator[Line]:
    """Yield the whole lines of a log from a byte offset on. A torn last line, one without a newline, is left out.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line is none of a log; the error names it.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        while (raw := file.readline(LONGEST_LINE + 1)).endswith(b"\n"):
            number, offset = number + 1, offset + len(raw)
            try:
                line = read_line(raw, number=number, end=offset)
                if number == 1 and (line.event != "FitStart" or line.fields.get("format") != FORMAT):
                    raise ValueError(f"it is not how a log of format {FORMAT} begins")
            except ValueError as error:
                raise ValueError(f"'{path}' is no log of a run: in line {number}, {error}") from None
            yield line
        if len(raw) > LONGEST_LINE:
            raise ValueError(f"'{path}' is no log of a run: line {number + 1} is longer than {LONGEST_LINE} bytes")


def pack_record(record: EpochRecord) -> dict[str, Any]:
    """Return a finished epoch as strict JSON has it."""
    return {
        "epoch": record.epoch,
        "steps": record.steps,
        "seconds": pack_number(record.seconds),
        "metrics": pack_metrics(record.metrics),
        "lr": list(map(pack_number, record.lr)),
        "last_lr": list(map(pack_number, record.last_lr)),
    }


def pack_event(event: Event) -> dict[str, Any]:
    """Return what an event carries, without the run, as strict JSON has it; what is not JSON as its repr."""
    pack = _PACKERS.get(type(event))
    if pack is not None:
        return pack(event)
    own = {f.alias: getattr(event, f.name) for f in attrs.fields(type(event)) if f.init and f.name != "run"}
    fields = {str(name): pack_value(value) for name, value in own.items()}
    return {"module": type(event).__module__, "fields": fields}


def read_record(packed: Any) -> EpochRecord:
    """Return a finished epoch.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(packed, dict):
        raise ValueError("the record is no object")
    return EpochRecord(
        epoch=read_count(packed.get("epoch"), least=1),
        steps=read_count(packed.get("steps")),
        seconds=read_number(packed.get("seconds")),
        metrics=read_metrics(packed.get("metrics")),
        lr=read_rates(packed.get("lr")),
        last_lr=read_rates(packed.get("last_lr")),
    )


def read_event(line: Line, run: Run) -> Event | None:
    """Return the event of a line; None if it is of a class that is not defined here.

    Raises:
        ValueError: If the line does not hold what the event carries.
    """
    read = _READERS.get(line.event)
    if read is not None:
        event = read(line.fields)
        event.run = run
        return event
    cls, packed = _event_class(line.event, line.fields.get("module")), line.fields.get("fields")
    if cls is None:
        return None
    values = read_value(packed)
    if not isinstance(values, dict):
        raise ValueError(f"{line.event} carries no fields")
    try:
        return cls(run=run, **values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{line.event} is not what it was when it was recorded, {error}") from error


def _event_class(name: str, module: Any) -> type[Event] | None:
    """Return the event class of a name, among those defined in this process; nothing is imported.

    One of the same module comes first, but a program may be another one when its run is replayed.
    """
    found, pending = [], [Event]
    while pending:
        below = pending.pop().__subclasses__()
        pending += below
        found += [cls for cls in below if cls.__name__ == name]
    # attrs makes a new class with slots; the one it was made from may still be about. Of the rest, the latest counts.
    found.sort(key=lambda cls: (cls.__module__ == module, "__attrs_attrs__" in vars(cls)))
    return found[-1] if found else None


def _pack_step(event: Any) -> dict[str, Any]:
    output = event.output.output if type(event.output) is NoUpdate else event.output
    metrics = pack_metrics(to_metrics(output))
    packed = metrics if output is None or isinstance(output, Mapping) else metrics["loss"]
    fields = {"epoch": event.epoch, "step": event.step, "output": None if output is None else packed}
    return fields if event.updated else {**fields, "updated": False}


def _read_step(fields: dict[str, Any]) -> StepEnd:
    packed = fields.get("output")
    output = packed if packed is None else read_metrics(packed) if isinstance(packed, dict) else read_number(packed)
    epoch, step = read_count(fields.get("epoch")), read_count(fields.get("step"), least=1)
    return StepEnd(epoch=epoch, step=step, output=output if fields.get("updated", True) else NoUpdate(output))


def pack_error(error: BaseException) -> str:
    """Return an exception as the last line of its traceback has it."""
    return f"{type(error).__name__}: {short_text(error, str)}".rstrip(": ")


def read_status(fields: dict[str, Any]) -> tuple[Status, str | None]:
    """Return how a fit ended, and why.

    Raises:
        ValueError: If that is no way to end.
    """
    status, reason = fields.get("status"), fields.get("reason")
    if status not in ("completed", "stopped", "interrupted", "failed") or not isinstance(reason, str | None):
        raise ValueError(f"{status!r} is no way to end")
    return status, reason


def _read_fit_end(fields: dict[str, Any]) -> FitEnd:
    status, reason = read_status(fields)
    return FitEnd(status=status, reason=reason)


_PACKERS: dict[type[Event], Callable[[Any], dict[str, Any]]] = {
    EpochStart: lambda event: {"epoch": event.epoch},
    StepEnd: _pack_step,
    EvaluateStart: lambda event: {"epoch": event.epoch},
    EvaluateEnd: lambda event: {"epoch": event.epoch, "metrics": pack_metrics(event.metrics)},
    EpochEnd: lambda event: {
        "epoch": event.epoch,
        "metrics": pack_metrics(event.metrics),
        "lr": list(map(pack_number, event.lr)),
    },
    EpochReport: lambda event: {"record": pack_record(event.record)},
    FitError: lambda event: {
        "error": pack_error(event.error),
        "status": event.run.status,
        "reason": event.run.reason,
    },
    FitEnd: lambda event: {"status": event.status, "reason": event.reason},
}
_READERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "EpochStart": lambda fields: EpochStart(epoch=read_count(fields.get("epoch"))),
    "StepEnd": _read_step,
    "EvaluateStart": lambda fields: EvaluateStart(epoch=read_count(fields.get("epoch"))),
    "EvaluateEnd": lambda fields: EvaluateEnd(
        epoch=read_count(fields.get("epoch")), metrics=read_metrics(fields.get("metrics"))
    ),
    "EpochEnd": lambda fields: EpochEnd(
        epoch=read_count(fields.get("epoch")),
        metrics=read_metrics(fields.get("metrics")),
        lr=read_rates(fields.get("lr")),
    ),
    "EpochReport": lambda fields: EpochReport(record=read_record(fields.get("record"))),
    "FitError": lambda fields: FitError(error=RecordedError(str(fields.get("error")))),
    "FitEnd": _read_fit_end,
}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
