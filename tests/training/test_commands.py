"""Commands to a run that trains: what they do, at which step, and that a resumed run has what they changed."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from attrs import define, field
from rich.console import Console

from lucid_train import (
    Callback,
    EpochReport,
    EpochStart,
    EvaluateEnd,
    EvaluateStart,
    Event,
    FitEnd,
    FitStart,
    StepEnd,
    StepResult,
    Trainer,
    read_checkpoint,
    replay,
)
from lucid_train.callback import FunctionListener, Subscription
from lucid_train.callbacks import (
    Checkpoint,
    EarlyStopping,
    EventLog,
    ExponentialLRCallback,
    LRSchedulerCallback,
    ParamSchedulerCallback,
    RichLogger,
    WeightAverage,
)
from lucid_train.command import Command
from lucid_train.events import CommandAnswered
from lucid_train.nn import Linear
from lucid_train.optims import SGD
from lucid_train.optims.lr_scheduler import ReduceLROnPlateau, StepLR
from lucid_train.schedules import Constant, Cosine, Exponential, OneCycle, Schedule
from lucid_train.schedules import Linear as Ramp
from lucid_train.testing import diff_states
from lucid_train.testing.threads import ThreadGroup, run_in_threads

EPOCHS, STEPS = 4, 6


def batches(seed: int = 0) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(4, 3)), rng.normal(size=(4, 1))) for _ in range(STEPS)]


def ask(trainer: Trainer, *words: str, after: int = 8, at: type[Event] = StepEnd) -> list[CommandAnswered]:
    """Give commands when so many steps are done, at one kind of event; return the answers that are to come."""
    answers: list[CommandAnswered] = []

    @trainer.on(at)
    def give(event: Event) -> None:
        if event.run.step == after:
            for text in words:
                event.run.command(Command.read(text.split(), by="me", id=text))

    trainer.on(CommandAnswered)(answers.append)
    return answers


def said(answers: list[CommandAnswered]) -> list[tuple[int, bool, str]]:
    return [(answer.step, answer.done, answer.answer) for answer in answers]


def build(*callbacks: Callback, groups: int = 1, **settings: Any) -> Trainer:
    """A small regression, of one group of parameters or two."""
    model = settings.pop("model", None) or Linear(3, 1, rng=0)
    parameters: Any = list(model.parameters())
    if groups == 2:
        parameters = [
            {"params": [parameters[0]], "name": "weight"},
            {"params": [parameters[1]], "lr": 0.02, "name": "bias"},
        ]
    optimizer = SGD(parameters, lr=0.1, momentum=0.5)

    def step(batch: tuple[Any, Any]) -> float:
        inputs, targets = batch
        errors = model(inputs) - targets
        optimizer.zero_grad()
        model.backward(2 * errors / len(errors))
        optimizer.step()
        return float((errors**2).mean())

    settings = {"epochs": EPOCHS, "data": batches()} | settings
    return Trainer(step, model=model, optimizer=optimizer, callbacks=callbacks, **settings)


def by_step(schedule: Any) -> LRSchedulerCallback:
    return LRSchedulerCallback(schedule, interval="step")


# What schedules the rate, or does not; each of them again in a run that is resumed.
SET_UPS: dict[str, tuple[Callable[[Any], list[Callback]], dict[str, Any]]] = {
    "nothing": (lambda optimizer: [], {}),
    "nothing, two groups": (lambda optimizer: [], {"groups": 2}),
    "by epoch": (lambda optimizer: [ExponentialLRCallback(0.5)], {}),
    "a floor and a warm-up": (lambda optimizer: [by_step(Cosine(eta_min=0.01).warmup(3))], {}),
    "two groups": (lambda optimizer: [by_step(Cosine())], {"groups": 2}),
    "one per group": (lambda optimizer: [by_step({"weight": Cosine(), "bias": Exponential(0.9)})], {"groups": 2}),
    "a scheduler": (lambda optimizer: [LRSchedulerCallback(StepLR(optimizer, 5, 0.5), interval="step")], {}),
    "a plateau": (
        lambda optimizer: [LRSchedulerCallback(ReduceLROnPlateau(optimizer, patience=0), monitor="loss")],
        {"groups": 2},
    ),
    "a plateau of a schedule": (
        lambda optimizer: [
            LRSchedulerCallback(ReduceLROnPlateau(optimizer, patience=0, schedule=Constant().warmup(2)), monitor="loss")
        ],
        {},
    ),
    "momentum too": (
        lambda optimizer: [by_step(Cosine()), ParamSchedulerCallback(momentum=Ramp(1.0, 0.5, 20), interval="step")],
        {},
    ),
}


def set_up(name: str, *more: Callback, **settings: Any) -> Trainer:
    make, own = SET_UPS[name]
    trainer = build(*more, **own, **settings)
    trainer.callbacks = (*make(trainer.optimizer), *trainer.callbacks)
    return trainer


@pytest.mark.parametrize("name", SET_UPS)
def test_a_rate_that_was_set_is_saved_at_once_and_a_resumed_run_goes_on_with_it(tmp_path: Path, name: str) -> None:
    trainer, rates = set_up(name, Checkpoint(tmp_path, every=None)), list[list[float]]()
    trainer.on(StepEnd, at=8)(lambda event: rates.append(event.run.last_lr))
    trainer.on(StepEnd, at=14)(lambda event: event.run.stop("killed here"))
    answers = ask(trainer, "set lr=0.03")
    trainer.fit()
    [file] = [each for each in tmp_path.iterdir() if "step-8." in each.name]
    before, after = rates[0][0], read_checkpoint(file)["optimizer"]["param_groups"][0]["lr"]
    [(step, done, text)] = said(answers)
    assert (step, done) == (8, True)
    said_of_base = (
        re.escape(f"lr from {before:.6g} to 0.03") + r"(, its base from \S+ to \S+)?" + re.escape(f", saved {file}")
    )
    assert re.fullmatch(said_of_base, text), text
    assert after == pytest.approx(0.03, rel=1e-15)
    # It goes on from the checkpoint that the command has asked for, in a program that still says 0.1.
    resumed, straight = (set_up(name, Checkpoint(tmp_path / each, every=None)) for each in ("resumed", "straight"))
    ask(straight, "set lr=0.03")
    expected, found = straight.fit(), resumed.fit(resume=file)
    assert [(record.lr, record.scheduled) for record in found] == [(record.lr, record.scheduled) for record in expected]
    assert diff_states(straight.state_dict(), resumed.state_dict()) == []


SCALED: list[tuple[Schedule, int]] = [
    (Cosine(20), 1),
    (Exponential(0.9), 2),
    (Cosine(20, eta_min=0.01).warmup(4), 1),
    (Ramp(0.5, 1.0, 9), 2),
]


@pytest.mark.parametrize(("schedule", "groups"), SCALED, ids=lambda value: str(value)[:40])
def test_the_schedule_goes_on_from_the_base_that_gives_the_rate_now(schedule: Schedule, groups: int) -> None:
    trainer, rates = build(by_step(schedule), groups=groups, epochs=3), dict[int, list[float]]()
    trainer.on(StepEnd)(lambda event: rates.setdefault(event.step, event.run.last_lr))
    ask(trainer, "set lr=0.2")
    trainer.fit()
    scale, shift = schedule.affine(8)
    factor = (0.2 - shift) / scale / 0.1
    bases = [0.1 * factor, 0.02 * factor][:groups]
    assert {step: found for step, found in rates.items() if step > 8} == {
        step: pytest.approx([schedule(step, base) for base in bases], rel=1e-14) for step in range(9, 19)
    }
    assert trainer.optimizer.param_groups[0]["initial_lr"] == pytest.approx(bases[0], rel=1e-15)


def test_another_number_that_is_scheduled_is_set_and_so_is_an_attribute() -> None:
    class Loss:
        kl_weight = 2.0

    loss = Loss()
    momentum = ParamSchedulerCallback(momentum=Ramp(1.0, 0.5, 20), interval="step")
    weight = ParamSchedulerCallback(kl_weight=Exponential(0.5), on=loss)
    trainer = build(momentum, weight)
    answers = ask(trainer, "set momentum=0.25", "set kl_weight=8", "set lr=0.05")
    history = trainer.fit()
    assert [answer.done for answer in answers] == [True, True, True]
    assert [record.scheduled["kl_weight"] for record in history] == [(2.0,), (8.0,), (4.0,), (2.0,)]
    assert history[-1].scheduled["momentum"][0] == pytest.approx(0.25 / (1 - 0.5 * 8 / 20) * 0.5)
    assert {record.lr for record in history} == {(0.1,), (0.05,)}


@pytest.mark.parametrize("word", ["save", "set lr=0.05"])
def test_a_run_is_not_saved_while_gradients_are_accumulated(tmp_path: Path, word: str) -> None:
    def made(directory: Path) -> Trainer:
        trainer = build(Checkpoint(directory, every=None))
        step, held = trainer.step, list[Any]()
        assert step is not None

        def accumulate(batch: Any) -> StepResult:
            held.append(batch)
            if len(held) < 3:
                return StepResult(0.0, updated=False)
            losses = [step(each) for each in held]
            held.clear()
            return StepResult(float(np.mean(losses)))

        trainer.step = accumulate
        return trainer

    trainer, straight = made(tmp_path / "run"), made(tmp_path / "other")
    trainer.on(StepEnd, at=10)(lambda event: event.run.stop("killed here"))
    answers = ask(trainer, word, after=7)
    trainer.fit()
    assert [(answer.step, answer.done) for answer in answers] == [(9, True)]
    [file] = [each for each in (tmp_path / "run").iterdir() if "step-9." in each.name]
    ask(straight, *[word] if word != "save" else [], after=7)
    straight.fit()
    resumed = made(tmp_path / "again")
    resumed.fit(resume=file)
    assert diff_states(straight.state_dict(), resumed.state_dict()) == []


class Foreign:
    """A scheduler of somebody else's."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing over."""


REFUSED: dict[str, tuple[Callable[[Any], list[Callback]], str, str]] = {
    "absolute": (
        lambda optimizer: [by_step(OneCycle(0.2))],
        "lr=0.1",
        "'lr' must not be set, LRScheduler\\(.*\\) does not depend on a base value",
    ),
    "zero now": (
        lambda optimizer: [by_step(Cosine(8))],
        "lr=0.1",
        "'lr' must not be set now, .* is 0 at 8, from which nothing can be scaled",
    ),
    "below the floor": (
        lambda optimizer: [by_step(Cosine(20, eta_min=0.01))],
        "lr=0.001",
        "'lr' must be > 0.00345492, which Cosine.* adds to its base: 0.001",
    ),
    "foreign": (
        lambda optimizer: [LRSchedulerCallback(Foreign(optimizer))],
        "lr=0.1",
        "'lr' must be scheduled by this library to be set: Foreign",
    ),
    "not scheduled": (
        lambda optimizer: [ParamSchedulerCallback(momentum=Ramp(1.0, 0.5, 20))],
        "weight_decay=0.1",
        "'weight_decay' must be one of the numbers that this run can set: lr, momentum",
    ),
    "scheduled twice": (
        lambda optimizer: [
            ParamSchedulerCallback(kl=Ramp(1.0, 0.5, 20), on=SimpleNamespace(kl=1.0)),
            ParamSchedulerCallback(kl=Ramp(1.0, 0.5, 20), on=SimpleNamespace(kl=1.0)),
        ],
        "kl=0.1",
        "'kl' must be scheduled by one callback to be set: 2 schedule it",
    ),
    "beyond the largest float": (
        lambda optimizer: [by_step(Exponential(0.1))],
        "lr=1e308",
        "the rates of .* exceed the largest float in epoch 8",
    ),
    "zero for good": (
        lambda optimizer: [ParamSchedulerCallback(momentum=Ramp(1.0, 0.5, 20), interval="step")],
        "momentum=0",
        "'momentum' must not be set to 0: 0.0",
    ),
    "a plateau's other number": (
        lambda optimizer: [LRSchedulerCallback(ReduceLROnPlateau(optimizer), monitor="loss")],
        "momentum=0.1",
        "'momentum' must be one of the numbers that this run can set: lr",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_set_is_refused_and_nothing_changes(name: str) -> None:
    make, text, why = REFUSED[name]

    def trained(*words: str) -> tuple[Trainer, list[CommandAnswered]]:
        trainer = build()
        trainer.callbacks = tuple(make(trainer.optimizer))
        answers = ask(trainer, *words)
        trainer.fit()
        return trainer, answers

    (trainer, answers), (alone, _) = trained(f"set {text}"), trained()
    assert [answer.done for answer in answers] == [False]
    assert re.fullmatch(why, answers[0].answer), answers[0].answer
    assert diff_states(alone.state_dict(), trainer.state_dict()) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "'command' must be save, stop, evaluate or set NAME=VALUE: ''"),
        ("go", "'command' must be save, stop, evaluate or set NAME=VALUE: 'go'"),
        ("save now", "'command' must be save, stop, evaluate or set NAME=VALUE: 'save now'"),
        ("set lr", "'command' must be save, stop, evaluate or set NAME=VALUE: 'set lr'"),
        ("set lr=much", "'lr' must be set to a number, as in set lr=1e-4: 'much'"),
        ("set lr=nan", "'lr' must be set to a finite number: nan"),
        ("set lr=0", "'lr' must be set to a number > 0, as no schedule can be scaled from 0: 0.0"),
        ("set lr=-1", "'lr' must be set to a number > 0, as no schedule can be scaled from 0: -1.0"),
        ("set =1", "'key' must name what is set, and be given with 'set' alone: ''"),
    ],
)
def test_what_is_no_command_is_refused_before_anybody_gets_it(words: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        Command.read(words.split())


def test_a_command_reads_as_it_was_written() -> None:
    assert [str(Command.read(text.split())) for text in ("save", "set lr=1e-4")] == ["save", "set lr=0.0001"]


def test_without_a_fit_there_is_nothing_to_command() -> None:
    with pytest.raises(RuntimeError, match="no fit is running that could carry out a command"):
        build()._run.command(Command("save"))


def test_a_run_without_a_checkpoint_is_not_saved_and_says_so() -> None:
    trainer = build()
    answers = ask(trainer, "save", "set lr=0.5")
    trainer.fit()
    assert said(answers) == [
        (8, False, "the run has no Checkpoint among its callbacks"),
        (8, True, "lr from 0.1 to 0.5, not saved, as the run has no Checkpoint"),
    ]


@pytest.mark.parametrize("background", [False, True])
def test_a_checkpoint_that_fails_is_answered_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "disk")

    monkeypatch.setattr("lucid_train.callbacks.checkpoint.write_flat", full)
    trainer = build(Checkpoint(tmp_path, every=None, failure="warn", background=background))
    answers = ask(trainer, "save")
    with pytest.warns(UserWarning, match="No space left on device"):
        trainer.fit()
    done, text = (True, "a checkpoint is being written to") if background else (False, "no checkpoint could be written")
    assert [(answer.done, answer.answer[: len(text)]) for answer in answers] == [(done, text)]


def test_a_run_is_stopped_after_the_step_and_goes_on_where_it_was(tmp_path: Path) -> None:
    trainer, straight = build(Checkpoint(tmp_path, every=None)), build(Checkpoint(tmp_path / "other", every=None))
    answers = ask(trainer, "stop")
    history = trainer.fit()
    assert (history.status, history.reason) == ("stopped", "stopped by a command of me")
    assert said(answers) == [(8, True, "the fit ends after step 8")]
    resumed = build(Checkpoint(tmp_path, every=None))
    assert resumed.fit(resume="auto").status == "completed"
    straight.fit()
    assert diff_states(straight.state_dict(), resumed.state_dict()) == []


MOMENTS: dict[str, tuple[type[Event], int, int]] = {
    "before the first step": (FitStart, 0, 1),
    "at an epoch's start": (EpochStart, 6, 7),
    "within an epoch": (StepEnd, 8, 8),
    "after an epoch's last step": (StepEnd, 12, 12),
    "at an epoch's end": (EpochReport, 12, 13),
}


@pytest.mark.parametrize("every", [1, "5 steps"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_evaluation_that_is_asked_for_changes_nothing_in_the_training(moment: str, every: Any) -> None:
    event, after, evaluated = MOMENTS[moment]

    def trained(*words: str) -> tuple[Trainer, list[CommandAnswered], list[tuple[int, bool]]]:
        np.random.seed(1)
        data = batches()

        class Drawn:
            def __iter__(self) -> Any:
                yield from (data[index] for index in np.random.permutation(STEPS))

        def evaluate() -> float:  # it draws from the generator that the data draws from too, and gets worse
            return float(np.random.random()) + trainer._run.step

        trainer = build(EarlyStopping("val_loss", patience=3), WeightAverage(), evaluate=evaluate, evaluate_every=every)
        plateau = LRSchedulerCallback(ReduceLROnPlateau(trainer.optimizer, patience=0), monitor="val_loss")
        trainer.data, trainer.callbacks = Drawn(), (plateau, *trainer.callbacks)
        asked: list[tuple[int, bool]] = []
        trainer.on(EvaluateEnd)(lambda event: asked.append((event.step, event.asked)) if event.within_epoch else None)
        answers = ask(trainer, *words, after=after, at=event)
        trainer.fit()
        return trainer, answers, asked

    (trainer, answers, asked), (alone, _, _) = trained("evaluate"), trained()
    assert [(answer.step, answer.done) for answer in answers] == [(evaluated, True)]
    assert answers[0].answer.startswith(f"after step {evaluated}: val_loss ")
    assert [step for step, flag in asked if flag] == [evaluated]
    with_, without = trainer.state_dict(), alone.state_dict()
    for state in (with_, without):
        del state["progress"]["history"]
    assert diff_states(without, with_) == []


def test_an_evaluation_is_refused_where_there_is_none() -> None:
    trainer = build()
    answers = ask(trainer, "evaluate")
    trainer.fit()
    assert said(answers) == [(8, False, "the Trainer has no evaluate=... to call")]


def test_an_evaluation_that_was_asked_for_and_interrupted_is_done_when_the_run_goes_on(tmp_path: Path) -> None:
    def made(evaluate: Callable[[], float]) -> Trainer:
        return build(Checkpoint(tmp_path, every=None), evaluate=evaluate, evaluate_every=EPOCHS)

    def interrupted() -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.7)
        os.kill(os.getpid(), signal.SIGTERM)  # one that does not wait for the evaluation
        time.sleep(60)
        return 1.0

    trainer = made(interrupted)
    ask(trainer, "evaluate")
    with pytest.raises(SystemExit):
        trainer.fit()
    resumed = made(lambda: 0.5)
    asked: list[tuple[int, bool]] = []
    resumed.on(EvaluateEnd)(lambda event: asked.append((event.step, event.asked)))
    assert resumed.fit(resume="auto").status == "completed"
    assert asked == [(8, True), (24, False)]


def test_a_command_may_come_from_any_thread() -> None:
    trainer, given = build(), threading.Event()
    answers = ask(trainer)

    def give(run: Any) -> None:
        run.command(Command("stop"))
        given.set()

    @trainer.on(StepEnd, at=8)
    def begin(event: StepEnd) -> None:
        threading.Thread(target=give, args=(event.run,)).start()
        assert given.wait(60)

    assert trainer.fit().reason == "stopped by a command"
    assert said(answers) == [(8, True, "the fit ends after step 8")]


@define(eq=False)
class Temperature(Callback):
    """A number of the user's own that a command may set."""

    value: float = field(default=1.0, init=False)

    def handle_command(self, command: Command) -> str | None:
        if command.key != "temperature":
            return None
        if command.value < 0:
            raise ValueError(f"'temperature' must be >= 0: {command.value}")
        before, self.value = self.value, command.value
        return f"temperature from {before} to {command.value}"


def test_a_callback_of_ones_own_has_numbers_that_may_be_set() -> None:
    temperature = Temperature()
    trainer = build(temperature)
    answers = ask(trainer, "set temperature=2", "set temperature=-1")
    trainer.fit()
    assert temperature.value == 2.0
    assert said(answers) == [
        (8, True, "temperature from 1.0 to 2.0, not saved, as the run has no Checkpoint"),
        (8, False, "'temperature' must be >= 0: -1.0"),
    ]


def test_what_a_callback_raises_beyond_a_refusal_leaves_the_fit() -> None:
    @define(eq=False)
    class Broken(Callback):
        def handle_command(self, command: Command) -> str | None:
            raise KeyError("mine")

    trainer = build(Broken())
    ask(trainer, "save")
    with pytest.raises(KeyError, match="mine"):
        trainer.fit()


@pytest.mark.parametrize("asking", [0, 2])
def test_all_processes_carry_a_command_out_at_the_same_step(tmp_path: Path, asking: int) -> None:
    words = ("set lr=0.05", "evaluate", "save", "stop")

    def run(group: ThreadGroup) -> Any:
        callbacks = [by_step(Cosine(2000)), Checkpoint(tmp_path, every=None)]
        trainer = build(
            *callbacks, data=batches(group.rank) * 500, group=group, evaluate=lambda: group.rank + 0.5, epochs=2
        )
        answers = ask(trainer, *words if group.rank == asking else ())
        asked: list[int] = []
        trainer.on(EvaluateEnd)(lambda event: asked.append(event.step) if event.asked else None)
        history = trainer.fit()
        texts = [answer.answer for answer in answers]
        return (
            history.reason,
            [answer.step for answer in answers],
            texts,
            asked,
            trainer.optimizer.param_groups[0]["lr"],
        )

    found = run_in_threads(3, run)
    assert found[0] == found[1] == found[2]
    reason, steps, texts, asked, _ = found[0]
    assert reason == "stopped by a command of me"
    assert len(set(steps)) == 1
    assert steps[0] > 8
    assert texts[3] == "the fit ended before it could be done"  # the evaluation
    assert asked == []


def test_an_evaluation_is_of_all_processes(tmp_path: Path) -> None:
    def run(group: ThreadGroup) -> Any:
        trainer = build(data=batches(group.rank) * 500, group=group, evaluate=lambda: group.rank + 0.5, epochs=2)
        answers = ask(trainer, *["evaluate"] if group.rank == 1 else [])
        trainer.on(CommandAnswered)(lambda event: event.run.stop("enough"))
        trainer.fit()
        return said(answers)

    found = run_in_threads(2, run)
    assert found[0] == found[1]
    [(step, done, answer)] = found[0]
    assert (done, answer) == (True, f"after step {step}: val_loss 1")


def test_a_replay_has_the_answers(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.jsonl", heartbeat=None)
    trainer = build(log, evaluate=lambda: 0.5)
    answers = ask(trainer, "set lr=0.05", "evaluate", "save")
    history, replayed, asked = trainer.fit(), list[CommandAnswered](), list[bool]()
    listener, other = (
        FunctionListener(Subscription(each), function)
        for each, function in (
            (CommandAnswered, replayed.append),
            (EvaluateEnd, lambda event: asked.append(event.asked)),
        )
    )
    assert replay(tmp_path / "run.jsonl", [listener, other]) == history
    assert replayed == answers
    assert asked == [False, True, False, False, False]
    assert [answer.command for answer in answers] == ["set lr=0.05", "save", "evaluate"]


@pytest.mark.filterwarnings("ignore:nothing left to train")  # the stop came with the end
@pytest.mark.parametrize("seed", range(12))
def test_whoever_asks_for_anything_at_any_moment_all_processes_do_the_same(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    size, words = chance.randint(2, 4), ["save", "evaluate", "set lr=0.05", "set lr=0.2", "set momentum=3"]
    # Of each rank what it asks for, after which step; and when it stops the run.
    given = [[(chance.randint(0, 60), chance.choice(words)) for _ in range(chance.randint(0, 4))] for _ in range(size)]
    stopping, end, behind = chance.randrange(size), chance.randint(1, 60), chance.random() < 0.5

    def run(group: ThreadGroup, *, stops: bool) -> Any:
        callbacks = [by_step(Cosine(2000)), Checkpoint(tmp_path / "run", every=10, interval="step", background=behind)]
        data = batches(group.rank) * 3
        trainer = build(*callbacks, data=data, group=group, evaluate=lambda: group.rank + 0.5)
        for after, text in given[group.rank]:
            ask(trainer, text, after=after)
        if stops and group.rank == stopping:
            ask(trainer, "stop", after=end)
        all_answers: list[tuple[int, str, bool]] = []
        trainer.on(CommandAnswered)(lambda event: all_answers.append((event.step, event.command, event.done)))
        asked: list[tuple[int, bool]] = []
        trainer.on(EvaluateEnd)(lambda event: asked.append((event.step, event.asked)))
        history = trainer.fit(resume="auto")
        state = [callbacks[0].state_dict(), [group["lr"] for group in trainer.optimizer.param_groups]]
        return history.status, all_answers, asked, [record.lr for record in history], repr(state)

    first = run_in_threads(size, partial(run, stops=True))
    assert all(each == first[0] for each in first)
    second = run_in_threads(size, partial(run, stops=False))
    assert all(each == second[0] for each in second)
    assert second[0][0] == "completed"


def test_an_evaluation_that_is_asked_for_is_never_the_best(tmp_path: Path) -> None:
    losses, screen = iter([0.5, 0.125, 0.25]), StringIO()
    console = Console(file=screen, width=120)
    checkpoint, log = Checkpoint(tmp_path / "run", monitor="val_loss"), EventLog(tmp_path / "log", heartbeat=None)
    trainer = build(checkpoint, log, RichLogger(console), evaluate=lambda: next(losses), epochs=2)
    ask(trainer, "evaluate")
    history = trainer.fit()
    assert [(each.step, each.metrics["val_loss"], each.asked) for each in history.evaluations] == [(8, 0.125, True)]
    assert checkpoint.best == 0.25
    lines = screen.getvalue().splitlines()
    assert [line.split("val_loss ")[1].split()[0] for line in lines if "val_loss 0" in line] == [
        "0.5000*",
        "0.1250",
        "0.125",  # the answer
        "0.2500*",
        "0.2500,",
    ]
    assert replay(tmp_path / "log").evaluations == history.evaluations
    resumed = build(checkpoint, log, RichLogger(console), evaluate=lambda: 1.0, epochs=3)
    assert resumed.fit(resume="auto").evaluations == history.evaluations


def test_a_command_that_comes_while_the_fit_ends_is_not_carried_out(tmp_path: Path) -> None:
    checkpoint, screen = Checkpoint(tmp_path, every=None), StringIO()
    trainer = build(RichLogger(Console(file=screen)), by_step(Cosine(200)), checkpoint)
    answers = ask(trainer, "set lr=0.5", "stop", "evaluate", "save", after=24, at=FitEnd)
    history = trainer.fit()
    assert (history.status, history.reason, answers) == ("completed", None, [])
    assert trainer.optimizer.param_groups[0]["lr"] < 0.1
    assert len([each for each in tmp_path.iterdir() if each.name.startswith("checkpoint-")]) == 1


def test_a_checkpoint_may_be_asked_for_at_the_end_beside_a_display(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, every=None)
    trainer = build(RichLogger(Console(file=StringIO())), checkpoint)
    trainer.on(FitEnd)(lambda event: checkpoint.save())
    assert trainer.fit().status == "completed"


@define(eq=False)
class Unwilling(Callback):
    """Does not let the run be saved, or a number be set."""

    name: str = "save"

    def handle_command(self, command: Command) -> str | None:
        if command.name == self.name:
            raise ValueError("not now")
        return None


def test_what_was_done_is_not_called_refused_because_something_else_was() -> None:
    trainer = build(Unwilling())
    answers = ask(trainer, "set lr=0.5")
    trainer.fit()
    assert said(answers) == [(8, True, "lr from 0.1 to 0.5, not saved: not now")]
    trainer = build(Temperature(), Unwilling("set"))
    answers = ask(trainer, "set temperature=2")
    trainer.fit()
    said_of_both = "temperature from 1.0 to 2.0, not by Unwilling: not now, not saved, as the run has no Checkpoint"
    assert said(answers) == [(8, True, said_of_both)]


def test_a_number_that_is_set_counts_though_the_checkpoint_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "disk")

    monkeypatch.setattr("lucid_train.callbacks.checkpoint.write_flat", full)
    trainer = build(Checkpoint(tmp_path, every=None, failure="warn"))
    answers = ask(trainer, "set lr=0.5")
    with pytest.warns(UserWarning, match="No space left on device"):
        trainer.fit()
    assert said(answers) == [(8, True, f"lr from 0.1 to 0.5, no checkpoint could be written to {tmp_path}")]


@pytest.mark.parametrize("answer", [True, 3.5])
def test_a_callback_that_answers_with_something_else_is_named(answer: Any) -> None:
    @define(eq=False)
    class Odd(Callback):
        def handle_command(self, command: Command) -> Any:
            return answer

    trainer = build(Odd())
    ask(trainer, "save")
    with pytest.raises(TypeError, match=r"^Odd.handle_command\(\) must return a text, a function or None: "):
        trainer.fit()


def test_what_is_no_command_is_refused_at_the_call() -> None:
    trainer = build()
    trainer.on(StepEnd, at=1)(lambda event: event.run.command("stop"))  # type: ignore[arg-type]  # the claim
    with pytest.raises(TypeError, match=r"^'command' must be a Command, as Command\('save'\): 'stop'"):
        trainer.fit()


def test_an_evaluation_is_refused_that_was_taken_away_meanwhile() -> None:
    trainer = build(evaluate=lambda: 0.5)
    trainer.on(StepEnd, at=7)(lambda event: setattr(trainer, "evaluate", None))
    answers = ask(trainer, "evaluate")
    trainer.fit()
    assert said(answers) == [(8, False, "the Trainer has no evaluate=... to call")]


def test_a_restart_begins_with_the_base_that_was_there_before() -> None:
    trainer = build(ExponentialLRCallback(0.5))
    ask(trainer, "set lr=0.02")
    assert trainer.fit()[-1].lr != (0.0125,)
    trainer.optimizer.param_groups[0]["lr"] = 0.1
    restarted = build(ExponentialLRCallback(0.5))
    trainer._listeners.clear()
    assert [record.lr for record in trainer.fit(restart=True)] == [record.lr for record in restarted.fit()]


def test_two_evaluations_after_one_step_leave_a_resumed_run_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def made(*, dies: bool) -> Trainer:
        trainer = build(
            Checkpoint(tmp_path / "run", monitor="val_loss"),
            EventLog(log, heartbeat=None),
            evaluate=lambda: 1 / (1 + trainer._run.step),
            evaluate_every="8 steps",
        )
        if dies:
            trainer.on(EvaluateStart)(
                lambda event: None if event.asked else event.run.command(Command("evaluate", id="again"))
            )
            trainer.on(StepEnd, at=12)(lambda event: 1 / 0)
        return trainer

    with pytest.raises(ZeroDivisionError):
        made(dies=True).fit()
    assert '"asked":true' in log.read_text()
    made(dies=False).fit(resume="auto")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("log")] == ["log"]
    assert [each.step for each in replay(log).evaluations][-2:] == [16, 24]


@pytest.mark.filterwarnings("ignore:the state of")
def test_a_callback_of_the_first_process_alone_has_no_part() -> None:
    @define(eq=False)
    class First(Temperature):
        ranks: ClassVar[Literal["all", "first"]] = "first"

    def run(group: ThreadGroup) -> Any:
        trainer = build(First(), data=batches(group.rank), group=group)
        answers = ask(trainer, *["set temperature=2"] if group.rank == 0 else [])
        trainer.fit()
        return said(answers)

    first, second = run_in_threads(2, run)
    assert first == second
    assert [(done, text) for _, done, text in first] == [
        (False, "'temperature' must be one of the numbers that this run can set: lr")
    ]


def test_a_rate_that_a_scheduler_of_the_step_may_set_again_is_answered_so() -> None:
    trainer = build()
    trainer.optimizer.param_groups[0]["initial_lr"] = 0.1  # as PyTorch's schedulers leave it
    answers = ask(trainer, "set lr=0.5")
    trainer.fit()
    assert "unless a scheduler that the step itself steps sets it again" in answers[0].answer


def test_what_the_fit_ends_before_is_answered_so(tmp_path: Path) -> None:
    trainer = build(evaluate=lambda: 0.5)
    answers = ask(trainer, "stop", "evaluate")
    trainer.fit()
    refused = (8, False, "the fit ended before it could be done")
    assert said(answers) == [(8, True, "the fit ends after step 8"), refused]
    trainer = build(Checkpoint(tmp_path, every=None), epochs=1)
    trainer.step = lambda batch: StepResult(0.5, updated=False)
    answers = ask(trainer, "save", after=5)
    trainer.fit()
    assert said(answers) == [(6, False, "the fit ended before it could be done")]
