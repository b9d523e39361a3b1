"""What somebody who comes from PyTorch gets wrong in the first hour, and the sentence that leads on."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lucid_train import StepEnd, StepResult, Trainer, schedules
from lucid_train.callbacks import Checkpoint, EarlyStopping, LRSchedulerCallback, WeightAverage
from lucid_train.nn import Linear
from lucid_train.optims import SGD
from lucid_train.optims.lr_scheduler import StepLR

DATA = [(1.0, 2.0), (3.0, 4.0)]


def optimizer() -> SGD:
    return SGD(Linear(1, 1).parameters(), lr=0.1)


def train_step(x: float, y: float) -> float:
    return x + y


def with_model(model: object, batch: tuple[float, float]) -> float:
    return sum(batch)


def lightnings(batch: tuple[float, float], batch_idx: int) -> float:
    return sum(batch)


def keyword(batch: tuple[float, float], *, scale: float) -> float:
    return scale


def nothing() -> float:
    return 0.5


async def asynchronous(batch: object) -> float:
    return 0.5


def validate(model: object, loader: object = None) -> float:
    return 0.5


def test_a_step_that_takes_the_parts_of_a_batch_is_refused_with_a_line_that_works() -> None:
    rule = r"'step' must take one argument, the batch: train_step\(x: float, y: float\) -> float; "
    with pytest.raises(TypeError, match=rule + r"pass step=lambda batch: train_step\(\*batch\)$") as caught:
        Trainer(step=train_step, data=DATA)  # type: ignore[arg-type]  # that it is refused is the claim
    assert str(caught.value.__cause__) == "missing a required argument: 'y'"
    assert Trainer(step=lambda batch: train_step(*batch), data=DATA).fit().metric("loss") == [5.0]


@pytest.mark.parametrize(
    ("step", "cure"),
    [
        (with_model, r"; pass step=lambda batch: with_model\(model, batch\)$"),
        (lightnings, r"; pass step=lambda batch: lightnings\(batch, batch_idx\)$"),
        (keyword, r"; pass step=lambda batch: keyword\(batch, scale=scale\)$"),
        (lambda x, y: x + y, r"<lambda>\(x, y\); pass step=lambda batch: step\(\*batch\)$"),
        (nothing, r"nothing\(\) -> float$"),
    ],
)
def test_so_is_one_that_takes_more_than_the_batch_or_nothing(step: Any, cure: str) -> None:
    with pytest.raises(TypeError, match="'step' must take one argument, the batch: .*" + cure):
        Trainer(step=step, data=DATA)
    trainer = Trainer(data=DATA, step=sum)
    with pytest.raises(TypeError, match="'step' must take one argument"):
        trainer.step = step


def test_so_is_one_whose_body_would_never_run() -> None:
    with pytest.raises(TypeError, match="'step' must be a plain function, neither async nor with yield"):
        Trainer(step=asynchronous, data=DATA)  # type: ignore[arg-type]  # that it is refused is the claim


@pytest.mark.parametrize("step", [sum, partial(keyword, scale=2.0), lambda *parts: 0.5, lambda batch, scale=1: scale])
def test_one_that_can_be_called_with_a_batch_is_taken(step: Any) -> None:
    assert Trainer(step=step, data=DATA).fit().status == "completed"


def test_an_evaluate_that_takes_the_model_is_refused_with_the_line_to_write() -> None:
    line = r"pass evaluate=lambda: validate\(model\)$"
    with pytest.raises(
        TypeError, match=r"'evaluate' must take no argument: validate\(.*\) -> float; " + line
    ) as caught:
        Trainer(step=sum, data=DATA, evaluate=validate)  # type: ignore[arg-type]  # that it is refused is the claim
    assert str(caught.value.__cause__) == "missing a required argument: 'model'"


@pytest.mark.parametrize("given", [DATA, {"loss": 0.5}, 0.5])
def test_a_loader_or_a_result_for_evaluate_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="'evaluate' must be a function without arguments, itself and not its result"):
        Trainer(step=sum, data=DATA, evaluate=given)


SCHEDULES: list[Callable[[], Any]] = [schedules.Cosine, lambda: StepLR(optimizer(), step_size=2)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_or_a_scheduler_among_the_callbacks_is_refused_with_what_takes_it(schedule: Any) -> None:
    with pytest.raises(
        TypeError, match=r"'callbacks\[0\]' must be a Callback, pass LRSchedulerCallback\(\.\.\.\) of it: "
    ):
        Trainer(optimizer=optimizer(), callbacks=[schedule()])
    Trainer(optimizer=optimizer(), callbacks=[LRSchedulerCallback(schedule())])


@pytest.mark.parametrize(
    ("schedule", "cure"),
    [
        (schedules.Cosine, r"pass an instance, a schedule such as Cosine\(\) or a scheduler"),
        ("cosine", r"such as Cosine\(\) of lucid_train.schedules: 'cosine'"),
        (optimizer(), r"no optimizer, which is that of the Trainer or given as optimizer=\.\.\.: SGD"),
        (lambda epoch: 0.5**epoch, r"pass schedules\.Function\(f\) of a function f: <function"),
    ],
)
def test_what_is_neither_is_refused_with_what_to_pass(schedule: Any, cure: str) -> None:
    with pytest.raises(TypeError, match="'schedule' must be a schedule or a scheduler, " + cure):
        LRSchedulerCallback(schedule)


@pytest.mark.parametrize("name", ["best.pt", "runs/last.safetensors", "model.ckpt"])
def test_a_file_for_the_directory_of_checkpoints_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'directory' must be the path of a folder, not of one file in it: '{name}'"):
        Checkpoint(name)


def test_a_step_that_returns_nothing_is_named_where_its_loss_is_followed() -> None:
    trainer = Trainer(step=lambda batch: None, data=DATA, callbacks=[EarlyStopping("loss")])
    with pytest.raises(
        ValueError, match=r"'monitor' .*: 'loss'; the step function returned none: let it return the loss"
    ):
        trainer.fit()


@pytest.mark.parametrize(
    ("name", "near"), [("train_loss", "loss"), ("valid_loss", "val_loss"), ("eval_loss", "val_loss")]
)
def test_the_names_that_other_libraries_give_their_metrics_lead_to_ours(name: str, near: str) -> None:
    trainer = Trainer(step=sum, data=DATA, evaluate=lambda: 0.5, callbacks=[EarlyStopping(name)])
    with pytest.raises(ValueError, match=f"one of the metrics, loss, val_loss: '{name}'; did you mean '{near}'"):
        trainer.fit()


def test_a_step_without_data_that_fails_says_that_there_is_none() -> None:
    with pytest.raises(TypeError) as caught:
        Trainer(step=sum).fit()
    assert "step was called with None for its batch: this Trainer has no data=..." in caught.value.__notes__


# Steps that train nothing. PyTorch says nothing of them.

UNCHANGED = "no parameter of the {} has changed in 2 steps: a step calls loss.backward()"


def pytorch_trainer(kind: str, mistake: str = "", **settings: Any) -> Trainer:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(1, 1)
    mine = getattr(torch.optim, kind)(model.parameters(), lr=0.1)
    other = torch.optim.Adam(torch.nn.Linear(1, 1).parameters())

    def step(batch: tuple[float, float]) -> Any:
        mine.zero_grad()
        loss = (model(torch.tensor([batch[0]])) - batch[1]).square().sum()
        if mistake != "no backward":
            loss.backward()
        if mistake != "no step":
            mine.step()
        return StepResult(loss, updated=mistake != "skips")

    given = other if mistake == "another optimizer" else mine
    return Trainer(step=step, data=DATA, model=model, optimizer=given, **settings)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("mistake", ["no backward", "no step"])
def test_steps_that_change_no_parameter_are_warned_about_once(kind: str, mistake: str) -> None:
    with pytest.warns(UserWarning, match=UNCHANGED.format(kind)) as warned:
        pytorch_trainer(kind, mistake, epochs=3).fit()
    assert len(warned) == 1
    assert warned[0].filename == __file__


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("mistake", ["no backward", "no step", "", "skips"])
def test_an_average_that_is_put_in_for_an_evaluation_is_no_change(kind: str, mistake: str) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trainer = pytorch_trainer(kind, mistake, evaluate=dict, evaluate_every="1 step", callbacks=[WeightAverage()])
        trainer.fit()
    expected = mistake in ("no backward", "no step")
    assert [UNCHANGED.format(kind) in str(each.message) for each in found] == [True] * expected


def test_so_are_those_that_train_another_optimizer_than_the_trainers() -> None:
    with pytest.warns(UserWarning, match=UNCHANGED.format("Adam")):
        pytorch_trainer("SGD", "another optimizer").fit()


@pytest.mark.filterwarnings("ignore:scheduler.step.. was called before:UserWarning")
def test_and_those_that_never_step_the_optimizer_that_a_schedule_drives() -> None:
    torch = pytest.importorskip("torch")
    other = torch.optim.RMSprop(torch.nn.Linear(1, 1).parameters())
    callbacks = [LRSchedulerCallback(schedules.Step(1), optimizer=other)]
    with pytest.warns(UserWarning, match=UNCHANGED.format("RMSprop")):
        pytorch_trainer("SGD", callbacks=callbacks).fit()


@pytest.mark.parametrize("mistake", ["", "no step"])
def test_a_fit_that_goes_on_at_the_end_of_an_epoch_has_steps_of_its_own_first(mistake: str) -> None:
    run, states = pytorch_trainer("SGD"), []
    run.on(StepEnd, at=2)(lambda event: event.run.at_safe_point(lambda: states.append(run.state_dict())))
    run.fit()
    again = pytorch_trainer("SGD", mistake)
    again.load_state_dict(states[0])
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        histories = [len(again.fit(1)), len(again.fit(2))]
    texts = [str(each.message).partition(":")[0] for each in found]
    assert (histories, texts) == ([1, 2], [UNCHANGED.format("SGD").partition(":")[0]] if mistake else [])


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_steps_that_train_and_steps_that_say_that_they_do_not_are_not(kind: str) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        histories = [pytorch_trainer(kind, *skips, epochs=2).fit() for skips in ((), ("skips",))]
    assert ([history.status for history in histories], found) == (["completed", "completed"], [])


def test_metrics_with_a_graph_are_read_without_pytorchs_warning() -> None:
    torch = pytest.importorskip("torch")
    loss = torch.ones((), requires_grad=True) * 2
    history = Trainer(step=lambda batch: loss, data=DATA, evaluate=lambda: {"loss": loss}).fit()
    assert history[0].metrics == {"loss": 2.0, "val_loss": 2.0}
