"""What docs/coming_from/keras.md says. A process of its own runs it: test_coming_from_parity.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import torch

from lucid_train import Callback, EpochEnd, FitEnd, StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, EarlyStopping
from lucid_train.testing import assert_resumes_exactly
from tests.support.coming_from import Page, flat

IMAGES, LABELS = torch.arange(8.0)[:, None] / 8, torch.ones(8, 1)


def compiled(rate: float = 0.1) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    return model


def fitted(model: Any, *callbacks: Any, **settings: Any) -> Any:
    settings = {"batch_size": 3, "verbose": 0, "shuffle": False, **settings}
    return model.fit(IMAGES, LABELS, callbacks=[*callbacks], **settings)


OBJECTS = {"model": compiled(), "history": fitted(compiled())}
PAGE = Page("keras", [OBJECTS, keras, keras.callbacks, keras.callbacks.Callback, keras.optimizers])


def test_the_two_programs_come_to_the_same_losses_and_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there, here = PAGE.run("There"), PAGE.run("Here")
    assert len(here["losses"]) == 10
    for name in ("losses", "val_losses"):
        assert here[name] == pytest.approx(there[name], rel=1e-6)
    assert flat(here["model"]) == pytest.approx(flat(there["model"]), abs=1e-6)


def test_what_the_table_names_is_there() -> None:
    assert PAGE.unknown_there() == []


def test_what_the_table_names_is_here() -> None:
    assert PAGE.unknown_here() == []


class Log(keras.callbacks.Callback):
    """Note numbers and losses, and raise an error after the second batch, if one is given."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error, self.ended = error, False
        self.numbers, self.losses = list[int](), list[float]()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.numbers.append(epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.numbers.append(batch)
        self.losses.append(logs["loss"])
        if self.error is not None and batch == 1:
            raise self.error

    def on_train_batch_ends(self, *_: Any) -> None:
        raise AssertionError("this is called")

    def on_train_end(self, logs: Any = None) -> None:
        self.ended = True


def test_numbers_count_from_0_there_and_losses_are_means_so_far() -> None:
    log = Log()
    history = fitted(compiled(rate=0.0), log, epochs=2, batch_size=4)
    assert log.numbers == [0, 0, 1, 1, 0, 1]
    first, second = ((compiled()(IMAGES[i : i + 4]) - 1).square().mean().item() for i in (0, 4))
    assert log.losses == pytest.approx([first, (first + second) / 2] * 2)
    assert history.history["loss"] == log.losses[1::2]
    seen: list[Any] = []
    trainer = Trainer(lambda loss: loss, [first, second], epochs=2)
    trainer.on(StepEnd)(lambda event: seen.append((event.step, event.loss)))
    trainer.on(EpochEnd)(lambda event: seen.append(event.epoch))
    trainer.fit()
    assert seen == [(1, first), (2, second), 1, (3, first), (4, second), 2]


def test_a_metric_that_does_not_exist_stops_nothing_there_and_is_refused_here() -> None:
    stopping = keras.callbacks.EarlyStopping("val_loss")
    with pytest.warns(UserWarning, match="`val_loss` which is not available"):
        fitted(compiled(), stopping, epochs=2)
    assert (stopping.patience, EarlyStopping("val_loss").patience) == (0, 5)
    with pytest.raises(ValueError, match="val_loss"):
        Trainer(lambda batch: 0.5, [1], callbacks=[EarlyStopping("val_loss")]).fit()
    with pytest.raises(ValueError, match="mode"):
        fitted(compiled(), keras.callbacks.EarlyStopping("val_f1"), validation_data=(IMAGES, LABELS))
    with pytest.raises(ValueError, match="mode"):
        EarlyStopping("val_f1")


def test_a_run_that_is_resumed_there_comes_to_other_weights_and_has_the_later_epochs(tmp_path: Path) -> None:
    class Cut(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    whole, cut, resumed = compiled(), compiled(), compiled()
    settings = {"epochs": 3, "shuffle": True, "batch_size": 2}
    fitted(whole, **settings)
    with pytest.raises(KeyboardInterrupt):
        fitted(cut, keras.callbacks.BackupAndRestore(tmp_path / "backup"), Cut(), **settings)
    history = fitted(resumed, keras.callbacks.BackupAndRestore(tmp_path / "backup"), **settings)
    assert (history.epoch, len(history.history["loss"])) == ([1, 2], 2)
    assert flat(resumed) != flat(whole)


def ours() -> Trainer:
    keras.utils.clear_session()  # layers are named by how many there were before, and states by layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(batch: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(batch, training=True) - 1).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    data = torch.utils.data.DataLoader(IMAGES, batch_size=2, shuffle=True)
    return Trainer(step, data, model=model, optimizer=optimizer, epochs=2)


def test_a_run_of_a_keras_model_with_dropout_resumes_exactly_here() -> None:
    assert_resumes_exactly(ours, cuts=[3, 5])


def test_states_are_named_by_the_layers_that_were_built_before() -> None:
    first, second = compiled().state_dict(), compiled().state_dict()
    assert len(first) == len(second)
    assert first.keys().isdisjoint(second)
    keras.utils.clear_session()
    third = compiled().state_dict()
    keras.utils.clear_session()
    assert compiled().state_dict().keys() == third.keys()


def test_dropout_follows_the_argument_and_not_the_mode() -> None:
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5)])
    ones = torch.ones(1, 64)
    model.eval()
    assert not torch.equal(model(ones, training=True), ones)
    model.train()
    assert torch.equal(model(ones), ones)
    assert torch.equal(model(ones, training=False), ones)


def test_a_layer_follows_the_policy_of_keras_and_not_autocast() -> None:
    keras.utils.set_random_seed(0)
    batch = torch.ones(2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert keras.layers.Dense(3)(batch).dtype == torch.float32
    layer = keras.layers.Dense(1, dtype="mixed_bfloat16")
    model = keras.Sequential([keras.Input((4,)), layer])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(batch: Any) -> Any:
        optimizer.zero_grad()
        found = model(batch, training=True)
        assert found.dtype == torch.bfloat16
        loss = (found.float() - 1).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    losses = Trainer(step, [batch], model=model, optimizer=optimizer, epochs=3).fit().metric("loss")
    assert losses[2] < losses[1] < losses[0]
    assert {each.dtype for each in model.parameters()} == {torch.float32}


def test_fit_trains_as_many_epochs_more_there_and_says_that_nothing_is_left_here() -> None:
    model = compiled()
    first, second = (fitted(model, epochs=2) for _ in range(2))
    assert (second.epoch, len(second.history["loss"])) == ([0, 1], 2)
    assert second.history["loss"][0] < first.history["loss"][1]
    trainer = Trainer(lambda batch: 0.5, [1], epochs=2)
    trainer.fit()
    with pytest.warns(UserWarning, match="nothing left to train"):
        assert len(trainer.fit()) == 2


def test_after_an_exception_all_are_closed_here_and_none_is_there() -> None:
    error, ended = RuntimeError("lost"), []
    log = Log(error)
    with pytest.raises(RuntimeError, match="lost") as caught:
        fitted(compiled(), log)
    assert (caught.value, log.ended) == (error, False)
    trainer = Trainer(lambda batch: 0.5, range(8))
    trainer.on(FitEnd)(lambda event: ended.append(event.status))

    @trainer.on(StepEnd, at=2)
    def fail(event: StepEnd) -> None:
        raise error

    with pytest.raises(RuntimeError, match="lost") as caught:
        trainer.fit()
    assert (caught.value, ended) == (error, ["failed"])


def test_an_optimizer_of_keras_is_refused_and_adam_has_another_epsilon() -> None:
    with pytest.raises(TypeError, match="'optimizer' must have param_groups"):
        Trainer(lambda batch: 0.5, [1], optimizer=keras.optimizers.SGD(0.1))
    adam = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])
    assert (keras.optimizers.Adam().epsilon, adam.defaults["eps"]) == (1e-7, 1e-8)


def test_a_hook_with_a_wrong_name_is_refused_here_and_not_called_there() -> None:
    fitted(compiled(), Log())
    with pytest.raises(TypeError, match=r"on_train_batch_end is not a hook; write on_step_end\(self, event\)"):

        class Misspelt(Callback):
            def on_train_batch_end(self, event: Any) -> None: ...


def test_a_loader_is_drawn_from_before_the_first_step_there(tmp_path: Path) -> None:
    drawn: list[int] = []

    class Data(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            drawn.append(index)
            return IMAGES[index], LABELS[index]

    compiled().fit(torch.utils.data.DataLoader(Data(), batch_size=4), verbose=0, shuffle=False)
    assert drawn == [*range(4), *range(8)]
    drawn.clear()
    checkpoint = Checkpoint(tmp_path, weights=False)
    Trainer(lambda batch: None, torch.utils.data.DataLoader(Data(), batch_size=4), callbacks=[checkpoint]).fit()
    assert drawn == [*range(8)]
