"""The recipe that profiles a window of steps, with torch.profiler on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint
from lucid_train.testing import assert_resumes_exactly, run_in_threads
from tests.support.examples import EXAMPLES, load_example

recipe: Any = load_example("profile_steps")


def build(folder: Path, *, first: int, last: int, fails_in: int | None = None, **more: Any) -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    done = 0

    def step(batch: Any) -> torch.Tensor:
        nonlocal done
        done += 1
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        if done == fails_in:
            raise RuntimeError("the batch is broken")
        loss.backward()
        optimizer.step()
        return loss

    callbacks = [recipe.ProfileSteps(folder, first=first, last=last), *more.pop("callbacks", [])]
    return Trainer(step, torch.ones(10, 2, 3), model=model, optimizer=optimizer, callbacks=callbacks, **more)


def profiled(trace: Path) -> tuple[list[int], int]:
    """Return the steps that a trace has, in order, and how many times the model was called in it."""
    events = sorted(json.loads(trace.read_text("utf-8"))["traceEvents"], key=lambda event: event.get("ts", 0))
    names = [event.get("name", "") for event in events if event.get("cat") in ("user_annotation", "cpu_op")]
    return [int(name.split("#")[1]) for name in names if name.startswith("ProfilerStep#")], names.count("aten::addmm")


def traces(folder: Path) -> dict[str, tuple[list[int], int]]:
    return {path.name: profiled(path) for path in sorted(folder.glob("*"))}


def test_the_trace_has_exactly_the_steps_of_the_window(tmp_path: Path) -> None:
    build(tmp_path / "traces", first=4, last=6).fit()
    assert traces(tmp_path / "traces") == {"steps-4-6.json": ([4, 5, 6], 3)}


def test_a_window_may_be_one_step_the_first_and_cross_the_end_of_an_epoch(tmp_path: Path) -> None:
    build(tmp_path / "one", first=1, last=1).fit()
    build(tmp_path / "two", first=9, last=12, epochs=2, evaluate=lambda: 0.5).fit()
    assert traces(tmp_path / "one") == {"steps-1-1.json": ([1], 1)}
    assert traces(tmp_path / "two") == {"steps-9-12.json": ([9, 10, 11, 12], 4)}


def test_what_was_profiled_is_written_when_the_run_ends_within_the_window(tmp_path: Path) -> None:
    build(tmp_path, first=8, last=20).fit()
    assert traces(tmp_path) == {"steps-8-10.json": ([8, 9, 10], 3)}


def test_and_when_it_fails_there_with_the_step_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the batch is broken") as caught:
        build(tmp_path, first=3, last=9, fails_in=5).fit()
    assert caught.value.__notes__ == ["raised in epoch 1 after step 4"]
    assert traces(tmp_path) == {"steps-3-5.json": ([3, 4, 5], 3)}


def test_a_run_that_never_comes_to_the_window_writes_nothing(tmp_path: Path) -> None:
    build(tmp_path / "traces", first=11, last=12).fit()
    assert not (tmp_path / "traces").exists()


def test_a_run_that_is_resumed_within_the_window_profiles_the_rest_of_it(tmp_path: Path) -> None:
    def trainer(epochs: int) -> Trainer:
        return build(tmp_path / "traces", first=9, last=12, epochs=epochs, callbacks=[Checkpoint(tmp_path / "run")])

    trainer(1).fit()
    trainer(2).fit(resume="auto")
    assert traces(tmp_path / "traces") == {"steps-11-12.json": ([11, 12], 2), "steps-9-10.json": ([9, 10], 2)}


def test_it_changes_nothing_of_the_run_and_a_run_with_it_is_resumed_exactly(tmp_path: Path) -> None:
    watched = build(tmp_path, first=3, last=6).fit()
    assert watched.metric("loss") == build(tmp_path, first=99, last=99).fit().metric("loss")
    assert_resumes_exactly(lambda: build(tmp_path, first=3, last=6), cuts=[4])


def test_it_profiles_a_fit_in_a_thread_of_its_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(build(tmp_path, first=2, last=3).fit).result()
    assert traces(tmp_path) == {"steps-2-3.json": ([2, 3], 2)}


def test_of_many_processes_the_first_one_is_profiled(tmp_path: Path) -> None:
    run_in_threads(2, lambda group: build(tmp_path / str(group.rank), first=2, last=3, group=group).fit())
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


@pytest.mark.slow
def test_the_example_prints_the_steps_of_its_trace() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "profile_steps.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "steps-6-8.json ['ProfilerStep#6', 'ProfilerStep#7', 'ProfilerStep#8']",
        "{'aten::addmm': 6, 'aten::mm': 9, 'aten::relu': 3}",
    ]
