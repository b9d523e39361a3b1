"""What WandbLogger calls of wandb, with a server that is a folder: it outlives a kill, and has what was sent by then.

It is called `wandb` so that it can stand first in the path of a process.
"""

import json
import os
from pathlib import Path
from typing import Any

run = None
faults: dict[str, Any] = {}  # functions that a call of these names calls first


def _server(identity: str) -> Path:
    return Path(os.environ["FAKE_WANDB"]) / f"{identity}.jsonl"


def stored(identity: str, kind: str) -> list[Any]:
    """Return what the server has of a run: its rows, its parameters, or how it ended."""
    if not _server(identity).exists():
        return []
    entries = [json.loads(line) for line in _server(identity).read_text().splitlines()]
    return [entry[kind] for entry in entries if kind in entry]


def _called(name: str) -> None:
    faults.get(name, lambda: None)()


def login(*, prompt: bool, verify: bool) -> bool:
    _called("login")
    assert not prompt  # nobody may be asked
    return "WANDB_API_KEY" in os.environ


class Settings(dict[str, Any]):
    """The settings."""


class _Config:
    def __init__(self, run: "Run") -> None:
        self._run = run

    def update(self, values: dict[str, Any], allow_val_change: bool) -> None:
        assert allow_val_change  # else wandb refuses what has changed
        self._run._send(config=values)


class Run:
    """A run; rows are sent in groups of WANDB_GROUP, and a kill loses those that wait."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments, self.id = arguments, arguments["id"]
        self.path = f"{arguments['entity'] or 'me'}/{arguments['project']}/{self.id}"
        rows = stored(self.id, "row")
        self.resumed, self.starting_step = _server(self.id).exists(), len(rows)
        self.summary: dict[str, Any] = {name: value for row in rows for name, value in row.items()}
        self.config, self._waiting = _Config(self), list[dict[str, Any]]()
        self._send(begun=arguments["mode"])

    def _send(self, **entry: Any) -> None:
        with _server(self.id).open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def define_metric(self, name: str, *, step_metric: str | None = None) -> None:
        self._send(axis=[name, step_metric])

    def log(self, row: dict[str, Any]) -> None:
        _called("log")
        self._waiting.append(row)
        if len(self._waiting) >= int(os.environ.get("WANDB_GROUP", "1")):
            self._flush()

    def _flush(self) -> None:
        for row in self._waiting:
            self._send(row=row)
        self._waiting.clear()

    def finish(self, *, exit_code: int) -> None:
        _called("finish")
        self._flush()
        self._send(end=[self.summary["status"], exit_code])


def init(**arguments: Any) -> Run:
    _called("init")
    return Run(arguments)


class Api:
    """What reads the server."""

    def run(self, path: str) -> "_Stored":
        return _Stored(path.rpartition("/")[2])


class _Stored:
    def __init__(self, identity: str) -> None:
        self.identity = identity

    def scan_history(self, *, min_step: int, use_cache: bool) -> list[dict[str, Any]]:
        _called("scan_history")
        assert not use_cache  # it may be older than the server
        return stored(self.identity, "row")[min_step:]
