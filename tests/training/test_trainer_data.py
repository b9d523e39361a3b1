import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lucid_train import EpochStart, StepEnd, StepStart, Trainer
from tests.support.callbacks import Recorder


class Unsized:
    """Re-iterable, of unknown length, with a generator for an iterator."""

    def __init__(self, *passes: int) -> None:
        self.passes = list(passes)
        self.begun = 0

    def __iter__(self) -> Iterator[int]:
        length = self.passes[min(self.begun, len(self.passes) - 1)]
        self.begun += 1
        yield from range(1, length + 1)


class Loader(Unsized):
    """As PyTorch's DataLoader over an iterable data set: it has a len() that raises."""

    def __len__(self) -> int:
        raise TypeError("object of type 'Stream' has no len()")


class Abstract(Unsized):
    def __len__(self) -> int:
        raise NotImplementedError


class Indexed:
    def __getitem__(self, index: int) -> int:
        if index >= 3:
            raise IndexError(index)
        return index + 1


def totals(trainer: Trainer) -> list[int | None]:
    """Return the steps per epoch that are known at the start of each epoch."""
    seen: list[int | None] = []
    trainer.on(EpochStart)(lambda event: seen.append(event.run.steps_per_epoch))
    trainer.fit()
    return seen


@pytest.mark.parametrize(
    ("data", "known"),
    [
        ([1, 2, 3], [3, 3]),
        (range(1, 4), [3, 3]),
        ({1: "a", 2: "b", 3: "c"}, [3, 3]),
        (Indexed(), [None, 3]),
        (Unsized(3), [None, 3]),
        (Loader(3), [None, 3]),
        (Abstract(3), [None, 3]),
    ],
    ids=lambda it: type(it).__name__,
)
def test_data_of_any_kind_is_passed_once_per_epoch(data: Any, known: list[int | None]) -> None:
    batches: list[int] = []
    trainer = Trainer(batches.append, data, epochs=2)
    assert totals(trainer) == known
    assert batches == [1, 2, 3] * 2


def test_a_count_is_enough() -> None:
    batches: list[None] = []
    trainer = Trainer(batches.append, steps_per_epoch=3, epochs=2)
    assert totals(trainer) == [3, 3]
    assert batches == [None] * 6


def test_without_data_and_count_an_epoch_is_a_step() -> None:
    batches: list[None] = []
    assert totals(Trainer(batches.append, epochs=2)) == [1, 1]
    assert batches == [None, None]


def test_endless_data_goes_on_from_epoch_to_epoch() -> None:
    batches: list[int] = []
    trainer = Trainer(batches.append, itertools.count(), steps_per_epoch=3, epochs=3)
    assert totals(trainer) == [3, 3, 3]
    assert batches == list(range(9))


def test_endless_data_that_can_be_begun_again_is() -> None:
    batches: list[int] = []
    Trainer(batches.append, Unsized(1000), steps_per_epoch=2, epochs=2).fit()
    assert batches == [1, 2, 1, 2]


def test_no_batch_is_taken_that_is_not_trained() -> None:
    source = iter(range(100))
    Trainer(lambda batch: None, source, steps_per_epoch=5).fit()
    assert next(source) == 5


def test_the_length_of_a_pass_may_change() -> None:
    trainer = Trainer(lambda batch: None, Unsized(2, 4, 3), epochs=3)
    assert totals(trainer) == [None, 2, 4]
    assert [record.steps for record in trainer.fit(4)] == [2, 4, 3, 3]


def test_data_that_is_known_to_be_empty_is_refused_before_the_fit_starts() -> None:
    recorder = Recorder()
    with pytest.raises(ValueError, match=r"'data' must have at least one batch: \[\]"):
        Trainer(lambda batch: 0.5, [], callbacks=[recorder]).fit()
    assert recorder.seen == []
    assert len(Trainer(lambda batch: 0.5, [], epochs=0).fit()) == 0


@pytest.mark.parametrize(
    "data", [Unsized(0), Loader(0), iter(()), (n for n in range(0))], ids=lambda it: type(it).__name__
)
def test_data_that_turns_out_to_be_empty_is_an_error_and_other_data_goes_on(data: Any) -> None:
    batches: list[int] = []
    trainer = Trainer(batches.append, data)
    with pytest.raises(ValueError, match="'data' must have at least one batch, epoch 1 had none: <"):
        trainer.fit()
    trainer.data = [1, 2]
    assert [record.steps for record in trainer.fit()] == [2]
    assert batches == [1, 2]


def test_a_later_pass_that_is_empty_is_an_error() -> None:
    trainer = Trainer(lambda batch: 0.5, Unsized(2, 0), epochs=2)
    with pytest.raises(ValueError, match="'data' must have at least one batch, epoch 2 had none: <"):
        trainer.fit()
    assert [record.steps for record in trainer._run.history] == [2]


def test_a_generator_lasts_one_epoch() -> None:
    batches: list[int] = []
    trainer = Trainer(batches.append, (n for n in range(3)))
    trainer.fit()
    assert batches == [0, 1, 2]
    with pytest.raises(
        ValueError, match="'data' must be iterable more than once: it had no batch left in epoch 2; pass a list"
    ):
        trainer.fit(2)


def test_a_generator_for_several_epochs_is_refused_before_the_first_step() -> None:
    batches: list[int] = []
    with pytest.raises(
        ValueError, match="'data' must be iterable 2 times; a generator is not, pass a list: <generator"
    ):
        Trainer(batches.append, (n for n in range(3)), epochs=2).fit()
    assert batches == []


def test_a_one_shot_iterator_that_runs_dry_is_a_clear_error() -> None:
    with pytest.raises(
        ValueError, match="'data' must be iterable more than once: it had no batch left in epoch 2; pass a list"
    ):
        Trainer(lambda batch: None, iter([1, 2]), epochs=2).fit()
    with pytest.raises(ValueError, match="'steps_per_epoch' must be <= the batches of a pass: 2, but epoch 2 had 1"):
        Trainer(lambda batch: None, iter([1, 2, 3]), steps_per_epoch=2, epochs=2).fit()


def test_too_many_steps_per_epoch_are_refused_at_once_where_the_length_is_known_and_else_when_they_lack() -> None:
    batches: list[int] = []
    with pytest.raises(ValueError, match="'steps_per_epoch' must be <= the 2 batches of data: 3"):
        Trainer(batches.append, [1, 2], steps_per_epoch=3).fit()
    assert batches == []
    with pytest.raises(ValueError, match="'steps_per_epoch' must be <= the batches of a pass: 3, but epoch 1 had 2"):
        Trainer(batches.append, Unsized(2), steps_per_epoch=3).fit()


def test_a_stop_iteration_of_the_step_function_is_an_error_and_no_end() -> None:
    exhausted: Iterator[float] = iter(())
    with pytest.raises(StopIteration):
        Trainer(lambda batch: next(exhausted), [1, 2, 3]).fit()


class Flaky:
    """Fails once at the third batch, the way data on a network does; the iterator is a generator, and dead then."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def __iter__(self) -> Iterator[int]:
        for batch in range(1, 5):
            if batch == 3 and self.error is not None:
                error, self.error = self.error, None
                raise error
            yield batch


@pytest.mark.parametrize("steps_per_epoch", [None, 4])
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_after_data_that_failed_no_batch_of_the_epoch_is_lost(
    kind: type[BaseException], steps_per_epoch: int | None
) -> None:
    batches: list[int] = []
    error = kind("lost")
    trainer = Trainer(batches.append, Flaky(error), epochs=2, steps_per_epoch=steps_per_epoch)
    with pytest.raises(kind) as caught:
        trainer.fit()
    assert caught.value is error
    assert error.__notes__ == ["raised in epoch 1 after step 2"]
    assert [record.steps for record in trainer.fit()] == [4, 4]
    assert batches == [1, 2, 3, 4] * 2


@pytest.mark.parametrize("when", [StepStart, StepEnd])
def test_a_stop_in_the_last_step_of_data_of_unknown_length_leaves_the_end_to_the_next_fit(when: Any) -> None:
    trainer = Trainer(lambda batch: 0.5, Unsized(2), epochs=2)
    trainer.on(when, at=2)(lambda event: event.run.stop())
    assert len(trainer.fit()) == 0
    assert [(record.steps, record.metrics) for record in trainer.fit()] == [(2, {"loss": 0.5})] * 2


def test_events_of_steps_count_through_the_whole_run() -> None:
    record = Recorder(StepEnd)
    trainer = Trainer(lambda batch: batch, [5, 6], epochs=1, callbacks=[record])
    trainer.fit()
    trainer.fit(2)
    assert [(event.epoch, event.step, event.output) for event in record.seen] == [
        (1, 1, 5),
        (1, 2, 6),
        (2, 3, 5),
        (2, 4, 6),
    ]


class Shuffled:
    """Fails once, in the middle of an order that it draws; the iterator is a generator, and dead then."""

    def __init__(self) -> None:
        self.rng = random.Random(22)
        self.broken = True

    def __iter__(self) -> Iterator[int]:
        for number in self.rng.sample(range(8), 8):
            if number == 3 and self.broken:
                self.broken = False
                raise OSError("no such shard")
            yield number


class Iterating(Shuffled):
    """The same with an iterator that goes on after the failure, with the next number."""

    def __iter__(self) -> Iterator[int]:
        return map(self.checked, iter(self.rng.sample(range(8), 8)))

    def checked(self, number: int) -> int:
        if number == 3 and self.broken:
            self.broken = False
            raise OSError("no such shard")
        return number


class ShuffledWithState(Shuffled):
    """The same, with a state: the order and how much of it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[int] = []
        self.done = 0

    def __iter__(self) -> Iterator[int]:
        self.order = self.order or self.rng.sample(range(8), 8)
        while self.done < 8:
            if self.order[self.done] == 3 and self.broken:
                self.broken = False
                raise OSError("no such shard")
            self.done += 1
            yield self.order[self.done - 1]
        self.order, self.done = [], 0

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.done = state["order"], state["done"]


@pytest.mark.parametrize("data", [Shuffled, Iterating, ShuffledWithState])
def test_a_pass_that_the_data_broke_off_is_resumed_in_its_order(data: type[Shuffled]) -> None:
    straight, numbers, seen = data(), data(), []
    straight.broken = False
    trainer = Trainer(seen.append, numbers, epochs=2)
    with pytest.raises(OSError, match="no such shard"):
        trainer.fit()
    assert 0 < len(seen) < 8
    trainer.fit()
    assert seen == [number for _ in range(2) for number in straight]


class FailsAtFirst(Shuffled):
    """The same, which fails when the order has been drawn and no number has been given."""

    def __iter__(self) -> Iterator[int]:
        order = self.rng.sample(range(8), 8)
        for number in order:
            if self.broken:
                self.broken = False
                raise OSError("no such shard")
            yield number


def test_a_pass_whose_first_batch_failed_is_resumed_in_its_order_by_another_process_too() -> None:
    straight, numbers = FailsAtFirst(), FailsAtFirst()
    straight.broken = False
    seen: list[int] = []
    trainer = Trainer(seen.append, numbers)
    trainer.on(StepEnd, at=3)(lambda event: event.run.stop())
    with pytest.raises(OSError, match="no such shard"):
        trainer.fit()
    trainer.fit()
    again = Trainer(seen.append, FailsAtFirst())
    again.data.broken = False
    again.load_state_dict(trainer.state_dict())
    again.fit()
    assert seen == list(straight)


def test_an_epoch_that_is_made_shorter_than_what_is_done_of_it_is_over() -> None:
    outcomes = iter([0.5, 0.5, "no loss"])
    trainer = Trainer(lambda batch: next(outcomes, 0.5), range(9), steps_per_epoch=8, epochs=2)
    with pytest.raises(TypeError, match="a step must return"):
        trainer.fit()
    trainer.steps_per_epoch = 1
    assert [record.steps for record in trainer.fit()] == [3, 1]


def test_the_pass_over_the_data_begins_after_the_start_of_the_epoch() -> None:
    order: list[object] = []

    class Data:
        epoch = 0

        def __iter__(self) -> Iterator[int]:
            order.append(f"a pass of epoch {self.epoch}")
            return iter([self.epoch])

    data = Data()
    trainer = Trainer(order.append, data, epochs=2)

    @trainer.on(EpochStart)
    def set_epoch(event: EpochStart) -> None:
        order.append(event)
        data.epoch = event.epoch

    trainer.fit()
    assert order == [EpochStart(epoch=1), "a pass of epoch 1", 1, EpochStart(epoch=2), "a pass of epoch 2", 2]


def test_an_epoch_whose_data_could_not_be_iterated_over_is_open_and_goes_on() -> None:
    class Broken:
        passes = 0

        def __iter__(self) -> Iterator[int]:
            self.passes += 1
            if self.passes == 1:
                raise OSError("no such shard")
            return iter([1, 2])

    recorder = Recorder(EpochStart, StepStart)
    trainer = Trainer(lambda batch: None, Broken(), callbacks=[recorder])
    with pytest.raises(OSError, match="no such shard") as caught:
        trainer.fit()
    assert caught.value.__notes__ == ["raised in epoch 1 after step 0"]
    trainer.fit()
    assert recorder.seen == [
        EpochStart(epoch=1),
        StepStart(epoch=1, step=1, batch=1),
        StepStart(epoch=1, step=2, batch=2),
    ]


def test_an_epoch_whose_length_is_set_as_it_starts_is_left_where_it_is_stopped() -> None:
    class Growing:
        epoch = 0

        def __len__(self) -> int:
            return 1 + self.epoch

        def __iter__(self) -> Iterator[int]:
            return iter(range(len(self)))

    data = Growing()
    trainer = Trainer(float, data, epochs=2)
    trainer.on(EpochStart)(lambda event: setattr(data, "epoch", event.epoch))
    steps: list[int] = []
    trainer.on(StepEnd)(lambda event: steps.append(event.run.steps_per_epoch))
    trainer.on(StepEnd, at=1, once=True)(lambda event: event.run.stop())
    trainer.fit()
    assert steps == [2]
    assert [record.steps for record in trainer.fit()] == [2, 3]
    assert steps == [2, 2, 3, 3, 3]


@pytest.mark.parametrize("count", [2047, 2048, 2049, 4096, 5000])
@pytest.mark.parametrize("every", [1, "2048 steps", "1000 steps"])
def test_a_long_epoch_is_one_epoch(count: int, every: Any) -> None:
    at: list[int] = []
    seen: list[int] = []
    data = iter(range(2 * count))

    def step(batch: int) -> float:
        seen.append(batch)
        return float(batch % 2)

    trainer = Trainer(
        step, data, steps_per_epoch=count, epochs=2, evaluate=lambda: at.append(len(seen)) or 0.5, evaluate_every=every
    )
    history = trainer.fit()
    assert seen == list(range(2 * count))
    assert [record.steps for record in history] == [count, count]
    assert history.metric("loss") == [sum(batch % 2 for batch in part) / count for part in (seen[:count], seen[count:])]
    steps = count if every == 1 else int(every.split()[0])
    assert at == list(range(steps, 2 * count + 1, steps))
