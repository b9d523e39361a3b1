"""Structured fuzzing of event logs: lines changed at random, shown by a process that is watched.

`python -m tests.support.hostile_logs FOLDER FILES SEED` prints what has become of so many files, as JSON. Each is
replayed to a display, or refused with a ValueError that names a line; `lucid-train show`, `replay`, `watch` and
`diff` end with an exit code and no traceback.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from attrs import define, field

from lucid_train import Callback, EpochEnd, Event, Trainer, nn, optims, replay
from lucid_train.callbacks import EarlyStopping, EventLog, ExponentialLRCallback
from lucid_train.cli.main import main
from tests.support.hostile_checkpoints import FORBIDDEN, watch

ODD: list[Any] = [
    None, True, -1, 0, 2**62 - 1, 2**63, 10**15, 10**400, 1e308, -0.5, 5e-324, "", "nan", "inf", "\x1b[2J", "x" * 200,
    [], {}, [[]], [None] * 3, {"!float": 10**400}, {"!float": "nan"}, {"!repr": "x"}, {"!tuple": [1]}, {"!code": "1"},
    {"!dict": [[1, 2]]}, {"!dict": [[[], 2]]}, {"!dict": [[k * (2**61 - 1), 0] for k in range(20)]},
    {"val_loss": 0.5}, ["val_loss", "min"], ["", "max"], [0.1, "inf"], {"name": "x", "parameters": 2**62 - 1},
    [{"name": 1, "repr": None, "schedule": []}], {"pid": -1}, "completed", "failed", "FitStart", "progress",
]  # fmt: skip


@define
class Marked(Event):
    """An event of a user's own."""

    label: Any = None


@define(eq=False)
class Marks(Callback):
    """Emits one at the end of each epoch, and notes those that a log has."""

    received: list[str] = field(factory=list, init=False)

    def on_epoch_end(self, event: EpochEnd) -> None:
        event.run.emit(Marked(event.run, label={"a": (1, float("nan")), "b": [{1: 2}, None, object]}))


def good_lines(folder: Path, writer: int) -> list[dict[str, Any]]:
    """Return the lines of the log of two fits, whose writer has ended."""
    model = nn.Linear(2, 1, rng=0)
    optimizer = optims.SGD(model.parameters(), lr=0.5)
    losses = iter(range(100))
    trainer = Trainer(
        lambda batch: {"loss": 1 / (1 + next(losses)), "part": 2.0},
        [1, 2, 3],
        epochs=2,
        model=model,
        optimizer=optimizer,
        evaluate=lambda: {"val_loss": 0.5},
        evaluate_every="2 steps",
        callbacks=[
            ExponentialLRCallback(0.5),
            EarlyStopping("val_loss", patience=9, mode="min"),
            Marks(),
            EventLog(folder / "good", step_every=1, digests=2, heartbeat=None),
        ],
    )
    trainer.fit()
    trainer.fit(3)
    found: list[dict[str, Any]] = [json.loads(line) for line in (folder / "good").read_text().splitlines()]
    for line in found:
        if "writer" in line:
            line["writer"] |= {"pid": writer}
    return found


class Mutator:
    """Changes the lines of one log at random."""

    def __init__(self, lines: list[dict[str, Any]], seed: int) -> None:
        self.chance, self.lines = random.Random(seed), lines

    def next(self) -> bytes:
        chance = self.chance
        lines: list[Any] = list(self.lines)
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            index, kind = chance.randrange(len(lines)), chance.random()
            if kind < 0.75:
                lines[index] = self.mutated(lines[index]) if isinstance(lines[index], dict) else lines[index]
            elif kind < 0.8 and len(lines) > 1:
                del lines[index]
            elif kind < 0.85:
                lines.insert(index, lines[chance.randrange(len(lines))])
            elif kind < 0.9:
                other = chance.randrange(len(lines))
                lines[index], lines[other] = lines[other], lines[index]
            else:
                odd = ["", "[" * 500, "[" * 40 + "]" * 40, '{"event":"FitEnd","event":1}', "\xff", "NaN", "9" * 5000]
                lines[index] = chance.choice(odd)
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        content = bytearray("\n".join(texts).encode("latin-1") + b"\n")
        if chance.random() < 0.1:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(content[: chance.randrange(len(content))] if chance.random() < 0.1 else content)

    def mutated(self, node: Any) -> Any:
        """Change one place of a line at random."""
        chance = self.chance
        if isinstance(node, (dict, list)) and node and chance.random() < 0.9:
            changed: Any = dict(node) if isinstance(node, dict) else list(node)
            key = chance.choice(list(changed)) if isinstance(node, dict) else chance.randrange(len(changed))
            kind = chance.random()
            if kind < 0.1:
                del changed[key]
            elif kind < 0.2 and isinstance(node, dict):
                changed[chance.choice(["epoch", "step", "run", "history", "!dict", "x"])] = changed.pop(key)
            elif kind < 0.3 and isinstance(node, list):
                changed.append(chance.choice([changed[key], *ODD]))
            else:
                changed[key] = self.mutated(changed[key])
            return changed
        if type(node) in (int, float) and chance.random() < 0.5:
            return node + chance.choice([-1, 1, 2**31, -(2**31), 10**15, 2**62, 0.5])
        return chance.choice(ODD)


def fuzz(folder: Path, files: int, seed: int) -> dict[str, int]:
    """Show so many logs, and return how many came to what."""
    path = folder / "bad"
    gone = subprocess.Popen(["true"])
    gone.wait()
    mutator, counts = Mutator(good_lines(folder, gone.pid), seed), Counter(refused=0, replayed=0)
    commands = (
        ["show", "bad"],
        ["show", "good", "bad"],
        ["replay", "bad", "--speed", "1e300"],
        ["watch", "bad"],
        ["diff", "good", "bad"],
    )
    loading = Mutator(mutator.lines, seed - 1)
    for number in range(40):  # all that is loaded late is loaded, for errors too
        path.write_bytes(loading.next() if number > 3 else (folder / "good").read_bytes())
        _shown(commands[number % len(commands)])
    watch(folder, FORBIDDEN)  # the command line itself reads annotations, which compiles them
    for number in range(files):
        path.write_bytes(mutator.next())
        try:
            replay(path, [Marks()])
            counts["replayed"] += 1
        except ValueError as error:
            if "is not the log of a run: " not in str(error):
                raise
            counts["refused"] += 1
        code = _shown(commands[number % len(commands)])
        assert code in (0, 1, 2, 3, 130), (number, code)  # 3: the writer is changed into one that may still run
    return dict(counts)


def _shown(command: list[str]) -> int:
    """Run the command line here, and return its exit code."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as errors:
        if command[0] == "watch":  # which may wait for what is to come, until Ctrl-C
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            try:
                code = main(command)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # out of the command
            code = 130  # just before it, or after
    assert "Traceback" not in errors.getvalue()
    return code


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CPU, (1800, 1800))
    os.chdir(sys.argv[1])
    print(json.dumps(fuzz(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
