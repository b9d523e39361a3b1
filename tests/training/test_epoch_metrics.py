"""Metrics that a callback adds to those of an epoch."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pytest
from attrs import define, field

from lucid_train import Callback, EpochEnd, StepEnd, Trainer
from lucid_train.testing import assert_resumes_exactly, run_in_threads


@define(eq=False)
class Largest(Callback):
    """Gives the largest loss of the steps."""

    name: str = "largest"
    _largest: float = field(default=0.0, init=False, repr=False)

    def on_step_end(self, event: StepEnd) -> None:
        self._largest = max(self._largest, event.loss)

    def epoch_metrics(self) -> Mapping[str, float]:
        return {self.name: self._largest}

    def on_epoch_end(self, event: EpochEnd) -> None:
        self._largest = 0.0


def built(*callbacks: Callback, **options: Any) -> Trainer:
    evaluate = options.pop("evaluate", lambda: {"accuracy": 0.5})
    return Trainer(lambda batch: batch, [0.25, 0.75], epochs=2, evaluate=evaluate, callbacks=callbacks, **options)


def test_they_come_between_those_of_the_steps_and_those_of_the_evaluation() -> None:
    seen: list[Any] = []
    trainer = built(Largest())
    trainer.on(EpochEnd)(lambda event: seen.append(list(event.metrics.items())))
    history = trainer.fit()
    assert seen == [[("loss", 0.5), ("largest", 0.75), ("val_accuracy", 0.5)]] * 2
    assert history.metric("largest") == [0.75, 0.75]


def test_a_run_with_them_resumes_exactly() -> None:
    assert_resumes_exactly(lambda: built(Largest()), cuts="all")


def test_the_mean_of_all_processes_counts() -> None:
    def fit(group: Any) -> list[float]:
        data = [0.25, 0.5 + group.rank]
        return Trainer(lambda batch: batch, data, epochs=2, callbacks=[Largest()], group=group).fit().metric("largest")

    assert run_in_threads(2, fit) == [[1.0, 1.0]] * 2


@pytest.mark.parametrize("name", ["loss", "largest"])
def test_a_name_that_another_metric_has_is_refused(name: str) -> None:
    rule = rf"'callbacks' must give metrics of names that no other has: '{name}', by Largest.epoch_metrics\(\)"
    with pytest.raises(ValueError, match=rule):
        built(Largest(), Largest(name)).fit()


def test_an_evaluation_must_have_other_names() -> None:
    with pytest.raises(ValueError, match="'evaluate' must not return 'val_largest': another metric has the name"):
        built(Largest("val_largest"), evaluate=lambda: {"val_largest": 1.0}).fit()


def test_what_is_no_number_is_refused_by_name() -> None:
    @define(eq=False)
    class Wrong(Callback):
        def epoch_metrics(self) -> Any:
            return {"words": "many"}

    with pytest.raises(TypeError, match=r"Wrong.epoch_metrics\(\) must return .*'words' is 'many'"):
        built(Wrong()).fit()


def test_those_of_the_first_process_alone_are_refused_by_name() -> None:
    @define(eq=False)
    class First(Largest):
        ranks: ClassVar[Literal["all", "first"]] = "first"

    def fit(group: Any) -> str:
        with pytest.raises(Exception) as caught:  # of the other process it is a RankError
            built(First(), group=group).fit()
        return str(caught.value)

    sentence = "First.epoch_metrics() must be given by all processes, its class has ranks = 'first'"
    assert all(sentence in text for text in run_in_threads(2, fit))
    assert built(First()).fit().metric("largest") == [0.75, 0.75]
