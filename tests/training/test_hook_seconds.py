from time import perf_counter, sleep

import pytest
from attrs import define, field

from lucid_train import Callback, EpochEnd, Event, FitEnd, FitStart, StepEnd, Trainer, on


@define(eq=False)
class Slow(Callback):
    def on_epoch_end(self, event: EpochEnd) -> None:
        sleep(0.002)

    def on_step_end(self, event: StepEnd) -> None:
        pass


@define(eq=False)
class Report(Callback):
    ask: bool = True
    seconds: dict[str, float] = field(factory=dict, init=False)

    def on_fit_start(self, event: FitStart) -> None:
        if self.ask:
            event.run.measure_hooks()

    def on_fit_end(self, event: FitEnd) -> None:
        self.seconds = event.run.hook_seconds


def test_the_seconds_of_every_hook_are_reported_on_request_and_callbacks_of_one_class_are_numbered() -> None:
    report = Report()
    began = perf_counter()
    Trainer(step=lambda batch: 0.5, data=[1, 2], epochs=3, callbacks=[Slow(), Slow(), report]).fit()
    took = perf_counter() - began
    assert set(report.seconds) == {
        f"{name}.{hook}" for name in ("Slow", "Slow#2") for hook in ("on_epoch_end", "on_step_end")
    }
    assert report.seconds["Slow.on_epoch_end"] >= 3 * 0.002
    assert sum(report.seconds.values()) <= took


def test_functions_and_methods_that_receive_several_events_are_measured_under_one_name_each() -> None:
    @define(eq=False)
    class Both(Callback):
        @on(StepEnd)
        @on(EpochEnd)
        def listen(self, event: Event) -> None:
            sleep(0.002)

    report = Report()
    trainer = Trainer(step=lambda batch: 0.5, data=[1, 2], epochs=2, callbacks=[Both(), report])

    @trainer.on(EpochEnd)
    def show(event: EpochEnd) -> None: ...

    trainer.on(StepEnd, every=2)(show)
    trainer.fit()
    assert set(report.seconds) == {"Both.listen", "show", "show#2"}
    assert report.seconds["Both.listen"] >= 6 * 0.002


def test_without_a_request_nothing_is_measured() -> None:
    report = Report(ask=False)
    Trainer(step=lambda batch: 0.5, data=[1], callbacks=[Slow(), report]).fit()
    assert report.seconds == {}


def test_a_measured_hook_that_fails_is_named_as_ever() -> None:
    class Failing(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            raise KeyError("lost")

    with pytest.raises(KeyError) as caught:
        Trainer(callbacks=[Report(), Failing()]).fit()
    assert caught.value.__notes__ == ["raised by Failing.on_epoch_end on EpochEnd in epoch 1, step 1"]


@define(eq=False)
class AskLate(Callback):
    """Asks for the seconds within an epoch, when the listeners are known."""

    seconds: dict[str, float] = field(factory=dict, init=False)

    def on_epoch_end(self, event: EpochEnd) -> None:
        if event.epoch == 2:
            event.run.measure_hooks()

    def on_fit_end(self, event: FitEnd) -> None:
        self.seconds = event.run.hook_seconds


def test_a_request_in_the_middle_of_the_run_counts_from_the_next_epoch() -> None:
    slow, late = Slow(), AskLate()
    Trainer(step=lambda batch: 0.5, data=[1, 2], epochs=4, callbacks=[slow, late]).fit()
    assert set(late.seconds) == {"Slow.on_epoch_end", "Slow.on_step_end", "AskLate.on_epoch_end"}
    assert late.seconds["Slow.on_epoch_end"] >= 2 * 0.002
