"""Structured fuzzing of checkpoints: files changed at random and signed again, read by a process that is watched.

`python -m tests.support.hostile_checkpoints FOLDER FILES SEED` prints what has become of so many files, as JSON. Each
is refused with a CheckpointError, or read in bounded memory; then a run either refuses its state with a ValueError, or
goes on and does not end with an error of a program that met what it does not know. Nothing in a file is ever run.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import random
import resource
import sys
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field

from lucid_train import (
    Callback,
    CheckpointError,
    EpochEnd,
    StepEnd,
    Trainer,
    nn,
    optims,
    read_checkpoint,
    write_checkpoint,
)
from lucid_train.callbacks import EarlyStopping, ExponentialLRCallback, LRSchedulerCallback, TimeLimit
from lucid_train.data import batches
from lucid_train.optims.lr_scheduler import ReduceLROnPlateau, StepLR
from lucid_train.saving.bounded_json import affordable_size, parsing_cost
from lucid_train.testing import diff_states

# What reading a file may take besides ten times its size.
ALWAYS = 2 << 20
# An error of a program that meets what it does not know, instead of refusing it.
CARELESS = (TypeError, KeyError, AttributeError, OverflowError, IndexError, RecursionError, MemoryError)
ODD: list[Any] = [
    None, True, -1, 0, 2**63, 10**15, 2**80, 10**1000, 1e308, 0.5, "", "../x", "x" * 50, [], {}, [[]], [None] * 3,
    "nan",
    {"array": ["x", "uint8", [1]]}, {"array": ["x", "float64", [2, 3], [1, 2]]}, {"float": "nan"}, {"dict": []},
    {"dict": [[1, 2]]}, {"dict": [[[], 2]]}, [2**40] * 2, {"tuple": [1]}, {"set": [1, "a"]}, {"set": [{}]},
    {"Counter": {"a": 1, "b": "x"}}, {"OrderedDict": [{}, {"a": {}, "b": 1}]}, {"defaultdict": ["list", {}]},
    {"defaultdict": ["eval", {}]}, {"nan": "fff8000000000123"}, {"complex": [0.5, {"float": "inf"}]}, [10**15] * 3,
    {"set": [k * (2**61 - 1) for k in range(20)]}, {"key": ["rbg", 1]}, {"parameter": [True, 1]},
    {"dtensor": [{"array": ["x", "uint8", [1]]}, [2], [1], [["shard", 0]], [2], None, [0]]},
]  # fmt: skip


@define(eq=False)
class Watcher(Callback):
    """A callback of a user's, whose state has a field of every kind."""

    count: int = field(default=0, init=False)
    mean: float | None = field(default=None, init=False)
    names: list[str] = field(factory=list, init=False)
    seen: dict[str, int] = field(factory=dict, init=False)
    place: tuple[int, str] = field(default=(0, ""), init=False)
    kinds: set[str] = field(factory=set, init=False)

    def on_step_end(self, event: StepEnd) -> None:
        self.count += 1
        self.mean = ((self.mean or 0.0) + event.metrics["loss"]) / 2
        self.seen["steps"] = self.seen.get("steps", 0) + 1
        self.place = (self.place[0] + 1, self.place[1] + "s")
        self.kinds.add("step")

    def on_epoch_end(self, event: EpochEnd) -> None:
        self.names.append(f"{event.epoch}".upper())
        " ".join(self.names)


def build() -> Trainer:
    """Return a run of six steps, with a callback of every kind that keeps a state."""
    model = nn.Linear(2, 1, rng=0)
    optimizer, other = optims.Adam(model.parameters(), lr=0.5), optims.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    third = optims.SGD(nn.Linear(1, 1).parameters(), lr=0.5)

    def step(batch: Any) -> float:
        optimizer.step()
        return 0.5

    callbacks = [
        EarlyStopping("loss", restore_best=True, mode="min"),
        ExponentialLRCallback(0.5),
        LRSchedulerCallback(StepLR(other, 1)),
        LRSchedulerCallback(ReduceLROnPlateau(third), monitor="loss"),
        TimeLimit(1e6, earlier=True),
        Watcher(),
    ]
    extras = {"numbers": np.random.default_rng(1), "python": random.Random(1)}
    data = batches(np.arange(3.0), batch_size=1, shuffle=True)
    return Trainer(step, data, epochs=2, model=model, optimizer=optimizer, callbacks=callbacks, extras=extras)


def good_state() -> Any:
    """Return the state of a run in the middle of its second epoch."""
    trainer, found = build(), {}

    @trainer.on(StepEnd, at=5)
    def stop(event: StepEnd) -> None:
        event.run.at_safe_point(lambda: found.update(event.run.state_dict()))
        event.run.stop()

    trainer.fit()
    return found


def signed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def file_of(tree: bytes, arrays: list[tuple[str, bytes]] = [], header: Callable[[bytes], bytes] = bytes) -> bytes:  # noqa: B006
    """Return a file that is whole, of a tree that may be anything, with an array of bytes under each name."""
    table: dict[str, Any] = {"__metadata__": {"format": "lucid_train.saving.checkpoint", "version": "1"}}
    place = 0
    for name, content in (("__tree__", tree), *arrays, ("__sha256__", bytes(32))):
        table[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [place, place + len(content)]}
        place += len(content)
    text = header(json.dumps(table, separators=(",", ":")).encode())
    return signed(len(text).to_bytes(8, "little") + text + tree + b"".join(content for _, content in arrays))


class Mutator:
    """Changes one good file at random."""

    def __init__(self, good: bytes, seed: int) -> None:
        self.chance, self.good = random.Random(seed), good
        length = int.from_bytes(good[:8], "little")
        self.table, self.body = json.loads(good[8 : 8 + length]), good[8 + length : -32]
        self.size = self.table["__tree__"]["data_offsets"][1]
        self.tree = json.loads(self.body[: self.size])
        self.arrays = [
            (name, self.body[entry["data_offsets"][0] : entry["data_offsets"][1]])
            for name, entry in self.table.items()
            if name not in ("__metadata__", "__tree__", "__sha256__")
        ]

    def next(self) -> tuple[bytes, bool]:
        """Return a file, and whether its digest is still that of the good one."""
        chance, good = self.chance, self.good
        kind = chance.randrange(12)
        if kind == 0:
            changed = bytearray(good)
            for _ in range(chance.choice([1, 1, 2, 8])):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return bytes(changed), True
        if kind == 1:
            return good[: chance.randrange(len(good))] + bytes(chance.choice([0, 0, 1, 64])), True
        if kind == 2:  # as the first, signed again
            changed = bytearray(good[:-32])
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return signed(bytes(changed)), False
        if kind == 3:
            header = json.dumps(self.mutated(self.table)).encode()
            return signed(len(header).to_bytes(8, "little") + header + self.body), False
        if kind == 4:
            return file_of(json.dumps(self.anything()).encode(), self.arrays[: chance.randrange(3)]), False
        if kind == 5:  # a name that occurs twice, in the tree or in the header
            text = json.dumps(self.tree, separators=(",", ":"))
            return file_of(text.replace(',"', f',"{chance.choice(["setup", "dict", "a"])}":1,"', 1).encode()), False
        tree = self.tree
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            tree = self.mutated(tree)
        return file_of(json.dumps(tree).encode(), self.arrays), False

    def mutated(self, node: Any) -> Any:
        """Change one place of a tree at random."""
        chance = self.chance
        if isinstance(node, (dict, list)) and node and chance.random() < 0.9:
            changed: Any = dict(node) if isinstance(node, dict) else list(node)
            key = chance.choice(list(changed)) if isinstance(node, dict) else chance.randrange(len(changed))
            kind = chance.random()
            if kind < 0.05:
                del changed[key]
            elif kind < 0.1 and isinstance(node, dict):
                changed[chance.choice(["x", "array", "set", "OrderedDict", "__tree__", key + "x"])] = changed.pop(key)
            elif kind < 0.15 and isinstance(node, list):
                changed.append(chance.choice([changed[key], *ODD]))
            else:
                changed[key] = self.mutated(changed[key])
            return changed
        if type(node) is int and chance.random() < 0.6:
            return node + chance.choice([-1, 1, 2**31, -(2**31), 10**15, 2**64, 10**400])
        if type(node) is float and chance.random() < 0.6:
            return chance.choice([-node, 0.0, 1e308, 5e-324, int(node), {"float": "nan"}, {"float": "-inf"}])
        return chance.choice(ODD)

    def anything(self, depth: int = 0) -> Any:
        """Return any tree."""
        chance = self.chance
        kind = chance.randrange(8 if depth < 6 else 5)
        if kind < 5:
            return chance.choice(ODD)
        if kind < 7:
            return [self.anything(depth + 1) for _ in range(chance.randrange(4))]
        marks = ["array", "dict", "a", "config", "run", "scalar", "numbers", "set", "OrderedDict", "Counter", "tuple"]
        return {chance.choice(marks): self.anything(depth + 1)}


def bombs(size: int) -> dict[str, bytes]:
    """Return files of about `size` bytes that would take the most memory or time, by name."""

    def listed(item: bytes | Callable[[int], bytes], around: tuple[bytes, bytes] = (b"[", b"]")) -> bytes:
        one = item if isinstance(item, bytes) else item(size)
        items = [item] * (size // (len(one) + 1)) if isinstance(item, bytes) else []
        if not isinstance(item, bytes):
            items = [item(index) for index in range(size // (len(one) + 1))]
        return around[0] + b",".join(items) + around[1]

    def room(text: bytes) -> bytes:
        return b" " * (affordable_size(parsing_cost(text) + 10_000) - len(text))

    numbers = size // 90
    arrays = [(f"{index:x}", b"1") for index in range(numbers)]
    tree = b"[" + b",".join(b'{"array":["%x","int8",[1]]}' % index for index in range(numbers)) + b"]"
    trees = {
        "lists": listed(b"[]"),
        "lists of lists": listed(b"[[[[]]]]"),
        "dicts": listed(b"{}"),
        "dicts of one entry": listed(b'{"dict":[[1,2]]}'),
        "dicts of two entries": listed(lambda index: b'{"%x":0,"x":0}' % index),
        "one dict": listed(lambda index: b'"%x":0' % index, (b"{", b"}")),
        "one ordered dict": listed(lambda index: b'"%x":0' % index, (b'{"OrderedDict":[{', b"},null]}")),
        "one set": listed(lambda index: b"%d" % index, (b'{"set":[', b"]}")),
        "many sets": listed(b'{"set":[1,2,3,4,5]}'),
        "numbers": listed(b"0.5"),
        "texts": listed(b'"ab"'),
        "one hash": listed(lambda index: b"%d" % (index * (2**61 - 1)), (b'{"set":[', b"]}")),
        "one hash, in tuples": listed(
            lambda index: b'[{"tuple":[%d]},0]' % (index * (2**61 - 1)), (b'{"dict":[', b"]}")
        ),
        "depth": b"[" * (size // 2) + b"]" * (size // 2),
        "depth of objects": b'{"a":' * (size // 6) + b"0" + b"}" * (size // 6),
        "a wide text": b'"' + b"a" * size + b'\\ud83d\\ude00"',
        "long numbers": listed(b"9" * 3999),
        "a number": b"9" * size,
        "quotes": b'"\\"' * (size // 3),
    }
    found = {name: file_of(text) for name, text in trees.items()}
    found |= {f"{name}, as many as are read": file_of(text + room(text)) for name, text in trees.items()}
    found["tiny arrays"] = file_of(tree, arrays)
    found["tiny arrays, as many as are read"] = file_of(tree + room(tree) * 3, arrays)
    found["a header of lists"] = file_of(b"1", header=lambda text: text[:-1] + b',"x":' + listed(b"[]") + b"}")
    found["a header of a shape"] = file_of(
        b"1", header=lambda text: text.replace(b'"shape":[1]', b'"shape":' + listed(b"1"))
    )
    return found


def measured(path: Path) -> tuple[Any, float]:
    """Return what reading a file gave, its state or the CheckpointError, and how much of what it may take it took."""
    size = path.stat().st_size
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        found: Any = read_checkpoint(path)
    except CheckpointError as error:
        found = error.with_traceback(None)
    return found, (tracemalloc.get_traced_memory()[1] - before) / (10 * size + ALWAYS)


FORBIDDEN = ("os.system", "subprocess.Popen", "pickle.find_class", "socket.connect", "os.exec")


def watch(folder: Path, forbidden: tuple[str, ...] = (*FORBIDDEN, "exec", "compile")) -> None:
    """Let this process run no code of a file, write nothing but files in a folder, and take no more than a gigabyte."""
    now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**30, now + 2**30))
    faulthandler.enable()

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in forbidden:
            raise SystemExit(f"code was run: {event} {arguments}")
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if writes and Path(arguments[0]).parent != folder:
            raise SystemExit(f"another file was written: {arguments}")

    sys.addaudithook(audit)


def fuzz(folder: Path, files: int, seed: int) -> dict[str, int]:
    """Read so many files, let a run go on from those that are read, and return how many came to what."""
    path = folder / "bad"
    write_checkpoint(path, good_state())
    good = path.read_bytes()
    expected = read_checkpoint(path)
    build().load_state_dict(expected)
    build().fit()  # all that is loaded late is loaded
    mutator, counts = Mutator(good, seed), Counter(refused=0, unfit=0, failed=0, completed=0)
    watch(folder)
    tracemalloc.start()
    for _ in range(files):
        content, unsigned = mutator.next()
        path.write_bytes(content)
        state, memory = measured(path)
        assert memory <= 1, f"{len(content)} bytes took {memory:.2f} of what they may: {state!r:.200}"
        if isinstance(state, CheckpointError):
            assert " is not a usable checkpoint: " in str(state)
            counts["refused"] += 1
            continue
        assert not unsigned or diff_states(state, expected) == []
        trainer = build()
        try:
            trainer.load_state_dict(state)
        except ValueError:
            counts["unfit"] += 1
            continue
        except Exception as error:  # a TypeError of the optimizer's own load_state_dict is the user's, and says so
            if not error.__notes__[-1].startswith("raised by optimizer.load_state_dict"):
                raise
            counts["unfit"] += 1
            continue
        try:
            trainer.fit()
        except CARELESS as error:
            path.with_name("careless").write_bytes(content)
            raise AssertionError(f"a state that was accepted ends a run: {error!r}") from error
        except Exception:  # a number that is none, in a file signed by whoever forged it, may end the training
            counts["failed"] += 1
        else:
            counts["completed"] += 1
    return dict(counts)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CPU, (1800, 1800))
    os.chdir(sys.argv[1])
    print(json.dumps(fuzz(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
