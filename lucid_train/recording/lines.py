"""The events of a run as lines of JSON: what a line holds, how it is written and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import frozen

from lucid_train.events import (
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitError,
    StepEnd,
    find_event_class,
)
from lucid_train.history import EpochRecord, EvaluationRecord
from lucid_train.metrics import NoUpdate, to_metrics
from lucid_train.recording.values import (
    is_number,
    pack_metrics,
    pack_number,
    pack_rates,
    pack_value,
    read_count,
    read_json,
    read_metrics,
    read_number,
    read_rates,
    read_value,
    short_text,
)
from lucid_train.training.run import Run
from lucid_train.validation import one_of

Record = TypeVar("Record", EpochRecord, EvaluationRecord)

FORMAT = 1
LONGEST_LINE = 1 << 26
# Seconds since 1970 in the year 33658.
_END_OF_TIME = 1e12
_RECORDED = (EpochStart, StepEnd, EvaluateStart, EvaluateEnd, EpochEnd, EpochReport, FitError, FitEnd)
LIBRARY_EVENTS: dict[str, type[Event]] = {cls.__name__: cls for cls in _RECORDED}
# What a line says of the run when it has changed.
RUN_FIELDS = ("epochs", "steps_per_epoch", "evaluate_every", "epoch", "step", "reason", "last_lr")
# The run says the rest: its batches are not recorded, its history is, record by record.
_NOT_RECORDED = {"run", "batch", "history"}
_FIELDS: dict[type, tuple[str, ...]] = {
    cls: tuple(f.name for f in attrs.fields(cls) if f.name not in _NOT_RECORDED)
    for cls in (*_RECORDED, EpochRecord, EvaluationRecord)
}


class RecordedError(Exception):
    """An exception that left a recorded run, as its class name and message; the class itself is not looked up."""


@frozen
class Line:
    """One line of a log.

    Args:
        event: The event's class name, or "progress" for a line that only says how far the run has come.
        time: Seconds since 1970 when it was written.
        run: What has changed in the run since the previous line.
        fields: What the event carries.
        number: The line's number in the file, from 1.
        end: Byte offset of the next line.
    """

    event: str
    time: float
    run: dict[str, Any]
    fields: dict[str, Any]
    number: int = 0
    end: int = 0


def write_line(event: str, time: float, fields: Mapping[str, Any], run: Mapping[str, Any]) -> bytes:
    """Return a line as bytes: strict JSON in ASCII, newline included."""
    entries = {"event": event, "time": round(time, 3), **fields} | ({"run": run} if run else {})
    return json.dumps(entries, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def read_line(raw: bytes, *, number: int = 0, end: int = 0) -> Line:
    """Return a line, given as bytes.

    Raises:
        ValueError: If it is not a line of a log.
    """
    try:
        entries = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(entries, dict):
        raise ValueError("it is not a JSON object")
    event, time, run = entries.pop("event", None), entries.pop("time", None), entries.pop("run", {})
    if not isinstance(event, str) or not isinstance(run, dict) or not is_number(time) or not 0 <= time < _END_OF_TIME:
        raise ValueError("it lacks the name of an event, or its time")
    return Line(event, float(time), run, entries, number, end)


def read_log(path: Path, *, offset: int = 0, number: int = 0) -> Iterator[Line]:
    """Yield the lines of a log from a byte offset on. An incomplete last line, one without a newline, is left out.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line is not one of a log; the error names it.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        while (raw := file.readline(LONGEST_LINE + 1)).endswith(b"\n"):
            number, offset = number + 1, offset + len(raw)
            try:
                line = read_line(raw, number=number, end=offset)
                if number == 1 and (line.event != "FitStart" or line.fields.get("format") != FORMAT):
                    raise ValueError(f"it is not the first line of a log of format {FORMAT}")
            except ValueError as error:
                raise not_a_log(path, f"in line {number}, {error}") from None
            yield line
        if len(raw) > LONGEST_LINE:
            raise not_a_log(path, f"line {number + 1} is longer than {LONGEST_LINE} bytes")


def not_a_log(path: Path, why: str) -> ValueError:
    """Return the error for a file that is not the log of a run."""
    return ValueError(f"'{path}' is not the log of a run: {why}")


def pack_fields(names: Iterable[str], value: Any) -> dict[str, Any]:
    """Return the named fields of an event, a record or a run as JSON."""
    return {name: _FORMS[name].pack(getattr(value, name)) for name in names}


def read_fields(names: Iterable[str], packed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named fields of an event, a record or a run.

    Raises:
        ValueError: If one is missing or of the wrong kind.
    """
    return {name: _FORMS[name].read(name, packed.get(name)) for name in names}


def pack_record(record: EpochRecord | EvaluationRecord) -> dict[str, Any]:
    """Return a record of the history as JSON."""
    return pack_fields(_FIELDS[type(record)], record)


def read_record(cls: type[Record], packed: Any) -> Record:
    """Return a record of the history, given as JSON; the fields of a line that holds one will do.

    Raises:
        ValueError: If it lacks what a record of this class has.
    """
    return cls(**read_fields(_FIELDS[cls], read_json("record", packed, dict)))


def pack_event(event: Event) -> dict[str, Any]:
    """Return what an event carries besides the run as JSON; what is not JSON by its repr."""
    cls = type(event)
    if cls not in _FIELDS:
        own = {f.alias: getattr(event, f.name) for f in attrs.fields(cls) if f.init and f.name != "run"}
        return {"module": cls.__module__, "fields": {name: pack_value(value) for name, value in own.items()}}
    packed = pack_fields(_FIELDS[cls], event)
    if isinstance(event, StepEnd) and not event.updated:
        packed["updated"] = False
    if isinstance(event, FitError):
        packed |= pack_fields(("status", "reason"), event.run)
    if isinstance(event, EvaluateEnd) and event.within_epoch:
        packed |= pack_fields(("seconds",), event.run.history.evaluations[-1])
    return packed


def read_event(line: Line, run: Run) -> Event | None:
    """Return the event of a line, or None if its class is not defined here.

    Raises:
        ValueError: If the line does not hold what the event carries.
    """
    cls = LIBRARY_EVENTS.get(line.event)
    if cls is not None:
        # Older logs have no evaluations within epochs, nor the step at which one takes place.
        older = {"step": run.step, "within_epoch": False} if cls in (EvaluateStart, EvaluateEnd) else {}
        fields = read_fields(_FIELDS[cls], older | line.fields)
        if "output" in fields and not line.fields.get("updated", True):
            fields["output"] = NoUpdate(fields["output"])
        return cls(run=run, **fields)
    cls = find_event_class(line.event, line.fields.get("module"))
    if cls is None:
        return None
    fields = read_json("fields", read_value(line.fields.get("fields")), dict)
    try:
        return cls(run=run, **fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{line.event} is not what it was when it was recorded, {error}") from error


def _pack_output(output: Any) -> Any:
    output = output.output if type(output) is NoUpdate else output
    if output is None:
        return None
    metrics = pack_metrics(to_metrics(output))
    return metrics if isinstance(output, Mapping) else metrics["loss"]


def _read_output(name: str, packed: Any) -> Any:
    return read_metrics(name, packed) if isinstance(packed, dict) else read_number(name, packed)


def _pack_error(error: BaseException) -> str:
    """Return an exception as the last line of its traceback has it."""
    return f"{type(error).__name__}: {short_text(error, str)}".rstrip(": ")


def _or_null(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, packed: None if packed is None else read(name, packed)


def _as_it_is(value: Any) -> Any:
    return value


@frozen
class _Form:
    """How a field is written and read, wherever one of its name occurs."""

    pack: Callable[[Any], Any]
    read: Callable[[str, Any], Any]


_COUNT = _Form(_as_it_is, read_count)
_RATES = _Form(pack_rates, read_rates)
_FORMS = {
    "epoch": _COUNT,
    "epochs": _COUNT,
    "error": _Form(_pack_error, lambda name, packed: RecordedError(str(packed))),
    "evaluate_every": _Form(_as_it_is, _or_null(partial(read_count, least=1))),
    "last_lr": _RATES,
    "lr": _RATES,
    "metrics": _Form(pack_metrics, read_metrics),
    "output": _Form(_pack_output, _or_null(_read_output)),
    "reason": _Form(_as_it_is, _or_null(partial(read_json, kind=str))),
    "record": _Form(pack_record, lambda name, packed: read_record(EpochRecord, packed)),
    "seconds": _Form(pack_number, read_number),
    "status": _Form(_as_it_is, partial(one_of, choices=("completed", "stopped", "interrupted", "failed"))),
    "step": _COUNT,
    "steps": _COUNT,
    "steps_per_epoch": _Form(_as_it_is, _or_null(read_count)),
    "within_epoch": _Form(_as_it_is, partial(read_json, kind=bool)),
}


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
