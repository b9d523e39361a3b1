from __future__ import annotations

import copy
import json
import re
from typing import Any

import numpy as np
import pytest
from attrs import fields, frozen
from hypothesis import given
from hypothesis import strategies as st

from lucid_train import EpochRecord, History
from lucid_train.metrics import Means, RunningMean, Sum
from lucid_train.progress import DataPass, DrawnBatch, Phase, Progress, structure, unstructure

numbers = st.floats(allow_nan=False)
names = st.text(min_size=1, max_size=3)


passes = st.builds(
    DataPass,
    epoch=st.just(1),
    first_step=st.just(0),
    random=st.none() | st.dictionaries(names, st.integers()),
    data=st.none() | st.dictionaries(names, st.integers()),
    left=st.booleans(),
    batches=st.lists(st.builds(DrawnBatch, st.none() | names, st.dictionaries(names, st.integers())), max_size=2),
)


@st.composite
def progresses(draw: Any) -> Progress:
    finished = draw(st.integers(0, 3))
    phase: Phase = draw(st.sampled_from(["between", "start", "steps", "evaluation", "end"]))
    first_step = draw(st.integers(0, 9))
    sums = st.builds(Sum, st.lists(numbers, max_size=3), st.booleans(), st.none() | numbers)
    return Progress(
        epoch=finished + (phase != "between"),
        step=first_step + draw(st.integers(0, 9)),
        phase=phase,
        first_step=first_step,
        means=Means(
            draw(st.dictionaries(names, st.builds(RunningMean, sums, sums, st.lists(numbers, max_size=2)), max_size=3))
        ),
        seconds=draw(numbers),
        seconds_in_steps=draw(numbers),
        seconds_waiting=draw(numbers),
        rates=draw(st.none() | st.lists(numbers, max_size=3)),
        latest_pass=draw(st.none() | passes) if finished else None,
        pass_left=draw(st.booleans()),
        batch_taken=draw(st.booleans()),
        steps_per_epoch=draw(st.none() | st.integers(0, 9)),
        finished_reason=draw(st.none() | names),
        history=History([EpochRecord(epoch=number + 1) for number in range(finished)]),
    )


@given(progresses())
def test_a_progress_becomes_plain_json_and_is_read_back(progress: Progress) -> None:
    state = json.loads(json.dumps(unstructure(progress)))
    again = structure(Progress, state, "progress")
    assert unstructure(again) == state
    assert again.history == progress.history
    assert list(state) == [each.name for each in fields(Progress)]


def test_a_number_of_any_kind_is_a_plain_one_in_the_state() -> None:
    class Tensor:
        def __float__(self) -> float:
            return 0.5

    total = Sum([np.float64(1.5)], tensor=Tensor())  # type: ignore[arg-type]  # as it comes
    means = Means({"loss": RunningMean(total, late=[Tensor(), 2.0])})  # type: ignore[list-item]  # as it comes
    state = unstructure(Progress(means=means, steps_per_epoch=np.int64(3), rates=[Tensor()]))  # type: ignore[arg-type, list-item]
    found = state["means"], state["steps_per_epoch"], state["rates"]
    sums = {"total": {"parts": [1.5], "scaled": False, "tensor": 0.5}, "weight": unstructure(Sum())}
    assert found == ({"metrics": {"loss": {**sums, "pending": [], "late": [0.5, 2.0]}}}, 3, [0.5])
    assert json.loads(json.dumps(state)) == state


WRONG: dict[str, list[Any]] = {
    "epoch": ["1", 0.0, None, True],
    "step": ["1", 0.0, None, True],
    "updates": ["1", 0.0, None, True],
    "phase": ["asleep", None, 1],
    "first_step": ["1", 0.0, None],
    "means": [None, []],
    "seconds": ["1", None, 1],
    "seconds_in_steps": ["1", None, 1],
    "seconds_waiting": ["1", None, 1],
    "rates": [0.5, ["x"], [1]],
    "scheduled": [None, [], {"weight_decay": 0.5}, {"weight_decay": ["x"]}],
    "latest_pass": [[], 1, {"epoch": 1}],
    "pass_left": [0, None],
    "batch_taken": [0, None],
    "steps_per_epoch": ["1", 1.5, True],
    "finished_reason": [1, True],
    "history": [None, [], {}],
}


@pytest.mark.parametrize("name", [each.name for each in fields(Progress)])
def test_every_entry_must_be_there_and_of_its_type(name: str) -> None:
    state = unstructure(Progress())
    without = {each: value for each, value in state.items() if each != name}
    with pytest.raises(ValueError, match=f"^'progress' does not fit: '{name}' is missing$"):
        structure(Progress, without, "progress")
    for wrong in WRONG[name]:
        with pytest.raises(
            ValueError, match=rf"^'progress\.{name}|^the state (is not one )?of a History|^'progress.means'"
        ):
            structure(Progress, {**state, name: wrong}, "progress")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"alien": 1}, "'progress' does not fit: 'alien' is unknown"),
        ({"epoch": "x"}, "'progress.epoch' must be int: 'x'"),
        ({"rates": [0.5, "x"]}, "'progress.rates[1]' must be float: 'x'"),
        ({"rates": 1}, "'progress.rates' must be list[float]: 1"),
        ({"latest_pass": 1}, "'progress.latest_pass' must be a dict: 1"),
        (
            {"latest_pass": {**unstructure(DataPass(1, 0)), "batches": [{"fingerprint": 1, "random": {}}]}},
            "'progress.latest_pass.batches[0].fingerprint' must be str: 1",
        ),
        (
            {"latest_pass": unstructure(DataPass(1, 1))},
            "'latest_pass.first_step' must be from 0 to the 0 steps done: 1",
        ),
        ({"latest_pass": unstructure(DataPass(2, 0))}, "'latest_pass.epoch' must be from 1 to 0: 2"),
        (
            {"phase": "x"},
            "'progress.phase' must be one of 'between', 'start', 'steps', 'evaluation', 'asked', 'end': 'x'",
        ),
        ({"seconds": "y" * 100}, f"'progress.seconds' must be float: '{'y' * 79}"),
        ({"means": 1}, "'progress.means' must be a dict: 1"),
        ({"means": {}}, "'progress.means' does not fit: 'metrics' is missing"),
        (
            {"means": {"metrics": {1: {}}}},
            "'progress.means.metrics' must",
        ),
        ({"steps_per_epoch": -1}, "'steps_per_epoch' must be >= 0: -1"),
        ({"first_step": 1}, "'first_step' must be from 0 to the 0 steps done: 1"),
        ({"first_step": -1}, "'first_step' must be from 0 to the 0 steps done: -1"),
        ({"updates": 1}, "'updates' must be from 0 to the 0 steps done: 1"),
        ({"epoch": 2}, "'epoch' must come after the 0 epochs in the history: 2"),
        ({"phase": "end"}, "'epoch' must come after the 0 epochs in the history: 0"),
    ],
)
def test_what_does_not_fit_is_named(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        structure(Progress, {**unstructure(Progress()), **entries}, "progress")


def test_what_may_be_anything_is_left_as_it_is() -> None:
    @frozen
    class Holder:
        any: Any
        some: dict[str, Any]

    held = object()
    state = unstructure(Holder(held, {"a": held}))
    assert state == {"any": held, "some": {"a": held}}
    assert structure(Holder, state, "holder") == Holder(held, {"a": held})


def test_an_epoch_that_is_closed_leaves_nothing_behind_but_what_its_data_were() -> None:
    progress = Progress()
    before = unstructure(copy.deepcopy(progress))
    progress.open_epoch()
    progress.latest_pass = DataPass(1, 0)
    progress.means.add(0.5)
    progress.step, progress.seconds, progress.rates = 3, 1.0, [0.1]
    assert (progress.epoch_step, progress.steps_are_done) == (3, False)
    progress.steps_per_epoch = 3
    assert progress.steps_are_done
    progress.close_epoch(EpochRecord(epoch=1))
    assert (progress.epoch_step, progress.steps_are_done) == (0, False)
    changed = {name for name, value in unstructure(progress).items() if value != before[name]}
    assert changed == {"epoch", "step", "steps_per_epoch", "history", "latest_pass"}
