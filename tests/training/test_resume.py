from __future__ import annotations

import copy
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_train import (
    Callback,
    EpochEnd,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    FitEnd,
    FitStart,
    StepEnd,
    StepResult,
    StepStart,
    Trainer,
    nn,
    optims,
    read_checkpoint,
    write_checkpoint,
)
from lucid_train.callbacks import (
    Checkpoint,
    CosineAnnealingLRCallback,
    EarlyStopping,
    ExponentialLRCallback,
    StepLRCallback,
    TerminateOnNaN,
)
from lucid_train.data import batches
from lucid_train.testing import diff_states
from tests.support.callbacks import Asker

HOOKS = [FitStart, EpochStart, StepStart, StepEnd, EvaluateStart, EvaluateEnd, EpochEnd, EpochReport, FitEnd]


class Unsized:
    """Batches in an order drawn from numpy's own generator, and of an unknown number."""

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.permutation(5).tolist())


class Late:
    """The order is drawn with the first batch, and every batch draws again."""

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[float]:
        for number in random.sample(range(5), 5):
            yield number + random.random()


DATA: dict[str, Callable[[], Any]] = {
    "batches": lambda: batches(np.arange(10.0), batch_size=2, seed=3),
    "list": lambda: [1.0, 2.0, 3.0, 4.0, 5.0],
    "unsized": Unsized,
    "late": Late,
}
CALLBACKS: dict[str, Callable[[], Callback]] = {
    "exponential": lambda: ExponentialLRCallback(0.9),
    "step": lambda: StepLRCallback(2, 0.5, interval="step"),
    "cosine": lambda: CosineAnnealingLRCallback(7, 1e-3, interval="step"),
    "restart": lambda: CosineAnnealingLRCallback(2, after="mirror"),
}
OTHERS: dict[str, Callable[[], Callback]] = {
    "early": lambda: EarlyStopping("val_loss", patience=2),
    "nan": TerminateOnNaN,
}


def build(
    data: str, order: list[str], *, steps_per_epoch: int | None = None, epochs: int = 3, asker: Any = None
) -> Trainer:
    np.random.seed(1)
    random.seed(2)
    model = nn.Linear(1, 1, rng=0)
    optimizer = optims.Adam(model.parameters(), lr=0.125)
    noise = np.random.Generator(np.random.MT19937(4))
    made = {**CALLBACKS, **OTHERS, "asker": lambda: asker or Asker(event=FitStart, count=-1)}

    def step(batch: float) -> Any:
        optimizer.zero_grad()
        x = np.full((1, 1), np.mean(batch) + noise.normal() + np.random.rand() + random.random())
        loss = float((model(x) ** 2).sum())
        model.backward(2 * model(x))
        optimizer.step()
        return loss if random.random() < 0.7 else StepResult({"loss": loss, "other": 1.0}, updated=False)

    return Trainer(
        step,
        DATA[data](),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        model=model,
        optimizer=optimizer,
        evaluate=lambda: np.random.rand(),
        extras={"noise": noise},
        callbacks=[made[name]() for name in order],
    )


def without_given_up(state: dict[str, Any]) -> dict[str, Any]:
    """A state without the place in a pass that was given up: how far that one came makes no difference to the next."""
    progress = state["progress"]
    latest = progress["latest_pass"]
    if latest["left"]:
        state = {**state, "progress": {**progress, "latest_pass": {**latest, "data": None}}}
    return {**state, "data": None} if progress["pass_left"] else state


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:CosineAnnealingLRCallback.*never reaches its end:UserWarning")
@given(
    data=st.sampled_from(sorted(DATA)),
    schedule=st.sampled_from(sorted(CALLBACKS)),
    others=st.lists(st.sampled_from(sorted(OTHERS)), max_size=2, unique=True),
    chance=st.randoms(use_true_random=False),
    epochs=st.integers(1, 4),
    steps_per_epoch=st.sampled_from([None, None, 3, 5]),
    hook=st.sampled_from(HOOKS),
    count=st.integers(1, 12),
    stop=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_run_resumed_from_any_hook_ends_as_one_that_was_not(
    tmp_path_factory: pytest.TempPathFactory,
    data: str,
    schedule: str,
    others: list[str],
    chance: random.Random,
    epochs: int,
    steps_per_epoch: int | None,
    hook: type[Any],
    count: int,
    stop: bool,
) -> None:
    order = [schedule, *others, "asker"]
    chance.shuffle(order)
    straight = build(data, order, steps_per_epoch=steps_per_epoch, epochs=epochs)
    straight.fit()
    asker = Asker(event=hook, count=count, stop=stop)
    build(data, order, steps_per_epoch=steps_per_epoch, epochs=epochs, asker=asker).fit()
    if not asker.found:
        return  # there were not as many events
    path = tmp_path_factory.getbasetemp() / "state"
    write_checkpoint(path, asker.found[0])
    resumed = build(data, order, steps_per_epoch=steps_per_epoch, epochs=epochs)
    np.random.seed(99)
    random.seed(99)
    progress = asker.found[0]["progress"]
    if len(progress["history"]["epoch"]) >= epochs or progress["finished_reason"]:
        with pytest.warns(UserWarning, match="nothing left to train"):
            history = resumed.fit(resume=path)
    else:
        history = resumed.fit(resume=path)
    assert diff_states(straight.state_dict()["progress"]["history"], history.state_dict()) == []
    assert diff_states(without_given_up(resumed.state_dict()), without_given_up(straight.state_dict())) == []


@pytest.mark.parametrize("data", sorted(DATA))
@pytest.mark.parametrize("steps_per_epoch", [None, 4, 5])
def test_every_step_is_a_place_to_resume_from(data: str, steps_per_epoch: int | None) -> None:
    order = ["exponential", "asker", "early"]
    straight = build(data, order, steps_per_epoch=steps_per_epoch)
    straight.fit()
    for count in range(1, straight.state_dict()["progress"]["step"] + 1):
        asker = Asker(event=StepEnd, count=count, stop=True)
        build(data, order, steps_per_epoch=steps_per_epoch, asker=asker).fit()
        resumed = build(data, order, steps_per_epoch=steps_per_epoch)
        resumed.load_state_dict(asker.found[0])
        resumed.fit()
        assert diff_states(*map(without_given_up, (straight.state_dict(), resumed.state_dict()))) == [], count


def test_many_cuts_in_a_row_change_nothing(tmp_path: Path) -> None:
    order = ["asker", "cosine", "early"]
    straight = build("late", order)
    straight.fit()
    path = None
    for number in range(1, 40):
        asker = Asker(event=StepEnd, count=1 + number % 2, stop=True)
        trainer = build("late", order, asker=asker)
        trainer.fit(resume=path)
        if not asker.found:
            break
        path = tmp_path / f"{number}"
        write_checkpoint(path, asker.found[0])
    assert number > 5
    assert diff_states(straight.state_dict(), trainer.state_dict()) == []


def test_a_second_fit_after_a_stop_in_an_epoch_equals_one_longer_fit() -> None:
    straight, cut = build("batches", ["exponential"]), build("batches", ["exponential"])
    straight.fit()
    cut.on(StepEnd, at={2, 7, 8})(lambda event: event.run.stop())
    np.random.seed(1)
    random.seed(2)
    for _ in range(4):
        history = cut.fit()
    assert history.status == "completed"
    assert diff_states(straight.state_dict(), cut.state_dict()) == []


def test_a_state_that_was_loaded_is_the_state_until_the_next_fit() -> None:
    trainer, other = build("list", ["early"]), build("list", ["early"])
    trainer.fit()
    other.load_state_dict(trainer.state_dict())
    assert diff_states(other.state_dict(), trainer.state_dict()) == []


def test_the_file_holds_what_the_state_does(tmp_path: Path) -> None:
    trainer = build("batches", ["early", "cosine"])
    trainer.fit()
    write_checkpoint(tmp_path / "state", trainer.state_dict())
    assert diff_states(read_checkpoint(tmp_path / "state"), trainer.state_dict()) == []


class Fails:
    """A step that remembers its batches, and fails in one of its calls."""

    def __init__(self, call: int) -> None:
        self.call, self.calls = call, 0
        self.seen: list[list[float]] = []

    def __call__(self, batch: Any) -> float:
        self.calls += 1
        if self.calls == self.call:
            raise OSError("lost")
        self.seen.append(batch.tolist())
        return float(batch.sum())


def test_a_step_that_failed_is_tried_again_in_a_run_with_checkpoints(tmp_path: Path) -> None:
    step = Fails(2)
    trainer = Trainer(step, batches(np.arange(3.0), batch_size=1), callbacks=[Checkpoint(tmp_path, weights=False)])
    with pytest.raises(OSError, match="lost"):
        trainer.fit()
    assert trainer.fit().status == "completed"
    assert sorted(step.seen) == [[0.0], [1.0], [2.0]]


class DrawnLate:
    """The order of a pass is drawn with its first batch, and each batch draws again."""

    def __iter__(self) -> Iterator[Any]:
        for batch in np.random.permutation(6).reshape(3, 2):
            yield batch + np.random.rand()


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_state_taken_when_a_step_has_failed_resumes_exactly(call: int) -> None:
    np.random.seed(1)
    straight = Fails(0)
    Trainer(straight, DrawnLate()).fit()
    np.random.seed(1)
    failed = Fails(call)
    trainer = Trainer(failed, DrawnLate())
    with pytest.raises(OSError, match="lost"):
        trainer.fit()
    step = Fails(0)
    resumed = Trainer(step, DrawnLate())
    resumed.load_state_dict(trainer.state_dict())
    resumed.fit()
    assert failed.seen + step.seen == straight.seen


def test_a_batch_that_was_taken_must_be_there_again() -> None:
    trainer = Trainer(Fails(3), [np.zeros(1)] * 3)
    with pytest.raises(OSError, match="lost"):
        trainer.fit()
    resumed = Trainer(Fails(0), [np.zeros(1)] * 2)
    resumed.load_state_dict(trainer.state_dict(), accept="steps_per_epoch")
    with pytest.raises(ValueError, match="'data' must have the 3 batches that were taken before: 2"):
        resumed.fit()


def test_resuming_without_training_leaves_the_place_in_the_data_alone() -> None:
    def built(stops: bool) -> Trainer:
        data = batches(np.arange(6.0), batch_size=2, seed=3)
        trainer = Trainer(lambda batch: float(batch[0]), data, epochs=3, steps_per_epoch=2)
        trainer.on(StepEnd, at=2)(lambda event: event.run.stop() if stops else None)
        trainer.on(FitStart)(lambda event: event.run.stop() if event.run.resumed and stops else None)
        return trainer

    straight = built(stops=False)
    straight.fit()
    trainer = built(stops=True)
    trainer.fit()
    for attempt in range(4):
        state = copy.deepcopy(trainer.state_dict())
        trainer = built(stops=attempt < 3)
        trainer.load_state_dict(state)
        trainer.fit()
    assert diff_states(straight.state_dict()["progress"]["history"], trainer.state_dict()["progress"]["history"]) == []


class Beginning:
    """Data whose pass begins with random numbers, and fails then in one epoch, as workers do that a signal ends.

    Args:
        fails_in: The epoch.
    """

    def __init__(self, fails_in: int | None) -> None:
        self.fails_in, self.begun = fails_in, 0

    def set_epoch(self, epoch: int) -> None:
        self.fails_now = epoch + 1 == self.fails_in

    def __iter__(self) -> Iterator[Any]:
        order = np.random.permutation(3)
        if self.fails_now:
            signal.raise_signal(signal.SIGINT)
            raise RuntimeError("a worker is gone")
        return iter(order.tolist())


class BeginningWithState(Beginning):
    """The same, which says where it stands."""

    def state_dict(self) -> dict[str, int]:
        return {"begun": self.begun}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.begun = state["begun"]

    def __iter__(self) -> Iterator[Any]:
        self.begun += 1
        yield from [*super().__iter__(), self.begun]


@pytest.mark.parametrize("data", [Beginning, BeginningWithState])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_that_is_interrupted_while_a_pass_begins_goes_on_with_the_same_batches(
    data: type[Beginning], epoch: int, tmp_path: Path
) -> None:
    def noted(fails_in: int | None, directory: Path, seed: int = 5) -> list[Any]:
        np.random.seed(seed)
        batches: list[Any] = []
        checkpoint = Checkpoint(directory, weights=False)
        with suppress(KeyboardInterrupt):
            Trainer(batches.append, data(fails_in), epochs=3, callbacks=[checkpoint]).fit(resume="auto")
        return batches

    straight = noted(None, tmp_path / "straight")
    found = noted(epoch, tmp_path / "other")
    assert len(found) == len(straight) * (epoch - 1) // 3
    assert found + noted(None, tmp_path / "other", seed=99) == straight


@pytest.mark.parametrize("data", [Beginning, BeginningWithState])
@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("resume", [None, "auto"])
def test_so_does_the_next_fit(data: type[Beginning], epoch: int, resume: str | None, tmp_path: Path) -> None:
    def noted(fails_in: int | None) -> list[Any]:
        np.random.seed(5)
        batches: list[Any] = []
        callbacks = [Checkpoint(tmp_path / str(fails_in), weights=False)] if resume else []
        trainer = Trainer(batches.append, data(fails_in), epochs=3, callbacks=callbacks)
        if fails_in is not None:
            with pytest.raises(KeyboardInterrupt):
                trainer.fit()
            trainer.data.fails_now = False  # type: ignore
            trainer.data.fails_in = None  # type: ignore
        trainer.fit(resume=resume)
        return batches

    assert noted(epoch) == noted(None)
