import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, field

from lucid_train import Callback, EpochEnd, EvaluateEnd, EvaluateStart, StepResult, Trainer, load_weights, nn, optims
from lucid_train import schedules as s
from lucid_train.callbacks import (
    Checkpoint,
    EarlyStopping,
    LRSchedulerCallback,
    RichLogger,
    TerminateOnNaN,
    WeightAverage,
)
from lucid_train.data import batches
from lucid_train.testing import diff_states, pairs_that_do_not_commute


@define
class Weights:
    """A model whose state is what it is given."""

    state: Any

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


def run(average: Callback, values: list[Any], *others: Callback, epochs: int = 1, **settings: Any) -> list[Any]:
    """Train a model whose weight is the latest batch; None is a step without an update. Return what was evaluated."""
    model, seen = Weights({"w": np.zeros(1)}), []

    def step(batch: Any) -> StepResult:
        if batch is not None:
            model.state["w"][...] = batch
        return StepResult(0.5, updated=batch is not None)

    def evaluate() -> dict[str, float]:
        seen.append(float(model.state["w"][0]))
        return {}

    Trainer(step, values, model=model, epochs=epochs, evaluate=evaluate, callbacks=[average, *others], **settings).fit()
    assert model.state["w"] == [value for value in values if value is not None][-1]
    return seen


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"decay": 0.5, "warmup": False}, [1.0, 1.5, 2.75]),
        ({"decay": 0.5}, [1.0, 1 + (1 - 2 / 11), 4 - (4 - 1 - 9 / 11) * 3 / 12]),
        ({"decay": None}, [1.0, 1.5, 7 / 3]),
        ({"decay": s.Function(lambda t: [0.0, 0.25, 0.75][t]), "warmup": False}, [1.0, 1.75, 2.3125]),
        ({"decay": s.Linear(0.5, 1.0, 2), "warmup": False}, [1.0, 1.25, 1.25]),
        ({"decay": None, "every": 2}, [None, 2.0, 2.0]),
        ({"decay": None, "start": 2}, [None, 2.0, 3.0]),
        ({"decay": None, "start": "50%"}, [None, 2.0, 3.0]),
        ({"decay": None, "start": "50%", "length": 2}, [1.0, 1.5, 7 / 3]),
        ({"decay": None, "start": 3, "every": 5}, [None, None, 4.0]),
    ],
)
def test_what_the_average_is_after_each_update(settings: dict[str, Any], expected: list[Any]) -> None:
    # Before the first weights are taken the run is evaluated with its own.
    seen = run(WeightAverage(**settings), [1.0, 2.0, 4.0], evaluate_every="1 step")
    own = [1.0, 2.0, 4.0]
    wanted = [own[index] if value is None else value for index, value in enumerate(expected)]
    assert seen == pytest.approx(wanted, rel=1e-15)


def test_updates_are_counted_not_batches() -> None:
    average = WeightAverage(decay=None, every=2)
    run(average, [None, 1.0, None, None, 2.0, 4.0, None, 8.0])
    assert (average.averaged, average.weights) == (2, {"w": [5.0]})


@pytest.mark.parametrize("every", [1, 2, "2 steps", "3 steps"])
def test_an_epoch_is_taken_once_and_before_it_is_evaluated(every: int | str) -> None:
    seen: list[float] = []
    model, average = Weights({"w": 0.0}), WeightAverage(None, interval="epoch")

    def step(batch: float) -> None:
        model.state["w"] += batch

    def evaluate() -> dict[str, float]:
        seen.append(model.state["w"])
        return {}

    Trainer(step, [1.0, 1.0], epochs=4, model=model, evaluate=evaluate, evaluate_every=every, callbacks=[average]).fit()
    assert (average.averaged, average.weights) == (4, {"w": 5.0})
    assert (
        seen == {1: [2.0, 3.0, 4.0, 5.0], 2: [3.0, 5.0], "2 steps": [2.0, 2.0, 3.0, 4.0], "3 steps": [2.0, 3.0]}[every]
    )


def test_floats_are_averaged_and_everything_else_is_copied() -> None:
    def state(value: int) -> Any:
        return {
            "layers": [{"w": np.full((2, 1), value, np.float32)}, (np.array([value], np.float16), np.float16(value))],
            "variance": np.float64(value),
            "scale": float(value),
            "complex": np.array([value * 1j]),
            "batches": np.array([value]),
            "mask": np.array([value > 1]),
            "name": f"number {value}",
            "nothing": None,
        }

    model, average = Weights(None), WeightAverage(decay=None)

    def step(value: int) -> None:
        model.state = state(value)

    Trainer(step, [1, 2, 6], model=model, callbacks=[average]).fit()
    expected = {
        **state(6),
        "layers": [{"w": np.full((2, 1), 3, np.float32)}, (np.array([3], np.float32), np.float32(3))],
        "variance": np.float64(3),
        "scale": 3.0,
        "complex": np.array([3j]),
    }
    assert diff_states(average.weights, expected) == []
    assert type(average.weights["layers"][1]) is tuple


class Evaluated(Exception):
    pass


@define(eq=False)
class Watch(Callback):
    """Notes the weight at each event around an evaluation."""

    model: Weights
    seen: list[Any] = field(factory=list, init=False)

    def _note(self, event: Any) -> None:
        self.seen.append((type(event).__name__, float(self.model.state["w"][0])))

    def on_evaluate_start(self, event: EvaluateStart) -> None:
        self._note(event)

    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        self._note(event)

    def on_epoch_end(self, event: EpochEnd) -> None:
        self._note(event)

    def on_fit_error(self, event: Any) -> None:
        self._note(event)


@pytest.mark.parametrize("error", [None, Evaluated, KeyboardInterrupt])
@pytest.mark.parametrize("first", [True, False])
def test_only_evaluate_sees_the_average_whatever_ends_it(error: type[BaseException] | None, first: bool) -> None:
    model = Weights({"w": np.zeros(1)})
    average, watch, seen = WeightAverage(None), Watch(model), []

    def step(batch: float) -> None:
        model.state["w"][...] = batch

    def evaluate() -> dict[str, float]:
        seen.append(float(model.state["w"][0]))
        if error is not None:
            raise error
        return {}

    callbacks = [average, watch] if first else [watch, average]
    trainer = Trainer(step, [1.0, 3.0], model=model, evaluate=evaluate, callbacks=callbacks)
    if error is None:
        trainer.fit()
        assert watch.seen == [("EvaluateStart", 3.0), ("EvaluateEnd", 3.0), ("EpochEnd", 3.0)]
    else:
        with pytest.raises(error):
            trainer.fit()
        assert watch.seen == [("EvaluateStart", 3.0), ("FitError", 3.0)]
    assert seen == [2.0]
    assert model.state["w"] == 3.0


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("lives", [True, False])
def test_the_arrays_that_an_optimizer_changes_stay_in_a_model(keeps: bool, lives: bool) -> None:
    class Layer:
        """Keeps the arrays that it loads, or copies them; and returns its own, or copies."""

        def __init__(self) -> None:
            self.w, self.parts = np.zeros(1), [np.zeros(1)]

        def state_dict(self) -> Any:
            return {
                "w": self.w if lives else self.w.copy(),
                "parts": [self.parts[0] if lives else self.parts[0].copy()],
            }

        def load_state_dict(self, state: Any) -> None:
            if keeps:
                self.w, self.parts = state["w"], state["parts"]
            else:
                self.w[...], self.parts[0][...] = state["w"], state["parts"][0]

    model, average = Layer(), WeightAverage(None)
    trained = [model.w, model.parts[0]]

    def step(batch: float) -> None:
        for each in trained if lives or not keeps else (model.w, model.parts[0]):
            each[...] = batch

    def evaluate() -> float:
        found = float(model.w[0])
        model.w += 100.0  # as a batch norm in training mode does to its statistics
        return found

    trainer = Trainer(
        step, [1.0, 2.0, 6.0], model=model, evaluate=evaluate, callbacks=[average], evaluate_every="1 step"
    )
    history = trainer.fit()
    assert [each.metrics["val_loss"] for each in history.evaluations] == [1.0, 1.5, 3.0]
    assert (model.w, model.parts[0]) == (6.0, 6.0)
    assert diff_states(average.weights, {"w": np.full(1, 3.0), "parts": [np.full(1, 3.0)]}) == []


def test_a_ctrl_c_while_the_weights_are_put_back_does_not_leave_half_of_them() -> None:
    @define
    class Interrupted(Weights):
        loads: int = 0

        def load_state_dict(self, state: Any) -> None:
            self.loads += 1
            self.state["one"] = state["one"]
            if self.loads == 2:
                raise KeyboardInterrupt
            self.state["two"] = state["two"]

    model = Interrupted({"one": 1.0, "two": 1.0})

    def step(batch: float) -> None:
        model.state = {"one": batch, "two": batch}

    trainer = Trainer(step, [1.0, 3.0], model=model, evaluate=dict, callbacks=[WeightAverage(None)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert (model.state, model.loads) == ({"one": 3.0, "two": 3.0}, 3)


def test_a_run_that_is_interrupted_while_it_is_evaluated_is_saved_and_takes_no_epoch_twice(tmp_path: Path) -> None:
    def build(interrupt: bool) -> tuple[Trainer, WeightAverage]:
        model, average = nn.Linear(1, 1, rng=0), WeightAverage(None, interval="epoch")
        optimizer = optims.SGD(model.parameters(), lr=0.5)

        def step(batch: float) -> None:
            model.weight.grad = np.full((1, 1), batch)
            optimizer.step()

        def evaluate() -> float:
            if interrupt and trainer.state_dict()["progress"]["epoch"] == 2:
                signal.raise_signal(signal.SIGINT)
            return float(model.weight.data[0, 0])

        callbacks = [average, Checkpoint(tmp_path / "checkpoints", every=None)]
        trainer = Trainer(
            step, [1.0, 2.0], epochs=3, model=model, optimizer=optimizer, evaluate=evaluate, callbacks=callbacks
        )
        return trainer, average

    with pytest.raises(KeyboardInterrupt):
        build(interrupt=True)[0].fit()
    trainer, average = build(interrupt=False)
    resumed = trainer.fit(resume="auto")
    assert average.averaged == 3
    start = float(nn.Linear(1, 1, rng=0).weight.data[0, 0])
    assert resumed.metric("val_loss") == pytest.approx([start - 1.5, start - 2.25, start - 3.0], rel=1e-12)


def digits_run(directory: Path | None = None, *others: Callback) -> Trainer:
    rows = np.random.default_rng(0).normal(size=(8, 2))
    model, loss = nn.Linear(2, 1, rng=1), nn.MSELoss()
    optimizer = optims.SGD(model.parameters(), lr=0.3)

    def step(batch: Any) -> float:
        value = float(loss(model(batch), batch[:, :1]))
        model.backward(loss.backward())
        optimizer.step()
        optimizer.zero_grad()
        return value

    def evaluate() -> float:
        return float(loss(model(rows), rows[:, :1]))

    saved = [] if directory is None else [Checkpoint(directory, monitor="val_loss")]
    return Trainer(
        step,
        batches(rows, batch_size=2, seed=0),
        epochs=4,
        model=model,
        optimizer=optimizer,
        evaluate=evaluate,
        callbacks=[*saved, *others],
    )


def test_the_best_checkpoint_holds_the_weights_of_training_and_those_that_were_evaluated(tmp_path: Path) -> None:
    trainer = digits_run(tmp_path / "run", WeightAverage(0.8))
    history = trainer.fit()
    model: Any = trainer.model
    own = model.state_dict()
    best, last = (load_weights(tmp_path / "run", which, name="WeightAverage") for which in ("best", "last"))
    model.load_state_dict(best)
    evaluate: Any = trainer.evaluate
    assert evaluate() == history.best("val_loss").metrics["val_loss"]
    model.load_state_dict(last)
    assert evaluate() == history.metric("val_loss")[-1]
    assert diff_states(load_weights(tmp_path / "run", "last"), own) == []


def test_weights_that_were_not_averaged_are_refused_by_name(tmp_path: Path) -> None:
    digits_run(tmp_path / "run", WeightAverage(0.8, start=1000)).fit()
    with pytest.raises(ValueError, match="'name' must be that of weights, and WeightAverage had taken none"):
        load_weights(tmp_path / "run", name="WeightAverage")
    with pytest.raises(ValueError, match=r"one of the run's extras, \[\], or WeightAverage, as it has no extra 'Ema'"):
        load_weights(tmp_path / "run", name="Ema")


def test_the_training_is_the_same_with_it_and_without() -> None:
    one, other = digits_run(None), digits_run(None, WeightAverage(0.8))
    one.fit()
    other.fit()
    states = [trainer.state_dict() for trainer in (one, other)]
    assert diff_states(states[0]["model"], states[1]["model"]) == []
    assert diff_states(states[0]["optimizer"], states[1]["optimizer"]) == []


def test_its_place_among_the_callbacks_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    number = iter(range(1000))

    def build() -> Trainer:
        return digits_run(
            Path(f"run-{next(number)}"),
            WeightAverage(0.8, interval="epoch"),
            LRSchedulerCallback(s.Exponential(0.9)),
            EarlyStopping("val_loss", patience=1, min_delta=10.0, restore_best=True),
            TerminateOnNaN(),
            RichLogger(),
        )

    pairs = pairs_that_do_not_commute(build)
    assert [pair for pair in pairs if "WeightAverage" in pair] == []


REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "decay": (lambda: WeightAverage(1.0), ValueError, r"'decay' must be >= 0 and < 1: 1\.0"),
    "a string": (lambda: WeightAverage("mean"), TypeError, "'decay' must be a number: 'mean'"),  # type: ignore[arg-type]
    "every": (lambda: WeightAverage(every=0), ValueError, "'every' must be >= 1: 0"),
    "start": (lambda: WeightAverage(start="0%"), ValueError, "'start' must be a share of the run, above 0%"),
    "interval": (lambda: WeightAverage(interval="batch"), ValueError, "'interval' must be one of"),  # type: ignore[arg-type]
    "no model": (
        lambda: Trainer(callbacks=[WeightAverage()]).fit(),
        ValueError,
        r"WeightAverage needs a model: pass Trainer\(model=\.\.\.\) or WeightAverage\(\.\.\., model=\.\.\.\)",
    ),
    "two of one model": (
        lambda: run(WeightAverage(), [1.0], WeightAverage(None)),
        ValueError,
        r"'callbacks' must have one WeightAverage per model: .*=None.* and .*=0\.999",
    ),
    "no length": (
        lambda: Trainer(
            lambda batch: None, iter([1.0]), model=Weights({}), callbacks=[WeightAverage(start="75%")]
        ).fit(),
        ValueError,
        r"the length of the run must be known for WeightAverage\(.*\); pass WeightAverage\(\.\.\., length=\.\.\.\)",
    ),
    "a schedule that leaves its range": (
        lambda: run(WeightAverage(s.Function(lambda t: 1.0 + t), warmup=False), [1.0, 2.0, 3.0]),
        ValueError,
        r"'decay' must be >= 0 and <= 1 and finite: 2\.0|'decay' must be >= 0 and <= 1: 2\.0",
    ),
    "weights that come later": (
        lambda: growing(),
        ValueError,
        "the state of the model does not fit: 'new' is unknown",
    ),
}


def growing() -> None:
    model = Weights({"w": 1.0})

    def step(batch: float) -> None:
        model.state = {"w": batch} if batch == 1 else {"w": batch, "new": 1.0}

    Trainer(step, [1.0, 2.0], model=model, callbacks=[WeightAverage()]).fit()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused(name: str) -> None:
    act, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        act()


def test_a_saved_average_of_other_shapes_is_refused() -> None:
    average = WeightAverage()
    average.load_state_dict({"weights": {"w": np.zeros(3)}, "averaged": 1, "count": 1, "counted": False})
    with pytest.raises(
        ValueError, match=r"'the averaged weights\.w' must have the shape of the model's, \(1,\): \(3,\)"
    ):
        run(average, [1.0])


def test_a_resume_with_another_decay_is_refused_by_name(tmp_path: Path) -> None:
    digits_run(tmp_path, WeightAverage(0.8)).fit()
    with pytest.raises(ValueError, match=r"WeightAverage\.decay is 0\.9 here and 0\.8 in the checkpoint"):
        digits_run(tmp_path, WeightAverage(0.9)).fit(resume="auto")


@pytest.mark.parametrize("decay", [0.8, s.Linear(0.5, 0.99)])
def test_more_epochs_change_what_is_a_share_of_the_run_and_are_refused_by_name(decay: Any, tmp_path: Path) -> None:
    def longer(**settings: Any) -> Trainer:
        trainer = digits_run(tmp_path, WeightAverage(decay, start="50%", **settings))
        trainer.epochs = 6
        return trainer

    digits_run(tmp_path, WeightAverage(decay, start="50%")).fit()
    with pytest.raises(ValueError, match=r"WeightAverage\.length is 24 here and 16 in the checkpoint"):
        longer().fit(resume="auto")
    trainer = longer(length=16)
    trainer.fit(resume="auto")
    average: Any = trainer.callbacks[1]
    assert average.averaged == 24 - 8 + 1
    assert longer().fit(8, resume="auto", accept="WeightAverage").status == "completed"


@pytest.mark.parametrize("epochs", [(2, 4), (4,)])
def test_two_fits_are_as_one(epochs: tuple[int, ...]) -> None:
    average = WeightAverage(0.8, every=3)
    trainer = digits_run(None, average)
    for epoch in epochs:
        trainer.fit(epoch)
    one = average.state_dict()
    trainer = digits_run(None, other := WeightAverage(0.8, every=3))
    trainer.fit()
    assert diff_states(one, other.state_dict()) == []
    assert average.averaged == 5


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"decay": s.Linear(0.5), "start": "50%"}, "decay=Linear(0.5) and start='50%'"),
        ({"start": "50%"}, "start='50%'"),
    ],
)
def test_a_longer_fit_says_that_a_share_is_that_of_an_earlier_one(settings: dict[str, Any], what: str) -> None:
    trainer = Trainer(lambda batch: None, [1, 2], model=nn.Linear(1, 1), callbacks=[WeightAverage(**settings)])
    trainer.fit(2)
    with pytest.warns(UserWarning, match="was measured in an earlier fit") as warned:
        trainer.fit(4)
    assert [str(each.message) for each in warned] == [
        f"{what} of WeightAverage was measured in an earlier fit, for a run of 4 steps, and this one makes it 8 steps; "
        "pass WeightAverage(..., length=8) before the first fit, or begin again with fit(4, restart=True)"
    ]


def test_what_a_callback_of_ones_own_holds_ends_with_the_evaluation_whatever_ends_it() -> None:
    seen: list[str] = []

    @define(eq=False)
    class Held(Callback):
        name: str

        @contextmanager
        def during_evaluation(self, event: EvaluateStart) -> Iterator[None]:
            seen.append(f"{self.name} begins in {event.epoch}")
            try:
                yield
            finally:
                seen.append(f"{self.name} ends")

    def evaluate() -> float:
        seen.append("evaluate")
        raise Evaluated

    trainer = Trainer(lambda batch: 0.5, [1.0], evaluate=evaluate, callbacks=[Held("a"), Held("b")])
    trainer.on(EvaluateStart)(lambda event: seen.append("EvaluateStart"))
    with pytest.raises(Evaluated):
        trainer.fit()
    assert seen == ["EvaluateStart", "a begins in 1", "b begins in 1", "evaluate", "b ends", "a ends"]


@pytest.mark.parametrize(
    ("average", "words"),
    [
        (WeightAverage(0.99), "weights, decay 0.99 after a warm-up, every update"),
        (WeightAverage(None, interval="epoch", start="75%"), "weights, the mean, every epoch from 75 % on"),
        (
            WeightAverage(s.Linear(0.5, 1.0), warmup=False, every=10, start=100),
            "weights, decay linear from 0.5 to 1 of the base, every 10 updates from 100 updates on",
        ),
    ],
)
def test_the_header_says_what_is_averaged(average: WeightAverage, words: str) -> None:
    assert average.describe() == {"averaging": f"{words}; evaluations use the average, checkpoints hold both"}
