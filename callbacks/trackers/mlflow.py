"""MLflowLogger: a run at an MLflow server, or in a database of MLflow's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, final

from attrs import define, field

from lucid_train.callback import TRANSIENT
from lucid_train.callbacks.trackers.tracker import Opening, Point, Tracker, imported
from lucid_train.events import Status
from lucid_train.validation import optional_text, text

_STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
# What names may not contain, how long a value may be, and how many parameters a call may send.
_NOT_ALLOWED = re.compile(r"[^\w\-. :/]", flags=re.ASCII)
_LONGEST, _MOST_PARAMETERS = 6000, 100


@final
@define(eq=False)
class MLflowLogger(Tracker):
    """Send a run to MLflow, by its client and without a global active run; it needs the extra `mlflow`.

    Characters that MLflow does not allow in names become "_". It stores infinity as the largest float. A parameter
    cannot change there: one that is another when the run is resumed is noted as a tag, "changed." and its name.

    A run that is resumed goes on as the same one, in which each step is once: what MLflow has is not sent again. A kill
    loses at most the steps since the last evaluation, epoch or checkpoint, those of a second or so (at a server also
    what had not arrived); MLflow then shows the run as running until it is resumed. "stopped" is FINISHED there,
    "interrupted" is KILLED; the tag "status" has the word of this library.

    Args:
        experiment: The name of the experiment; it is created if necessary.
        tracking_uri: An MLflow server or database, such as "http://localhost:5000" or "sqlite:////folder/mlflow.db". By
            default that of the environment variable MLFLOW_TRACKING_URI, else "mlflow.db" in the current folder.
        run_name: The name of the run, or None for one that MLflow makes up.
        step_every: Send the metrics of every step whose number is a multiple of this; by default of none. At least 1.
        config: Settings of your program, to be shown as parameters beside those of the run.
        timeout: Seconds to wait for MLflow when a fit starts and when it ends. Above 0.
        strict: Wait at every epoch, and raise what would otherwise be a warning.

    Raises:
        ImportError: When the fit starts, if mlflow is not installed.
        RuntimeError: When the fit starts or later, if `strict` and MLflow cannot be reached.
    """

    experiment: str = field(default="Default", validator=text, kw_only=False)
    tracking_uri: str | None = field(default=None, validator=optional_text)
    run_name: str | None = field(default=None, validator=optional_text)
    _client: Any = field(default=None, init=False, repr=False, metadata=TRANSIENT)
    _id: str = field(default="", init=False, repr=False, metadata=TRANSIENT)

    def describe(self) -> dict[str, str]:
        return {"recording": f"MLflow, {self._uri()}, {self.experiment}"}

    def waits(self) -> bool:
        return not self._uri().startswith(("http:", "https:", "databricks"))

    def metric_name(self, name: str) -> str:
        return _NOT_ALLOWED.sub("_", name)

    def prepare(self) -> None:
        imported("mlflow", "mlflow", self)
        if self._uri().startswith("sqlite:"):
            # The tables of a new database take longer than a server may. What is wrong with it, `open` will say.
            with suppress(Exception):
                self._new_client().search_experiments(max_results=1)

    def open(self, opening: Opening) -> str:
        self._client = client = self._new_client()
        if opening.begun:
            self._id = opening.run_id
            client.update_run(self._id, status="RUNNING")
            known = client.get_run(self._id).data.params
        else:
            found = client.get_experiment_by_name(self.experiment)
            experiment = client.create_experiment(self.experiment) if found is None else found.experiment_id
            self._id, known = client.create_run(experiment, run_name=self.run_name).info.run_id, {}
        self._send_parameters(opening.parameters, known)
        return self._id

    def sent(self) -> Mapping[str, int]:
        return {each.key: each.step for each in self._client.get_run(self._id).data.to_proto().metrics}

    def send(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, int(point.time * 1000), point.step) for point in points]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, status: Status) -> None:
        self._client.set_tag(self._id, "status", status)
        self._client.set_terminated(self._id, _STATUS[status])

    def _uri(self) -> str:
        given = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{os.path.abspath('mlflow.db')}"

    def _new_client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self._uri())

    def _send_parameters(self, parameters: Mapping[str, Any], known: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        texts = {self.metric_name(name): str(value)[:_LONGEST] for name, value in parameters.items()}
        new = [Param(name, value) for name, value in texts.items() if name not in known]
        for start in range(0, len(new), _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=new[start : start + _MOST_PARAMETERS])
        changed = [RunTag(f"changed.{name}", value) for name, value in texts.items() if known.get(name, value) != value]
        for start in range(0, len(changed), _MOST_PARAMETERS):
            self._client.log_batch(self._id, tags=changed[start : start + _MOST_PARAMETERS])
