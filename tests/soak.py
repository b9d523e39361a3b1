"""The long tests: runs that die thousands of times, files that are damaged, and other Pythons, on all cores.

    python -m tests.soak kills --count 1000
    python -m tests.soak kills signals table fuzz ends ways sockets ranks-2 ranks-4 launches ray examples
    python -m tests.soak versions --jobs 1

Each section prints one line, and `versions` a table of what was tested in new environments. The exit code is 1 if
anything was found, which is printed with the seed that repeats it as far as a moment can be repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from attrs import define, field

from lucid_train import read_checkpoint
from tests.support.setups import SETUPS, SetUp, assert_kept
from tests.support.survival import Death, Process, Survival

# So much wrong in one process is enough.
MOST_WRONG = 5
COUNTS = {
    "kills": 1000,
    "signals": 200,
    "table": 1,
    "fuzz": 30_000,
    "ends": 1,
    "ways": 1000,
    "ranks-2": 100,
    "ranks-4": 50,
    "sockets": 200,
    "launches": 30,
    "ray": 1,
    "examples": 3,
    "versions": 1,
}


@define
class Found:
    """What a part of a section has done and found; `rows` are for a table."""

    done: int = 0
    runs: int = 0
    setups: int = 0
    wrong: list[str] = field(factory=list)
    rows: list[str] = field(factory=list)

    def add(self, other: Found) -> None:
        self.done, self.runs, self.setups = self.done + other.done, self.runs + other.runs, self.setups + other.setups
        self.wrong += other.wrong
        self.rows += other.rows


def setups(packages: list[str]) -> dict[str, SetUp]:
    """Return the tables' set-ups."""
    found = dict(SETUPS) if "numpy" in packages else {}
    if "torch" in packages:
        from tests.parity import setups as with_torch

        found |= {f"{name} (PyTorch)": each for name, each in with_torch.SETUPS.items()}
    return found


def die(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path, *deaths: Death) -> None:
    """Let runs die until there were so many deaths: a few of each set-up, in random order."""
    table = [(name, setup) for name, setup in setups(packages).items() if setup.refused is None]
    if any(death.number != signal.SIGKILL for death in deaths):
        # A run that is asked to end saves after its step, and so loses what is accumulated for an update by then.
        table = [(name, setup) for name, setup in table if "accumulated gradients" not in name]
    while table and found.done < count and len(found.wrong) < MOST_WRONG:
        name, setup = table[chance.randrange(len(table))]
        found.setups += 1
        try:
            survival = Survival(setup, folder / str(found.setups), chance, deaths)
            for number in range(8):
                left = count - found.done - survival.died.total()
                if left <= 0:
                    break
                found.runs += 1
                if wrong := survival.run(number, min(chance.randint(1, 6), left)):
                    raise AssertionError(", ".join(wrong))
            found.done += survival.died.total()
        except Exception:
            found.wrong.append(f"{name}: {traceback.format_exc(limit=-1)}")
            table.remove((name, setup))  # once is enough


def kills(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Kill runs."""
    die(found, count, chance, packages, folder, Death())


def signals(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Ask runs to end, alone or with their workers."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    die(
        found, count, chance, packages, folder, *(Death(number, group) for number in numbers for group in (False, True))
    )


def table(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Cut set-ups everywhere: each process takes those that no other has taken."""
    for name, setup in setups(packages).items():
        try:
            (folder.parent / sha256(name.encode()).hexdigest()).touch(exist_ok=False)
        except FileExistsError:
            continue
        found.done, found.runs, found.setups = found.done + 1, found.runs + 1, found.setups + 1
        try:
            assert_kept(setup)
        except AssertionError as error:
            found.wrong.append(f"{name}: {error}")


def fuzz(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Read damaged and hostile files: checkpoints, and as many event logs."""
    for module in ("hostile_checkpoints", "hostile_logs"):
        place = folder / module
        place.mkdir()
        arguments = [str(place), str(count), str(chance.randrange(1_000_000))]
        command = [sys.executable, "-m", f"tests.support.{module}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found.done, found.runs = found.done + count, found.runs + 1
        if done.returncode:
            found.wrong.append(f"{' '.join(command)}: {done.stderr}")


def ends(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """End runs whose DataLoader has workers, however these are started, by SIGTERM to some before others."""
    if "torch" not in packages:
        return
    from tests.support.ends import ended, table

    for number, kind in enumerate(product(("fork", "spawn", "forkserver"), (1, 2), (False, True))):
        try:
            (folder.parent / f"ends-{number}").touch(exist_ok=False)
        except FileExistsError:  # another process has taken them
            continue
        rows = table(*([each] for each in kind))
        found.done, found.runs, found.setups = found.done + len(rows), found.runs + 2 * len(rows), found.setups + 1
        found.wrong += map(str, ended(rows))


def ways(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Go to the last epoch on so many random ways for each kind of data: fits, errors, stops, checkpoints."""
    from tests.training import test_any_path

    data = dict(test_any_path.DATA)
    if "torch" in packages:
        from tests.parity import test_any_path_parity

        data |= test_any_path_parity.LOADERS | test_any_path_parity.IN_WORKERS
    for name, every in product(data, test_any_path.EVERY):
        key = sha256(f"{name}, {every}".encode()).hexdigest()
        try:
            (folder.parent / key).touch(exist_ok=False)
        except FileExistsError:  # another process has taken them
            continue
        (place := folder / key).mkdir()
        found.runs, found.setups = found.runs + count, found.setups + 1
        try:
            found.done += test_any_path.take(data[name], every, place, examples=count, rules=15)
        except Exception:
            found.wrong.append(f"{name}, {every}: {traceback.format_exc(limit=-1)}")


def ranks(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path, *, size: int) -> None:
    """Kill processes of runs on so many gloo processes under DDP."""
    if "torch" not in packages or not count:
        return
    from tests.support.programs import distributed
    from tests.support.ranks import KilledRanks

    assert distributed.EPOCHS  # imported once, before processes are forked
    killed = KilledRanks(size, folder, chance)
    found.setups += 1
    while killed.died < count and len(found.wrong) < MOST_WRONG:
        found.runs += 1
        wrong = killed.run(found.runs, min(chance.randint(1, 6), count - killed.died))
        found.wrong += [f"run {found.runs}: {each}" for each in wrong]
    found.done += killed.died


def launches(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Let torchrun launch the example of DDP: no process may abort when it exits."""
    if "torch" not in packages:
        return
    from tests.support.launchers import ROOT, completed, torchrun

    for number in range(count):
        found.runs += 1
        try:
            completed(torchrun(ROOT / "examples" / "ddp.py", folder / str(number)))
        except AssertionError as error:
            found.wrong.append(f"launch {number}: {error}")
        found.done += 1


def examples(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Let the tests of laws draw other examples than they do each day."""
    tests = Path(__file__).parent
    drawing = [path for path in sorted(tests.rglob("test_*.py")) if "from hypothesis import" in path.read_text("utf-8")]
    for _ in range(count):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--random",
            "-m",
            "",
            *map(str, drawing),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tests.parent)
        found.runs += 1
        if done.returncode:
            found.wrong.append(done.stdout + done.stderr)
        found.done += 1


def by_sockets(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Kill processes of runs on 2, 3 and 4 processes that sockets connect, with saves at once and behind."""
    from tests.support.ranks import KilledRanks

    if "numpy" not in packages:
        return
    for size, share in ((2, count - count // 2), (3, count // 4), (4, count // 2 - count // 4)):
        if not share:
            continue
        settings = {"background": chance.random() < 0.5}
        killed = KilledRanks(size, folder / f"of-{size}", chance, sockets=True, settings=settings)
        found.setups += 1
        try:
            while killed.died < share and len(found.wrong) < MOST_WRONG:
                found.runs += 1
                wrong = killed.run(found.runs, min(chance.randint(1, 6), share - killed.died))
                found.wrong += [f"{size} processes, run {found.runs}, {settings}: {each}" for each in wrong]
        finally:
            killed.end_hub()
        found.done += killed.died


# The programs that Ray trains: how the header begins, when the second worker may die (a step, or a checkpoint), and how
# many checkpoints are reported.
IN_RAY = {
    "replicated": ("training 3 epochs of 20 steps", (11, 50), 7),
    "example": ("training 5 epochs of 37 steps", (1, 12), 19),
}


def ray(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Let Ray train on two workers, of which the second is killed within an epoch."""
    if "torch" not in packages or find_spec("ray") is None:
        return
    import torch  # noqa: F401  # the states have tensors

    for number, (program, (header, moments, saves)) in product(range(count), IN_RAY.items()):
        died = chance.randint(*moments)
        straight, killed = (folder / f"{number}-{program}-{name}" for name in ("straight", "killed"))
        found.setups += 1
        for place, death, starts in ((straight, [], 1), (killed, [str(died)], 2)):
            found.runs += 1
            done = subprocess.run(
                [sys.executable, "-m", "tests.support.programs.ray_train", str(place), program, *death],
                cwd=Path(__file__).parent.parent,
                capture_output=True,
                text=True,
                timeout=600,
            )
            if done.returncode:
                found.wrong.append(f"{place.name}: exit code {done.returncode}: {done.stderr[-3000:]}")
                return
            if (shown := (done.stdout + done.stderr).count(header)) != 1:  # a run that goes on says from where
                found.wrong.append(f"{place.name}: the header was shown {shown} times")
            started = [len((place / f"starts-{rank}").read_text().splitlines()) for rank in range(2)]
            if started != [starts, starts]:
                found.wrong.append(f"{place.name}: the workers were started {started} times")
            reports = json.loads((place / "reports.json").read_text())
            # Ray loses reports that it has not taken when a worker dies.
            if not (len(reports) == saves if place is straight else 0 < len(reports) <= saves):
                found.wrong.append(f"{place.name}: {len(reports)} of {saves} checkpoints were reported")
            for metrics, step, epochs in reports:
                if (metrics["step"], metrics["epoch"]) != (step, epochs):
                    found.wrong.append(f"{place.name}: {metrics} was reported with step {step} of epoch {epochs}")
        found.wrong += [f"{killed.name} at {died}: {each}" for each in _differences_in_ray(program, straight, killed)]
        found.done += 1


def _differences_in_ray(program: str, straight: Path, killed: Path) -> list[str]:
    """Return what two runs have come to otherwise."""
    from tests.support.event_logs import events
    from tests.support.ranks import differences_of_ranks
    from tests.support.survival import differences

    if program == "replicated":
        return differences_of_ranks(straight, killed, 2)
    found = []
    for place in (straight, killed):
        log = [event for event in events(place / "run" / "run.jsonl") if event[0] != "Saved"]
        found.append({"state": read_checkpoint(place / "run"), "log": log})
    return differences(*found)


def versions(found: Found, count: int, chance: random.Random, packages: list[str], folder: Path) -> None:
    """Run the tests that need no PyTorch on each Python there is, and with the lowest packages on the oldest."""
    from tests.support.pythons import trials

    for number, trial in enumerate(trials()):
        try:
            (folder.parent / f"trial-{number}").touch(exist_ok=False)
        except FileExistsError:  # another process has taken it
            continue
        (place := folder / str(number)).mkdir()
        row, wrong = trial.run(place)
        found.done, found.runs, found.setups = found.done + 1, found.runs + 1, found.setups + 1
        found.rows.append(row)
        found.wrong += [] if wrong is None else [wrong]


Section = Callable[[Found, int, random.Random, list[str], Path], None]
SECTIONS: dict[str, Section] = {
    "kills": kills,
    "signals": signals,
    "table": table,
    "fuzz": fuzz,
    "ends": ends,
    "ways": ways,
    "ranks-2": partial(ranks, size=2),
    "ranks-4": partial(ranks, size=4),
    "sockets": by_sockets,
    "launches": launches,
    "ray": ray,
    "examples": examples,
    "versions": versions,
}


def run(name: str, count: int, seed: int, jobs: int, packages: list[str], folder: Path) -> Found:
    """Run a section in several processes, and return what all have done and found."""

    def part(job: int, results: Path) -> None:
        found = Found()
        share = count // jobs + (job < count % jobs)
        try:
            SECTIONS[name](found, share, random.Random(f"{seed} {job}"), packages, folder / str(job))
        finally:
            results.write_text(json.dumps([found.done, found.runs, found.setups, found.wrong, found.rows]))

    total, running = Found(), []
    for job in range(jobs):
        (folder / str(job)).mkdir(parents=True)
        results = folder / f"results-{job}"
        process = Process(partial(part, job, results), folder / f"errors-{job}", patience=None)
        running.append((results, process))
    for results, process in running:
        if code := process.wait():
            total.wrong.append(f"exit code {code}: {process.errors.read_text()}")
        if results.exists():
            total.add(Found(*json.loads(results.read_text())))
    return total


def main() -> int:
    summary, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=summary)
    parser.add_argument("sections", nargs="+", choices=SECTIONS, help="what to do, one after the other")
    parser.add_argument("--count", type=int, help=f"how often; by default {COUNTS}")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="seed of all that is random")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at the same time")
    parser.add_argument(
        "--packages",
        nargs="+",
        choices=("numpy", "torch"),
        default=["numpy", *(["torch"] if find_spec("torch") else [])],
    )
    chosen = parser.parse_args()
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
    wrong = False
    for name in chosen.sections:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            count = COUNTS[name] if chosen.count is None else chosen.count
            found = run(name, count, chosen.seed, chosen.jobs, chosen.packages, Path(folder))
        print(
            f"{name}: {found.done} in {found.runs} runs of {found.setups} set-ups, {len(found.wrong)} wrong, "
            f"{time.perf_counter() - began:.0f} s, seed {chosen.seed}",
            *found.rows,
            *found.wrong,
            sep="\n  ",
            flush=True,
        )
        wrong |= bool(found.wrong)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
