"""Two recorded runs, compared."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid_train import Callback, EpochEnd, StepEnd, StepStart, Trainer, replay
from lucid_train.callbacks import Checkpoint, CSVLogger, ExponentialLRCallback
from lucid_train.callbacks.event_log import EventLog
from lucid_train.data import batches
from lucid_train.nn import Linear
from lucid_train.optims import SGD, Adam
from lucid_train.recording.comparison import Comparison, compare_logs
from lucid_train.saving.random_state import RandomState
from lucid_train.testing import assert_resumes_exactly, run_in_threads
from tests.support.event_logs import SILENT, lines

N, EPOCHS = 4, 3


class Settings:
    """What a run here is made of; each test changes one thing."""

    seed, dropout, lr, gamma, epochs, adam, digests = 0, 0, 0.1, 0.5, EPOCHS, False, 1
    step_every: int | None = None
    nudge: int | None = None
    push: int | None = None
    batch_size = 4
    spoil: int | None = None

    def __init__(self, **changes: Any) -> None:
        for name, value in changes.items():
            assert hasattr(self, name)
            setattr(self, name, value)


def build(path: Path, *callbacks: Callback, **changes: Any) -> Trainer:
    """Return a Trainer that trains a small model on shuffled batches, with noise of Python's global generator."""
    this = Settings(**changes)
    random.seed(this.dropout)
    np.random.seed(0)
    inputs = np.random.default_rng(0).normal(size=(4 * N, 2))
    model = Linear(2, 1, rng=0)
    optimizer = (Adam if this.adam else SGD)(model.parameters(), lr=this.lr)
    done = 0

    def step(batch: Any) -> float:
        nonlocal done
        done += 1
        keep = random.random() < 0.9
        error = model(batch) * keep
        model.backward(error / len(error))
        optimizer.step()
        weight = model.weight.data
        if done == this.nudge:
            weight.flat[0] = np.nextafter(weight.flat[0], weight.dtype.type(math.inf))
        if done == this.push:
            weight.flat[0] += 0.25
        optimizer.zero_grad()
        return math.nan if this.spoil is not None and done >= this.spoil else float(np.mean(error**2))

    log = EventLog(path, digests=this.digests, step_every=this.step_every, **SILENT)
    return Trainer(
        step,
        batches(inputs, batch_size=this.batch_size, shuffle=True, seed=this.seed),
        epochs=this.epochs,
        model=model,
        optimizer=optimizer,
        callbacks=[ExponentialLRCallback(this.gamma), *callbacks, log],
    )


@pytest.fixture
def compared(tmp_path: Path) -> Callable[..., Comparison]:
    """Return what trains two runs that differ in some settings, and compares their logs."""

    def compare(both: dict[str, Any] | None = None, **changes: Any) -> Comparison:
        build(tmp_path / "a.jsonl", **(both or {})).fit()
        build(tmp_path / "b.jsonl", **{**(both or {}), **changes}).fit()
        return compare_logs(tmp_path / "a.jsonl", tmp_path / "b.jsonl")

    return compare


def found(comparison: Comparison) -> tuple[str, list[str]]:
    assert comparison.first is not None
    return str(comparison.first), list(comparison.first.differing)


def test_two_runs_of_one_program_agree(compared: Callable[..., Comparison]) -> None:
    comparison = compared()
    assert (comparison.agrees, comparison.compared, comparison.setup) == (True, 1 + N * EPOCHS + EPOCHS, ())
    assert list(map(str, comparison.pairs)) == [f"step {N * EPOCHS}", f"epoch {EPOCHS}"]


def test_another_order_of_the_data_is_found_in_the_first_batch(compared: Callable[..., Comparison]) -> None:
    place, names = found(compared(seed=1))
    assert (place, names[0]) == ("step 1", "batch")


def test_another_seed_of_the_noise_is_found_in_the_generator(compared: Callable[..., Comparison]) -> None:
    place, names = found(compared(dropout=1))
    assert (place, names[0]) == ("step 1", "generator python")
    assert "batch" not in names


def test_another_rate_is_named_in_the_setup_and_at_the_first_step(compared: Callable[..., Comparison]) -> None:
    comparison = compared(lr=0.2)
    assert comparison.setup == ("optimizer.lr is 0.1 in a.jsonl and 0.2 in b.jsonl",)
    assert found(comparison) == ("step 1", ["rate", "weights"])


def test_another_schedule_is_found_where_its_rate_is_first_used(compared: Callable[..., Comparison]) -> None:
    comparison = compared(gamma=0.25)
    assert [sentence.partition(" is ")[0] for sentence in comparison.setup] == ["ExponentialLRCallback.gamma"]
    assert found(comparison) == (f"step {N + 1}", ["rate", "weights"])


def test_a_weight_that_is_off_by_one_bit_is_found_at_the_next_digest(compared: Callable[..., Comparison]) -> None:
    comparison = compared(nudge=7)
    assert found(comparison) == ("step 7", ["weights"])
    assert list(map(str, comparison.pairs)) == ["step 5", "step 6", "step 7", "step 8", "epoch 2"]


@pytest.mark.parametrize(("first", "second", "places"), [(5, 5, ["epoch 2"]), (2, 4, ["step 8"]), (1, 7, ["step 7"])])
def test_logs_are_compared_at_the_steps_that_both_have(
    compared: Callable[..., Comparison], first: int, second: int, places: list[str]
) -> None:
    comparison = compared({"digests": first}, digests=second, push=7)
    assert [str(comparison.first)] == places


def test_a_state_of_the_optimizer_is_part_of_the_digests(compared: Callable[..., Comparison]) -> None:
    assert found(compared({"adam": True}, push=7)) == ("step 7", ["weights"])
    comparison = compared({"adam": True}, push=6)
    after = [pair for pair in comparison.pairs if str(pair) == "step 7"]
    assert ["optimizer's state" in pair.differing for pair in after] == [True]


def test_nan_equals_nan(compared: Callable[..., Comparison]) -> None:
    assert compared({"spoil": 2}).agrees
    assert found(compared({"spoil": 3}, spoil=4)) == ("step 3", ["loss"])


def test_logs_without_digests_are_compared_by_their_steps_and_epochs(compared: Callable[..., Comparison]) -> None:
    assert compared({"digests": None}).agrees
    place, names = found(compared({"digests": None}, push=2))
    assert (place, names) == ("epoch 1", ["loss"])
    place, names = found(compared({"digests": None, "step_every": 1}, push=2))
    assert (place, names) == ("step 3", ["loss"])


def test_a_run_that_ends_earlier_agrees_as_far_as_it_goes(compared: Callable[..., Comparison]) -> None:
    comparison = compared(epochs=2)
    assert comparison.setup == ("epochs is 3 in a.jsonl and 2 in b.jsonl",)
    assert comparison.first is None
    assert list(map(str, comparison.ends)) == ["epoch 3", "epoch 2"]


@pytest.mark.parametrize("digests", [1, 3])
def test_a_resumed_run_agrees_with_one_that_was_not_interrupted(tmp_path: Path, digests: int) -> None:
    saved = partial(Checkpoint, every=2, interval="step")
    build(tmp_path / "a.jsonl", saved(tmp_path / "a"), digests=digests).fit()
    path = tmp_path / "b.jsonl"
    cut = build(path, saved(tmp_path / "b"), digests=digests)

    @cut.on(StepStart, at=8)
    def die(event: StepStart) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.fit()
    build(path, saved(tmp_path / "b"), digests=digests).fit(resume=tmp_path / "b")
    logs = [
        [line["step"] for line in lines(each) if line["event"] == "digests"] for each in (tmp_path / "a.jsonl", path)
    ]
    assert logs[0] == logs[1] == list(range(digests, N * EPOCHS + 1, digests))
    assert [line["event"] for line in lines(path)].count("FitStart") == 2
    assert compare_logs(tmp_path / "a.jsonl", path).agrees


def test_another_version_is_named_where_a_run_begins_and_where_it_goes_on(tmp_path: Path) -> None:
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    build(one).fit()
    trainer = build(other, epochs=1)
    trainer.fit()
    trainer.fit(EPOCHS)
    entries = lines(other)
    starts = [entry for entry in entries if entry["event"] == "FitStart"]
    starts[0]["versions"]["numpy"], starts[1]["versions"]["numpy"] = "0.1", "0.2"
    other.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert compare_logs(one, other).versions == (
        f"numpy is {np.__version__} in a.jsonl and 0.1 in b.jsonl",
        "numpy is 0.2 in b.jsonl after step 4, and 0.1 before it",
    )


def test_displays_and_records_are_no_part_of_the_setup(tmp_path: Path) -> None:
    build(tmp_path / "a.jsonl").fit()
    build(tmp_path / "b.jsonl", CSVLogger(tmp_path / "b.csv")).fit()
    assert compare_logs(tmp_path / "a.jsonl", tmp_path / "b.jsonl").agrees


def test_only_the_first_of_two_ranks_writes_its_digests(tmp_path: Path) -> None:
    def train(path: Path, group: Any) -> None:
        model = Linear(2, 1, rng=0)
        optimizer = SGD(model.parameters(), lr=0.1)
        callbacks = [EventLog(path, digests=1, **SILENT)]
        Trainer(
            lambda batch: batch / 4, [1, 2], model=model, optimizer=optimizer, group=group, callbacks=callbacks
        ).fit()

    for name in ("a.jsonl", "b.jsonl"):
        run_in_threads(2, partial(train, tmp_path / name))
    comparison = compare_logs(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert comparison.agrees
    assert [line["step"] for line in lines(tmp_path / "a.jsonl") if line["event"] == "digests"] == [1, 2]


def test_without_digests_nothing_listens_to_the_steps(tmp_path: Path) -> None:
    listening = {}
    for digests in (None, 2):
        trainer = build(tmp_path / f"{digests}.jsonl", digests=digests)

        @trainer.on(EpochEnd, once=True)
        def look(event: EpochEnd, digests: int | None = digests) -> None:
            listening[digests] = [len(event.run.listeners(each)) for each in (StepStart, StepEnd)]

        trainer.fit()
    assert listening == {None: [0, 0], 2: [1, 1]}


def test_a_replay_and_its_own_log_leave_digests_out(tmp_path: Path) -> None:
    trainer = build(tmp_path / "a.jsonl", step_every=1)
    history = trainer.fit()
    again = EventLog(tmp_path / "again.jsonl", digests=1, **SILENT)
    assert replay(tmp_path / "a.jsonl", [again]) == history
    assert not [line for line in lines(tmp_path / "again.jsonl") if line["event"] == "digests"]


def test_digests_leave_the_generators_as_they_were(tmp_path: Path) -> None:
    ends = []
    for digests in (None, 1):
        trainer = build(tmp_path / f"{digests}.jsonl", digests=digests)
        trainer.fit()
        ends.append(RandomState().read())
    assert ends[0] == ends[1]


def test_a_state_that_has_no_digest_is_refused_before_the_first_step(tmp_path: Path) -> None:
    class Odd:
        def state_dict(self) -> dict[str, Any]:
            return {"inner": object()}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            del state

    done: list[int] = []
    log = EventLog(tmp_path / "run.jsonl", digests=5, **SILENT)
    with pytest.raises(TypeError, match=r"model\.inner"):
        Trainer(done.append, [1, 2], model=Odd(), callbacks=[log]).fit()
    assert done == []


@pytest.mark.parametrize("digests", [0, -1, 2.5, True])
def test_an_interval_of_digests_is_a_whole_number(tmp_path: Path, digests: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="'digests' must be"):
        EventLog(tmp_path / "run.jsonl", digests=digests)


def test_epochs_of_other_lengths_are_compared_step_by_step(compared: Callable[..., Comparison]) -> None:
    comparison = compared(batch_size=2)
    assert comparison.setup == ("steps_per_epoch is 4 in a.jsonl and 8 in b.jsonl",)
    assert found(comparison)[0] == "step 1"
    comparison = compared({"digests": None}, batch_size=2)
    assert (comparison.compared, comparison.pairs, comparison.agrees) == (0, (), False)


def test_a_run_with_digests_resumes_exactly_at_every_moment(tmp_path: Path) -> None:
    assert_resumes_exactly(partial(build, tmp_path / "run.jsonl", epochs=2), cuts="all")


def test_the_state_of_a_run_can_be_read_only_while_it_trains(tmp_path: Path) -> None:
    trainer = build(tmp_path / "run.jsonl")
    found: list[Any] = []

    @trainer.on(StepEnd, at=1)
    def look(event: StepEnd) -> None:
        found.extend([event.run, sorted(event.run.live_state() or ()), sorted((event.run.setup() or {})["callbacks"])])

    trainer.fit()
    run, state, callbacks = found
    assert (state, callbacks) == (["extras", "model", "optimizer", "random"], ["ExponentialLRCallback"])
    assert (run.live_state(), run.setup()) == (None, None)


def test_generators_of_data_that_says_where_it_stands_are_left_out(tmp_path: Path) -> None:
    class Ahead:
        """Draws numbers when it likes, and says where it stands."""

        def __init__(self) -> None:
            self.rng, self.drawn = np.random.default_rng(0), 0

        def __iter__(self) -> Iterator[float]:
            while self.drawn < 3:
                self.drawn += 1
                yield self.rng.random()
            self.drawn = 0

        def state_dict(self) -> dict[str, Any]:
            return {"drawn": self.drawn, "rng": self.rng.bit_generator.state}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.drawn, self.rng.bit_generator.state = state["drawn"], state["rng"]

    own = np.random.default_rng(1)
    log = EventLog(tmp_path / "run.jsonl", digests=1, **SILENT)
    Trainer(lambda batch: own.random(), Ahead(), steps_per_epoch=3, extras={"own": own}, callbacks=[log]).fit()
    digests = [line["random"] for line in lines(tmp_path / "run.jsonl") if line["event"] == "digests"]
    assert [set(each) - {"torch", "cuda"} for each in digests] == [{"python", "numpy", "own.own"}] * 3
    assert len({each["own.own"] for each in digests}) == 3


def test_the_example_names_the_step(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples/compare_runs.py"
    done = subprocess.run([sys.executable, str(example), str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].startswith("step 10: loss, ")
    comparison = compare_logs(tmp_path / "one.jsonl", tmp_path / "other.jsonl")
    assert found(comparison) == ("step 10", ["loss", "weights", "optimizer's state"])


# Logs from strangers.


def test_logs_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    build(tmp_path / "a.jsonl", digests=None).fit()
    (tmp_path / "b.jsonl").write_text((tmp_path / "a.jsonl").read_text().splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match="must have a step or an epoch in common to be compared: none"):
        compare_logs(tmp_path / "a.jsonl", tmp_path / "b.jsonl")


CHANGES: dict[str, tuple[str, Any, str]] = {
    "batch": ("batch", "x" * 16, "'batch' must be a digest, 16 hexadecimal digits: 'xxx"),
    "model": ("model", 5, "'model' must be a digest, 16 hexadecimal digits: 5"),
    "optimizer": ("optimizer", "0" * 17, "'optimizer' must be a digest"),
    "random": ("random", [], "'random' must be an object"),
    "one generator": ("random", {"python": []}, "'python' must be a digest"),
    "extras": ("extras", None, "'extras' must be an object"),
    "lr": ("lr", "0.1", "'lr' must be a list"),
    "scheduled": ("scheduled", {"momentum": 1}, "'momentum' must be a list"),
    "metrics": ("metrics", {"loss": "1"}, "'loss' must be a number"),
    "step": ("step", -1, "'step' must be an int"),
    "epoch": ("epoch", 1.5, "'epoch' must be an int"),
    "order": ("step", 2**40, "step [0-9]+ comes after step [0-9]+"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_field_of_digests_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    field, value, why = CHANGES[name]
    path = tmp_path / "a.jsonl"
    build(path).fit()
    entries = lines(path)
    number, entry = next((number, each) for number, each in enumerate(entries) if each["event"] == "digests")
    entry[field] = value
    path.write_text("".join(json.dumps(each) + "\n" for each in entries))
    (tmp_path / "b.jsonl").write_text(path.read_text())
    with pytest.raises(ValueError, match=rf"is not the log of a run: in line [0-9]+, {why}") as error:
        compare_logs(path, tmp_path / "b.jsonl")
    if name == "order":
        return
    assert f"in line {number + 1}, " in str(error.value)
    if name not in ("step", "epoch"):
        with pytest.raises(ValueError, match=why):
            replay(path)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("versions", [], "'versions' must be an object"),
        ("versions", {"numpy": 2}, "'versions' must be a string"),
        ("versions", {"numpy": "2" * 201}, "'versions' must be of at most 200 characters"),
        ("setup", {"epochs": 1}, "'setup' does not fit: "),
        ("setup", {"!float": "x"}, "is not what a tag of this format has"),
        (
            "setup",
            {
                **dict.fromkeys(("steps_per_epoch", "evaluate_every", "model", "optimizer")),
                **{"epochs": 1, "world_size": 1, "callbacks": {}},
                "optimizers": {"optimizer": [{str(number): 1} for number in range(1000)]},
            },
            "'setup.optimizers.optimizer' must have groups with options of the same names",
        ),
        ("weights", [], "'weights' must be an object"),
        ("weights", {"model": 1}, "'model' must be a digest"),
    ],
)
def test_a_changed_first_line_is_refused(tmp_path: Path, field: str, value: Any, why: str) -> None:
    path = tmp_path / "a.jsonl"
    build(path).fit()
    entries = lines(path)
    entries[0][field] = value
    path.write_text("".join(json.dumps(each) + "\n" for each in entries))
    with pytest.raises(ValueError, match=rf"in line 1, .*{why}"):
        compare_logs(path, path)


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(ValueError, match="it has no complete line"):
        compare_logs(tmp_path / "a.jsonl", tmp_path / "a.jsonl")


def test_a_log_without_setup_and_versions_is_compared_by_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    build(path).fit()
    entries = lines(path)
    for name in ("versions", "setup", "weights"):
        del entries[0][name]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))
    assert compare_logs(path, tmp_path / "b.jsonl").agrees


def test_steps_are_recorded_beside_their_digests(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    build(path, step_every=2, digests=3).fit()
    kinds = [(line["event"], line["step"]) for line in lines(path) if line["event"] in (StepEnd.__name__, "digests")]
    assert kinds[:4] == [("StepEnd", 2), ("digests", 3), ("StepEnd", 4), ("digests", 6)]
    assert kinds[4] == ("StepEnd", 6)
