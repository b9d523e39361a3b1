"""Progress within an evaluation."""

import threading
from typing import Any

import pytest

from lucid_train import StepEnd, Trainer, track


def test_a_fit_knows_how_far_its_evaluation_is() -> None:
    seen: list[Any] = []
    run: Any = None

    def evaluate() -> float:
        seen.append(run.tracked)
        for item in track("abc"):
            seen.append((item, run.tracked))
        seen.append(run.tracked)
        for _ in track(iter("ab"), total=7):
            seen.append(run.tracked)
        for _ in track(iter(lambda: len(seen) > 9, True)):
            seen.append(run.tracked)
        return 0.5

    trainer = Trainer(lambda batch: 0.5, [1], evaluate=evaluate)
    run = trainer._run
    trainer.fit()
    assert seen == [
        *(None, ("a", (0, 3)), ("b", (1, 3)), ("c", (2, 3)), None),
        *((0, 7), (1, 7)),
        *((0, None), (1, None), (2, None)),
    ]
    assert run.tracked is None


def test_it_only_iterates_outside_a_fit_within_another_and_in_another_thread() -> None:
    data = [1, 2]
    assert list(track(data)) == data
    assert type(track(data)) is type(iter(data)), "at no cost"
    seen: list[Any] = []

    def evaluate() -> float:
        for _ in track(range(2)):
            seen.append(trainer._run.tracked)
            seen.extend(track(data))
        thread = threading.Thread(target=lambda: seen.append(type(track(data))))
        thread.start()
        thread.join()
        return 0.5

    trainer = Trainer(lambda batch: 0.5, [1], evaluate=evaluate)
    trainer.fit()
    assert seen == [(0, 2), 1, 2, (1, 2), 1, 2, type(iter(data))]


def test_a_fit_within_an_evaluation_tracks_its_own() -> None:
    seen: list[Any] = []

    def inner() -> float:
        seen.extend((inside._run.tracked, outside._run.tracked) for _ in track(range(1)))
        return 0.5

    inside = Trainer(lambda batch: 0.5, [1], evaluate=inner)

    def outer() -> float:
        for _ in track(range(3)):
            inside.fit(restart=True)
        return 0.5

    outside = Trainer(lambda batch: 0.5, [1], evaluate=outer)
    outside.fit()
    assert seen == [((0, 1), (0, 3)), ((0, 1), (1, 3)), ((0, 1), (2, 3))]


def test_an_evaluation_that_fails_leaves_nothing_behind() -> None:
    fails = [True, False]

    def evaluate() -> float:
        return sum(1 / (not fails.pop()) for _ in track(range(1)))

    trainer = Trainer(lambda batch: 0.5, [1], evaluate=evaluate)
    trainer.fit()
    with pytest.raises(ZeroDivisionError):
        trainer.fit(2)
    assert trainer._run.tracked is None
    assert list(track([1])) == [1]


def test_a_total_is_a_count() -> None:
    with pytest.raises(ValueError, match="'total' must be >= 0: -1"):
        track([], total=-1)


def test_a_function_is_called_between_two_steps_whoever_asks_and_although_the_run_cannot_be_saved() -> None:
    order: list[Any] = []

    class Stateful(list[int]):
        fails = True

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def step(batch: int) -> float:
        order.append(batch)
        if batch == 2 and Stateful.fails:
            Stateful.fails = False
            raise ValueError("once")
        return 0.5

    trainer = Trainer(step, Stateful([1, 2, 3]))
    trainer.on(StepEnd, at=[1, 2])(lambda event: ask(event.run))

    def ask(run: Any) -> None:
        thread = threading.Thread(target=lambda: run.after_step(lambda: order.append("between")))
        thread.start()
        thread.join()

    with pytest.raises(ValueError, match="once"):
        trainer.fit()
    trainer.fit()
    assert order == [1, "between", 2, 2, "between", 3]
    trainer._run.after_step(lambda: order.append("never"))
    assert order[-1] == 3
