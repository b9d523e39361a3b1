"""What docs/coming_from/ignite.md says. A process of its own runs it: test_coming_from_parity.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ignite.distributed
import ignite.engine
import ignite.handlers
import ignite.metrics
import ignite.utils
import pytest
import torch
from ignite.engine import Engine, Events

from lucid_train import EpochEnd, FitEnd, StepEnd, Trainer
from lucid_train.callbacks import Checkpoint
from tests.support.coming_from import Page, flat

OBJECTS = {"trainer": Engine(lambda engine, batch: None)}
MODULES = [ignite.engine, ignite.engine.events, ignite.engine.deterministic, ignite.handlers, ignite.metrics]
PAGE = Page("ignite", [OBJECTS, *MODULES, ignite.utils, ignite.distributed])


def test_the_two_programs_come_to_the_same_losses_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there, here = PAGE.run("There"), PAGE.run("Here")
    assert len(here["losses"]) == 8
    for name in ("losses", "val_losses"):
        assert here[name] == pytest.approx(there[name], rel=1e-6)
    assert flat(here["model"]) == flat(there["model"])
    # The rate that the last update used is in the optimizer there, and the next one here.
    assert here["optimizer"].param_groups[0]["lr"] == here["history"][-1].last_lr[0]
    assert there["optimizer"].param_groups[0]["lr"] == pytest.approx(here["history"][-1].lr[0], rel=1e-9)


def test_what_the_table_names_is_there() -> None:
    assert PAGE.unknown_there() == []


def test_what_the_table_names_is_here() -> None:
    assert PAGE.unknown_here() == []


def raised(error: BaseException) -> Any:
    def function(*_: Any) -> None:
        raise error

    return function


def noted(log: list[Any], what: Any) -> Any:
    return lambda *_: log.append(what)


def run(at_third: Any, on_error: Any = None) -> tuple[list[Any], BaseException | None]:
    """Return the batches and events of two epochs of five steps in Ignite, and what has left it."""
    log: list[Any] = []
    engine = Engine(lambda engine, batch: log.append(batch))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), at_third)
    for event in (Events.EPOCH_COMPLETED, Events.COMPLETED):
        engine.add_event_handler(event, noted(log, event.name))
    if on_error is not None:
        engine.add_event_handler(Events.EXCEPTION_RAISED, on_error)
    try:
        engine.run(range(5), max_epochs=2)
    except Exception as error:
        return log, error
    return log, None


def fit(at_third: Any) -> tuple[list[Any], BaseException | None, Trainer]:
    log: list[Any] = []
    trainer = Trainer(log.append, range(5), epochs=2)
    trainer.on(StepEnd, at=3)(at_third)
    trainer.on(EpochEnd)(noted(log, "EpochEnd"))
    trainer.on(FitEnd)(noted(log, "FitEnd"))
    try:
        trainer.fit()
    except Exception as error:
        return log, error, trainer
    return log, None, trainer


def test_a_handler_swallows_an_exception_there_and_none_does_here() -> None:
    error = RuntimeError("lost")
    assert run(raised(error)) == ([0, 1, 2], error)
    log, left = run(raised(error), on_error=lambda engine, error: None)
    assert (log, left) == ([0, 1, 2, "EPOCH_COMPLETED", 3, 4, 0, 1, 2, "EPOCH_COMPLETED", "COMPLETED"], None)
    assert fit(raised(error))[:2] == ([0, 1, 2, "FitEnd"], error)


def test_a_stop_iteration_becomes_another_error_there_and_leaves_as_it_is_here() -> None:
    assert type(run(raised(StopIteration()))[1]) is RuntimeError
    assert type(fit(raised(StopIteration()))[1]) is StopIteration


def test_a_stop_drops_the_rest_of_the_epoch_there_and_leaves_it_open_here() -> None:
    assert run(Engine.terminate) == ([0, 1, 2, "COMPLETED"], None)
    log, _, trainer = fit(lambda event: event.run.stop("why"))
    assert log == [0, 1, 2, "FitEnd"]
    trainer.fit()
    assert log == [0, 1, 2, "FitEnd", 3, 4, "EpochEnd", 0, 1, 2, 3, 4, "EpochEnd", "FitEnd"]


def test_a_second_run_trains_once_more_there_and_says_that_nothing_is_left_here() -> None:
    there, here = [], []
    engine = Engine(lambda engine, batch: there.append(batch))
    trainer = Trainer(here.append, range(2))
    for _ in range(2):
        engine.run(range(2), max_epochs=1)
    assert there == [0, 1, 0, 1]
    trainer.fit()
    with pytest.warns(UserWarning, match="nothing left to train"):
        trainer.fit()
    assert here == [0, 1]


def test_data_that_is_too_short_begins_again_there_and_is_refused_here() -> None:
    seen: list[int] = []
    Engine(lambda engine, batch: seen.append(batch)).run(range(3), max_epochs=1, epoch_length=5)
    assert seen == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="'steps_per_epoch' must be <= the 3 batches of data: 5"):
        Trainer(lambda batch: None, range(3), steps_per_epoch=5).fit()


def test_resumed_it_goes_on_with_batches_of_another_order_and_we_do_not(tmp_path: Path) -> None:
    def shuffled() -> Any:
        torch.manual_seed(5)
        return torch.utils.data.DataLoader(torch.arange(8), batch_size=None, shuffle=True)

    whole, rest, state = [], [], {}
    engine = Engine(lambda engine, batch: whole.append(int(batch)))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=11), lambda engine: state.update(engine.state_dict()))
    engine.run(shuffled(), max_epochs=2)
    assert state == {"epoch_length": 8, "iteration": 11, "max_epochs": 2}
    engine = Engine(lambda engine, batch: rest.append(int(batch)))
    engine.load_state_dict(state)
    engine.run(shuffled())
    assert (len(rest), rest == whole[11:]) == (5, False)

    def ours(directory: str, stop: int | None = None) -> list[int]:
        seen: list[int] = []
        checkpoint, model = Checkpoint(tmp_path / directory), torch.nn.Linear(1, 1)
        trainer = Trainer(
            lambda batch: seen.append(int(batch)), shuffled(), epochs=2, model=model, callbacks=[checkpoint]
        )
        if stop is not None:
            trainer.on(StepEnd, at=stop)(lambda event: event.run.stop("cut"))
        trainer.fit(resume="auto")
        return seen

    assert [*ours("cut", stop=11), *ours("cut")] == ours("whole")
