"""Files that were changed at random, signed again or not, are read with little memory and an audit hook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MUTATIONS = '''
import faulthandler, hashlib, json, os, random, resource, sys, warnings
import numpy as np
from lucid_train import CheckpointError, Trainer, nn, optims, read_checkpoint, write_checkpoint
from lucid_train.callbacks import Checkpoint, EarlyStopping, ExponentialLRCallback
from lucid_train.data import batches
from lucid_train.testing import diff_states

folder, files = sys.argv[1], int(sys.argv[2])
os.chdir(folder)

def build():
    model = nn.Linear(2, 1, rng=0)
    optimizer = optims.Adam(model.parameters(), lr=0.5)
    def step(batch):
        model.parameters()
        optimizer.step()
        return 0.5
    return Trainer(step, batches(np.arange(4.0), batch_size=1), epochs=2, model=model, optimizer=optimizer,
                   callbacks=[EarlyStopping("loss"), ExponentialLRCallback(0.5)])

trainer = build()
run_state = {}
trainer.on(__import__("lucid_train").StepEnd, at=6)(
    lambda event: event.run.at_safe_point(lambda: run_state.update(event.run.state_dict())))
trainer.fit()
write_checkpoint("good", run_state)
good = open("good", "rb").read()
expected = read_checkpoint("good")
length = int.from_bytes(good[:8], "little")
table = json.loads(good[8:8 + length])
size = table["__tree__"]["data_offsets"][1]
tree = good[8 + length:8 + length + size]
arrays = good[8 + length + size:-32]

# Nothing but files of this folder may be opened, nothing started, from here on.
def audit(event, arguments):
    if event in ("exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class", "socket.connect", "os.exec"):
        raise SystemExit(f"code was run: {event} {arguments}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+") and arguments[0] != "bad":
        raise SystemExit(f"another file was written: {arguments}")
def sign(content):
    return content + hashlib.sha256(content).digest()

def packed(header, tree, arrays):
    return sign(len(header).to_bytes(8, "little") + header + tree + arrays)

chance = random.Random(7)
ODD = [None, True, -1, 0, 2**63, 2**80, 1e308, "", "../x", "x" * 50, [], {}, [[]], [None] * 3,
       {"array": ["x", "uint8", [1]]}, {"float": "nan"}, {"dict": []}, {"dict": [[1, 2]]}, [2**40] * 2, {"tuple": [1]}]

def mutated_json(node):
    """Change one place of a tree at random."""
    if isinstance(node, (dict, list)) and node and chance.random() < 0.85:
        changed = dict(node) if isinstance(node, dict) else list(node)
        key = chance.choice(list(changed)) if isinstance(node, dict) else chance.randrange(len(changed))
        kind = chance.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.2 and isinstance(node, dict):
            changed[chance.choice(["x", "array", "__tree__", key + "x"])] = changed.pop(key)
        else:
            changed[key] = mutated_json(changed[key])
        return changed
    if isinstance(node, int) and chance.random() < 0.5:
        return node + chance.choice([-1, 1, 2**31, -2**31, 2**64])
    return chance.choice(ODD)

def random_json(depth=0):
    kind = chance.randrange(8 if depth < 5 else 5)
    if kind < 5:
        return chance.choice(ODD)
    if kind < 7:
        return [random_json(depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(["array", "dict", "a", "config", "run", "scalar", "numbers"]): random_json(depth + 1)}

def mutated():
    kind = chance.randrange(8)
    if kind == 0:
        changed = bytearray(good)
        for _ in range(chance.choice([1, 1, 2, 8])):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return bytes(changed), True
    if kind == 1:
        return good[:chance.randrange(len(good))] + bytes(chance.choice([0, 0, 1, 64])), True
    if kind == 2:  # as kind 0, signed again
        changed = bytearray(good[:-32])
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return sign(bytes(changed)), False
    if kind == 3:
        return packed(json.dumps(mutated_json(table)).encode(), tree, arrays), False
    new = json.dumps(random_json() if kind == 4 else mutated_json(json.loads(tree))).encode()
    shifted = json.loads(json.dumps(table))
    for name, entry in shifted.items():
        if name != "__metadata__":
            entry["data_offsets"] = [offset + len(new) - size for offset in entry["data_offsets"]]
    shifted["__tree__"]["data_offsets"] = [0, len(new)]
    return packed(json.dumps(shifted).encode(), new, arrays), False

warnings.simplefilter("ignore")
read_checkpoint("good")
build().load_state_dict(expected)
resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[0], ) * 2)
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + 2**30, now + 2**30))
resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
faulthandler.enable()
sys.addaudithook(audit)
counts = {"refused": 0, "loaded": 0, "unfit": 0, "fit": 0}
for number in range(files):
    content, unsigned = mutated()
    with open("bad", "wb") as file:
        file.write(content)
    try:
        state = read_checkpoint("bad")
    except CheckpointError as error:
        assert "is not a usable checkpoint: " in str(error)
        counts["refused"] += 1
        continue
    counts["loaded"] += 1
    if unsigned:
        assert diff_states(state, expected) == []
    if number % 4:
        continue
    trainer = build()
    try:
        trainer.load_state_dict(state)
    except (TypeError, ValueError) as error:
        # A TypeError is that of the model's or the optimizer's own load_state_dict, and says so.
        assert str(error) and (isinstance(error, ValueError) or error.__notes__[-1].startswith("raised by "))
        counts["unfit"] += 1
        continue
    counts["fit"] += 1
    try:
        trainer.fit()
    except Exception:  # a number that is none, in a file signed by whoever forged it, may end the training
        pass
print(json.dumps(counts))
'''


@pytest.mark.parametrize("files", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_are_refused_or_load_and_none_does_harm(tmp_path: Path, files: int) -> None:
    program = tmp_path / "program.py"
    program.write_text(MUTATIONS)
    folder = tmp_path / "files"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(program), str(folder), str(files)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    assert counts["refused"] + counts["loaded"] == files
    assert min(counts.values()) > 0
    assert sorted(os.listdir(folder)) == ["bad", "good"]
