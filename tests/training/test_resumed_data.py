"""A resume compares the data with those before it: it goes on with the same batches, or says that it does not."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest

from lucid_train import EpochReport, EpochStart, Event, FitEnd, FitError, FitStart, StepEnd, StepStart, Trainer
from lucid_train.data import batches

OTHERS = "'data' must give the batches that it gave before the checkpoint, batch {} of epoch {} is another one; usual"
SHARED = "'data' must not draw from a random generator that the steps draw from too: what it draws for a batch decides"


class Data:
    """What a function returns that is called for each pass."""

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return self.make()


class Cycle:
    """Its own iterator, which begins again whenever it is asked for one."""

    def __iter__(self) -> Cycle:
        self.order = random.sample(range(5), 5)
        return self

    def __next__(self) -> int:
        if not self.order:
            raise StopIteration
        return self.order.pop()


def buffered(generator: Any) -> Iterator[int]:
    buffer = list(range(4))
    for number in range(4, 12):
        place = int(generator.random() * 4)
        yield buffer[place]
        buffer[place] = number
    yield from buffer


def shuffled_with_noise() -> Iterator[float]:
    for number in random.sample(range(7), 7):
        yield number + random.random()


def build(data: Any, seen: list[Any], **options: Any) -> Trainer:
    random.seed(1)

    def step(batch: Any) -> None:
        seen.append((batch, random.random()))

    return Trainer(step, data, **{"epochs": 3, **options})


def state_at(trainer: Trainer, event: type[Event], at: int) -> Any:
    """Train to the event, stop there, and return the state."""
    found: list[Any] = []

    def stop(event: Any) -> None:
        event.run.at_safe_point(lambda: found.append(event.run.state_dict()))
        event.run.stop("to be resumed")

    trainer.on(event, at=at)(stop)
    trainer.fit()
    return found[0]


def resume(state: Any, data: Any, seen: list[Any], accept: Any = (), **options: Any) -> Trainer:
    trainer = build(data, seen, **options)
    random.seed(99)
    trainer.load_state_dict(state, accept=accept)
    trainer.fit()
    return trainer


PLACES = [*((StepEnd, step) for step in range(1, 15)), (EpochReport, 1), (EpochReport, 2), (EpochStart, 2)]
EXACT: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "a list": (lambda: [1, 2, 3, 4, 5], {}),
    "a part of a list": (lambda: [1, 2, 3, 4, 5, 6], {"steps_per_epoch": 5}),
    "batches": (lambda: batches(np.arange(10), batch_size=2), {}),
    "a part of batches": (lambda: batches(np.arange(14), batch_size=2), {"steps_per_epoch": 5}),
    "an order and noise": (lambda: Data(shuffled_with_noise), {}),
    "a part of that": (lambda: Data(shuffled_with_noise), {"steps_per_epoch": 5}),
    "a count without an end": (count, {"steps_per_epoch": 5}),
    "an iterator that begins again": (Cycle, {}),
    "no data": (lambda: None, {"steps_per_epoch": 5}),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_batches_after_a_resume_are_those_of_a_run_without_one(name: str) -> None:
    make, options = EXACT[name]
    straight: list[Any] = []
    trainer = build(make(), straight, **options)
    trainer.fit()
    steps = len(straight)
    for event, at in PLACES:
        if at < steps:
            seen: list[Any] = []
            state = state_at(build(make(), seen, **options), event, at)
            assert resume(state, make(), seen, **options).state_dict()["random"] == trainer.state_dict()["random"]
            assert repr(seen) == repr(straight), (event, at)


@pytest.mark.parametrize(("event", "at", "number", "epoch"), [(StepEnd, 4, 2, 1), (StepEnd, 7, 2, 2)])
def test_another_order_within_a_pass_is_refused(event: Any, at: int, number: int, epoch: int) -> None:
    seen: list[Any] = []
    state = state_at(build([1, 2, 3, 4, 5], seen), event, at)
    with pytest.raises(ValueError, match=OTHERS.format(number, epoch)):
        resume(state, [1, 3, 2, 4, 5], seen)
    assert len(seen) == at


@pytest.mark.parametrize(("event", "at", "epoch"), [(EpochReport, 1, 1), (EpochReport, 2, 2), (EpochStart, 3, 2)])
@pytest.mark.parametrize("make", [list, lambda numbers: batches(numbers, batch_size=1, shuffle=False)])
def test_other_data_between_two_passes_are_refused(make: Any, event: Any, at: int, epoch: int) -> None:
    seen: list[Any] = []
    state = state_at(build(make([1, 2, 3]), seen), event, at)
    with pytest.raises(ValueError, match=OTHERS.format(1, epoch)):
        resume(state, make([4, 2, 3]), seen)
    assert len(seen) == 3 * epoch


def test_data_with_a_state_are_compared_within_a_pass_too() -> None:
    state = state_at(build(batches([1, 2, 3], batch_size=1, shuffle=False), []), StepEnd, 5)
    with pytest.raises(ValueError, match=OTHERS.format(1, 2)):
        resume(state, batches([4, 2, 3], batch_size=1, shuffle=False), [])


def test_other_data_that_are_accepted_go_on_and_can_be_resumed_themselves() -> None:
    seen: list[Any] = []
    state = state_at(build([1, 2, 3, 4, 5], seen), StepEnd, 4)
    trainer = build([1, 3, 2, 4, 6], seen)
    trainer.load_state_dict(state, accept="data")
    again = state_at(trainer, StepEnd, 5)
    resume(again, [1, 3, 2, 4, 6], seen)
    assert [batch for batch, _ in seen] == [1, 2, 3, 4, 6, *([1, 3, 2, 4, 6] * 2)]
    with pytest.raises(ValueError, match=OTHERS.format(2, 1)):
        resume(again, [1, 2, 3, 4, 5], seen)


def test_fewer_batches_than_were_done_are_refused_even_if_others_are_accepted() -> None:
    state = state_at(build(Data(lambda: iter([1, 2, 3, 4])), []), StepEnd, 3)
    for accept in ((), "data"):
        with pytest.raises(ValueError, match="'data' must have the 3 batches that were taken before: 2"):
            resume(state, Data(lambda: iter([1, 2])), [], accept)


@pytest.mark.parametrize("at", range(2, 12))
def test_a_buffer_on_a_generator_that_the_steps_use_is_refused(at: int) -> None:
    seen: list[Any] = []
    state = state_at(build(Data(lambda: buffered(random)), seen), StepEnd, at)
    with pytest.raises(ValueError, match=f"{SHARED}|{OTHERS.format('.', 1)}"):
        resume(state, Data(lambda: buffered(random)), seen)
    assert len(seen) == at


@pytest.mark.parametrize("at", range(1, 13))
def test_one_with_a_generator_of_its_own_is_exact(at: int) -> None:
    def trainer(seen: list[Any]) -> Trainer:
        own = random.Random(3)
        return build(Data(lambda: buffered(own)), seen, extras={"buffer": own}, epochs=2)

    straight: list[Any] = []
    trainer(straight).fit()
    seen: list[Any] = []
    state = state_at(trainer(seen), StepEnd, at)
    again = trainer(seen)
    again.load_state_dict(state)
    again.fit()
    assert seen == straight


def test_a_stream_without_an_end_that_draws_from_what_the_steps_use_is_refused() -> None:
    def stream() -> Iterator[float]:
        while True:
            yield random.random()

    state = state_at(build(stream(), [], steps_per_epoch=3), StepEnd, 3)
    with pytest.raises(ValueError, match=SHARED):
        resume(state, stream(), [], steps_per_epoch=3)


@pytest.mark.parametrize(("event", "at"), [(StepEnd, 8), (EpochReport, 1), (EpochStart, 2)])
def test_a_generator_that_nobody_knows_is_noticed_after_the_first_pass(event: Any, at: int) -> None:
    def make() -> Any:
        hidden = random.Random(3)
        return Data(lambda: iter(hidden.sample(range(5), 5)))

    state = state_at(build(make(), []), event, at)
    with pytest.raises(ValueError, match=OTHERS.format(1, ".")):
        resume(state, make(), [])


class Opaque:
    pass


@pytest.mark.parametrize(("event", "at"), [(StepEnd, 2), (EpochReport, 1)])
def test_batches_without_content_are_taken_up_with_one_warning(event: Any, at: int) -> None:
    data = [Opaque(), Opaque(), Opaque()]
    state = state_at(build(data, []), event, at)
    message = "'data' may give other batches than before the checkpoint, those of epoch 1 cannot be compared: no array"
    with pytest.warns(UserWarning, match=message) as caught:
        resume(state, data, [])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume(state, data, [], accept="data")


def test_data_whose_state_cannot_be_taken_before_a_pass_is_taken_up_with_a_warning() -> None:
    class Late:
        at = -1

        def __iter__(self) -> Iterator[int]:
            self.at = max(0, self.at)
            while self.at < 3:
                self.at += 1
                yield self.at
            self.at = -1

        def state_dict(self) -> dict[str, Any]:
            if self.at == -1:
                raise RuntimeError("no pass has begun")
            return {"at": self.at}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.at = state["at"]

    seen: list[Any] = []
    state = state_at(build(Late(), seen, epochs=1), StepEnd, 2)
    with pytest.warns(UserWarning, match="those of epoch 1 cannot be compared: its state before the pass is unknown"):
        resume(state, Late(), seen, epochs=1)
    assert [batch for batch, _ in seen] == [1, 2, 3]


def test_a_batch_is_noted_before_its_step_changes_it() -> None:
    def step(batch: list[int]) -> None:
        batch[0] = 7

    def trainer() -> Trainer:
        return Trainer(step, Data(lambda: iter([[1], [2], [3]])))

    again = trainer()
    again.load_state_dict(state_at(trainer(), StepEnd, 2))
    assert [record.steps for record in again.fit()] == [3]


def test_no_batch_is_kept() -> None:
    alive = 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive
            alive += 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    most: list[int] = []
    Trainer(lambda batch: most.append(alive), Data(lambda: (Counted() for _ in range(9)))).fit()
    assert most == [1] * 9


class Epochal:
    """A data set, a sampler or a loader that asks for the epoch; what it was called with is in a common list."""

    def __init__(self, name: str, calls: list[Any], **parts: Any) -> None:
        self.name, self.calls = name, calls
        self.__dict__.update(parts)

    def set_epoch(self, epoch: int) -> None:
        self.calls.append((self.name, epoch))

    def __iter__(self) -> Iterator[int]:
        self.calls.append("a pass")
        return iter([1, 2])


def test_all_that_asks_for_the_epoch_gets_it_before_the_epoch_starts_and_when_a_pass_is_taken_up() -> None:
    calls: list[Any] = []

    def make() -> Any:
        sampler = Epochal("sampler", calls)
        batch_sampler = Epochal("batch sampler", calls, sampler=sampler)
        dataset = Epochal("subset", calls, dataset=Epochal("data set", calls))
        return Epochal("loader", calls, sampler=sampler, batch_sampler=batch_sampler, dataset=dataset)

    def asked(epoch: int) -> list[Any]:
        return [(name, epoch) for name in ("loader", "sampler", "batch sampler", "subset", "data set")]

    trainer = Trainer(lambda batch: None, make(), epochs=2)
    trainer.on(EpochStart)(lambda event: calls.append(event))
    state = state_at(trainer, StepEnd, 3)
    assert calls == [*asked(0), EpochStart(epoch=1), "a pass", *asked(1), EpochStart(epoch=2), "a pass"]
    calls.clear()
    again = Trainer(lambda batch: None, make(), epochs=2)
    again.load_state_dict(state)
    again.fit()
    assert set(map(str, calls)) == set(map(str, [*asked(1), "a pass"]))
    assert calls[-1] == "a pass"


def test_a_pass_that_the_data_broke_off_is_compared_with_itself_too() -> None:
    class Changing:
        passes = 0

        def __iter__(self) -> Iterator[int]:
            self.passes += 1
            yield self.passes
            yield 2
            if self.passes == 1:
                raise OSError("lost")

    trainer = Trainer(lambda batch: None, Changing())
    with pytest.raises(OSError, match="lost"):
        trainer.fit()
    with pytest.raises(ValueError, match=OTHERS.format(1, 1)):
        trainer.fit()


def test_a_resume_that_is_refused_trains_nothing_and_ends_in_good_order() -> None:
    state = state_at(build([1, 2, 3], []), StepEnd, 2)
    trainer = build([2, 1, 3], [])
    received: list[str] = []
    for event in (FitStart, StepStart, FitError, FitEnd):
        trainer.on(event)(lambda event: received.append(type(event).__name__))
    trainer.load_state_dict(state)
    with pytest.raises(ValueError, match=OTHERS.format(1, 1)):
        trainer.fit()
    assert received == ["FitStart", "FitError", "FitEnd"]
    assert trainer.state_dict()["progress"] == state["progress"]
