"""Batches in groups: a step is an update, and nothing of the loader is lost or done twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train import FitStart, StepResult, Trainer, read_checkpoint
from lucid_train.callbacks import Checkpoint
from lucid_train.data import Grouped, batches, grouped


class Failing:
    """Numbers from 0; taking those in `at` fails the first time. Its own iterator, which goes on after that."""

    def __init__(self, count: int, *at: int) -> None:
        self.count, self.at, self.number = count, list(at), 0

    def __iter__(self) -> Failing:
        return self

    def __next__(self) -> int:
        if self.number == self.count:
            raise StopIteration
        if self.number in self.at:
            self.at.remove(self.number)
            raise OSError(f"number {self.number} cannot be read")
        self.number += 1
        return self.number - 1


class Unsized:
    """Data without a length, a state or an epoch."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


class FailingPasses:
    """The same as data: each pass begins at 0."""

    def __init__(self, count: int, *at: int) -> None:
        self.count, self.at = count, list(at)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            if number in self.at:
                self.at.remove(number)
                raise OSError(f"number {number} cannot be read")
            yield number


class FailingBatches:
    """Batches with their state, of which taking one fails the first time."""

    def __init__(self, at: int) -> None:
        self.inner, self.at, self.taken = batches(np.arange(7), batch_size=1, seed=1), at, 0

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.inner:
            yield batch
            self.taken += 1
            if self.taken == self.at:
                raise OSError("no more for now")

    def state_dict(self) -> Any:
        return self.inner.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state)


def listed(groups: Any) -> list[list[Any]]:
    return [[np.asarray(batch).tolist() for batch in group] for group in groups]


def flat(groups: Any) -> list[Any]:
    return [batch for group in groups for batch in group]


@given(count=st.integers(0, 30), n=st.integers(1, 9), is_sized=st.booleans())
def test_every_list_has_n_batches_but_the_last_and_none_is_left_out(count: int, n: int, is_sized: bool) -> None:
    data = list(range(count))
    groups = grouped(data if is_sized else Unsized(count), n)
    for _ in range(2):
        found = list(groups)
        assert flat(found) == data
        assert [len(group) for group in found] == [n] * (count // n) + [count % n] * (count % n > 0)
    assert not is_sized or len(groups) == len(found)


@given(rows=st.integers(1, 12), n=st.integers(1, 4), whole=st.integers(0, 2), part=st.integers(0, 12))
def test_a_state_goes_on_in_the_middle_of_a_pass(rows: int, n: int, whole: int, part: int) -> None:
    original, resumed = (grouped(batches(np.arange(rows), batch_size=2, seed=4), n) for _ in range(2))
    for _ in range(whole):
        list(original)
    passing = iter(original)
    for _ in range(min(part, len(original))):
        next(passing)
    state = original.state_dict()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert [listed(resumed) for _ in range(3)] == [listed(passing), listed(original), listed(original)]


@pytest.mark.parametrize("at", range(7))
def test_a_loader_that_fails_within_a_list_and_goes_on_loses_no_batch(at: int) -> None:
    passing, found, failures = iter(grouped(Failing(7, at), 3)), [], 0
    while True:
        try:
            found.append(next(passing))
        except OSError:
            failures += 1
        except StopIteration:
            break
    assert (found, failures) == ([[0, 1, 2], [3, 4, 5], [6]], 1)


@pytest.mark.parametrize("make", [Failing, FailingPasses])
@pytest.mark.parametrize("at", range(7))
def test_a_fit_whose_loader_fails_goes_on_with_every_batch_once(make: Any, at: int) -> None:
    seen: list[list[int]] = []
    trainer = Trainer(seen.append, grouped(make(7, at), 3))
    with pytest.raises(OSError, match=f"number {at} cannot be read"):
        trainer.fit()
    trainer.fit()
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("elsewhere", [False, True])
def test_so_does_one_whose_loader_has_a_state_and_another_process_that_resumes_it(at: int, elsewhere: bool) -> None:
    expected = listed(grouped(batches(np.arange(7), batch_size=1, seed=1), 3))
    seen: list[Any] = []
    trainer = Trainer(seen.append, grouped(FailingBatches(at), 3))
    with pytest.raises(OSError, match="no more for now"):
        trainer.fit()
    if elsewhere:
        state = trainer.state_dict()
        trainer = Trainer(seen.append, grouped(FailingBatches(0), 3))
        trainer.load_state_dict(state)
    trainer.fit()
    assert listed(seen) == expected


class Interrupted(FailingBatches):
    """Batches during one of which the process is asked to end, with a second signal, which does not wait for it."""

    run: Any = None

    def __iter__(self) -> Iterator[Any]:
        for batch in self.inner:
            yield batch
            self.taken += 1
            if self.taken == self.at:
                error = SystemExit(143)
                self.run.interrupt(error, "interrupted by SIGTERM")
                raise error


@pytest.mark.parametrize("at", [1, 2])
def test_a_run_that_is_ended_within_the_first_list_is_saved_as_one_whose_pass_has_not_begun(
    at: int, tmp_path: Path
) -> None:
    def build(data: Interrupted) -> Trainer:
        trainer = Trainer(seen.append, grouped(data, 3), callbacks=[Checkpoint(tmp_path, weights=False)])
        trainer.on(FitStart)(lambda event: setattr(data, "run", event.run))
        return trainer

    seen: list[Any] = []
    with pytest.raises(SystemExit):
        build(Interrupted(at)).fit()
    assert (seen, read_checkpoint(tmp_path)["data"]["begun"]) == ([], [])
    build(Interrupted(0)).fit(resume="auto")
    assert listed(seen) == listed(grouped(batches(np.arange(7), batch_size=1, seed=1), 3))


def test_a_step_is_an_update_for_schedules_and_weights_count_samples() -> None:
    def step(group: list[Any]) -> StepResult:
        return StepResult(float(np.mean(group)), weight=len(group))

    trainer = Trainer(step, grouped([1.0, 2.0, 3.0, 4.0, 10.0], 2), epochs=2)
    history = trainer.fit()
    assert [(record.steps, record.metrics) for record in history] == [(3, {"loss": 4.0})] * 2


def test_the_epoch_is_handed_on() -> None:
    class Ordered:
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[int]:
            return iter([self.epoch, 10 + self.epoch, 20 + self.epoch])

    seen: list[Any] = []
    data = grouped(Ordered(), 2)
    Trainer(seen.append, data, epochs=2).fit()
    assert seen == [[0, 10], [20], [1, 11], [21]]
    data.set_epoch(5)
    assert list(data) == [[5, 15], [25]]


def test_what_the_loader_lacks_groups_lack_too() -> None:
    data = grouped(Unsized(2), 2)
    with pytest.raises(TypeError, match="len"):
        len(data)
    for name, arguments in [("state_dict", ()), ("set_epoch", (1,))]:
        with pytest.raises(AttributeError, match=f"'Unsized' object has no attribute '{name}'"):
            getattr(data, name)(*arguments)


def test_groups_of_another_size_are_another_run() -> None:
    def build(n: int) -> Trainer:
        return Trainer(lambda group: 0.5, grouped(batches(np.arange(8), batch_size=1), n), epochs=2)

    trainer = build(2)
    trainer.fit(1)
    with pytest.raises(ValueError, match="steps_per_epoch is 2 here and 4 in the checkpoint"):
        build(4).load_state_dict(trainer.state_dict())
    other = build(4)
    other.load_state_dict(trainer.state_dict(), accept="steps_per_epoch")
    with pytest.raises(ValueError, match="'data' must give the batches that it gave before the checkpoint, batch 1"):
        other.fit()


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    data = grouped(batches(np.arange(8), batch_size=1, seed=2), 2)
    next(iter(data))
    good = data.state_dict()
    for wrong, message in [
        ({"begun": [1, 2]}, "'begun' in the state must be a list of fewer than n=2 batches: "),
        ({"begun": None}, "'begun' in the state must be a list of fewer than n=2 batches: None"),
        ({"ended": 1}, "'ended' in the state must be True or False: 1"),
        ({"loader": {}}, "the state of the batches does not fit"),
        ({"more": 1}, "the state of the groups does not fit: 'more' is unknown"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load_state_dict({**good, **wrong})
        assert data.state_dict() == good


def test_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match="'loader' must be iterable: 3"):
        grouped(3, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'n' must be >= 1: 0"):
        grouped([1], 0)
    with pytest.raises(TypeError, match=r"'n' must be an int: 1\.5"):
        grouped([1], 1.5)  # type: ignore[arg-type]
    assert repr(grouped([1, 2], 3)) == "Grouped([1, 2], n=3)"
    assert isinstance(grouped([1], 1), Grouped)
