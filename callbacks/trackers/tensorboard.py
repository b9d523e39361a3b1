"""TensorBoardLogger: a run as event files, which TensorBoard shows."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from attrs import define, field

from lucid_train.callback import TRANSIENT
from lucid_train.callbacks.trackers.tracker import Opening, Point, Tracker, imported
from lucid_train.events import Status
from lucid_train.files import as_path


def _folder(instance: object, attribute: Any, path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ValueError(f"'folder' must be a folder: '{path}' is a file")


@final
@define(eq=False)
class TensorBoardLogger(Tracker):
    """Write a run to event files, which `tensorboard --logdir FOLDER` shows; it needs the extra `tensorboard`.

    Epochs, evaluations and steps are scalars over the steps of the run. The parameters, and how each fit ended, are
    texts. All is in the file at every evaluation, epoch, checkpoint and end; a kill loses at most the steps since,
    those of a second or so. A run that is resumed writes a new file, which hides what the killed one had beyond the
    checkpoint: each step is shown once. A new run in the same folder hides what is there; the files stay.

    Args:
        folder: The folder of this run; it is created if necessary.
        step_every: Write the metrics of every step whose number is a multiple of this; by default of none. At least 1.
        config: Settings of your program, to be shown as parameters beside those of the run.
        timeout: Seconds to wait for the file system when a fit starts and when it ends. Above 0.
        strict: Raise what would otherwise be a warning.

    Raises:
        ImportError: When the fit starts, if tensorboardX is not installed.
        RuntimeError: When the fit starts or later, if `strict` and the files cannot be written.
    """

    folder: Path = field(converter=as_path, validator=_folder, kw_only=False)
    _file: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _step: int = field(default=0, init=False, repr=False, metadata=TRANSIENT)

    def describe(self) -> dict[str, str]:
        return {"recording": str(self.folder)}

    def waits(self) -> bool:
        return True

    def prepare(self) -> None:
        # Its SummaryWriter has a queue and a thread of its own, which flush() does not wait for: the parts without.
        imported("tensorboardX.record_writer", "tensorboard", self)
        imported("tensorboardX.summary", "tensorboard", self)

    def open(self, opening: Opening) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        os.makedirs(self.folder, exist_ok=True)
        self._begin_file()
        self._step = opening.step
        first = opening.step + 1 if opening.begun else 0
        self._write(Event(step=first, session_log=SessionLog(status=SessionLog.START)))
        self._write_text("parameters", json.dumps(dict(opening.parameters), indent=2))
        self._file.flush()

    def send(self, points: Sequence[Point]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        if self._file is None:
            self._begin_file()
        try:
            for point in points:
                summary = scalar(point.name, point.value)
                self._write(Event(step=point.step, wall_time=point.time, summary=summary))
            self._file.flush()
        except OSError:
            # It may end in half a record, after which nothing is read: what follows goes to another.
            file, self._file = self._file, None
            with suppress(OSError):
                file.close()
            raise
        self._step = max(self._step, points[-1].step)

    def close(self, status: Status) -> None:
        if self._file is None:
            self._begin_file()
        self._write_text("status", status)
        self._file.close()
        self._file = None

    def _begin_file(self) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import RecordWriter

        # Files are read in the order of their names, and those of one second and computer must not have the same.
        number = sum(".tfevents." in name for name in os.listdir(self.folder))
        name = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{number:06}"
        self._file = RecordWriter(str(self.folder / name))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _write(self, event: Any) -> None:
        self._file.write(event.SerializeToString())

    def _write_text(self, name: str, value: str) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import text

        indented = "\n".join(f"    {line}" for line in value.splitlines())  # as code, in Markdown
        event = Event(step=self._step, wall_time=time.time(), summary=text(name, indented))
        self._write(event)
