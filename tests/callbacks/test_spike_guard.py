import json
import math
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from lucid_train import Callback, History, StepEnd, StepResult, Trainer
from lucid_train.callbacks import Checkpoint, EventLog, SpikeGuard
from lucid_train.callbacks.spike_guard import Spike
from lucid_train.testing import run_in_threads

nan, inf = math.nan, math.inf


@define(eq=False)
class Spikes(Callback):
    """Keeps what it received."""

    seen: list[Any] = field(factory=list, init=False, repr=False)

    def on_spike(self, event: Spike) -> None:
        self.seen.append((event.epoch, event.step, event.loss, event.in_a_row, event.decision))


def trained(guard: SpikeGuard, losses: list[float], *others: Callback, **options: Any) -> tuple[list[bool], History]:
    """Return which losses were spikes, and the history."""
    found: list[bool] = []

    def step(loss: float) -> StepResult:
        found.append(guard.spiked(loss))
        return StepResult(loss if math.isfinite(loss) else 0.0, updated=not found[-1])

    return found, Trainer(step, losses, callbacks=[guard, *others], **options).fit()


@pytest.mark.parametrize(
    ("losses", "spikes"),
    [
        ([1, 1, 1, 1.06, 1.061], [4]),  # the deviation counts as a hundredth of the median: 1 + 6 * 0.01
        ([1, 2, 3, 2 + 6 * 1.4826 * 0.999, 2 + 6 * 1.4826 * 1.001], [4]),
        ([9, 9999, 1, 1, 1], []),  # the first three are the warm-up
        ([nan, 1, inf, 1, 1, -inf, 1], [0, 2, 5]),  # what is not finite is a spike in the warm-up too
        ([1, 1, 1, 9, 1, 9, 1], [3, 5]),  # spikes do not raise the limit
        ([5, 5, 5, -100, 5], []),  # a low loss is none
        ([-1, -1, -1, -0.93, -1], [3]),
        ([0, 0, 0, 0, 1e-9], [4]),
    ],
)
def test_a_spike_is_a_loss_far_above_the_median_of_those_before(losses: list[float], spikes: list[int]) -> None:
    found, history = trained(SpikeGuard(warmup=3), losses)
    assert [place for place, spiked in enumerate(found) if spiked] == spikes
    assert history.status == "completed"


def test_the_window_forgets() -> None:
    guard = SpikeGuard(window=3, warmup=3)
    found, _ = trained(guard, [1, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4])
    assert not any(found)
    assert guard.limit() == pytest.approx(1.35 + 6 * 1.4826 * 0.05)


def test_too_many_in_a_row_end_the_run_for_good() -> None:
    spikes = Spikes()
    found, history = trained(SpikeGuard(warmup=2, patience=2), [1, 1, 7, 1, 7, 8, 1], spikes)
    assert found == [False, False, True, False, True, True]
    assert (history.status, history.reason) == ("stopped", "2 spikes in a row, the last a loss of 8 in step 6")
    assert spikes.seen == [(1, 3, 7.0, 1, "skip"), (1, 5, 7.0, 1, "skip"), (1, 6, 8.0, 2, "stop")]


def test_or_are_warned_about_and_the_new_level_is_learned() -> None:
    spikes = Spikes()
    guard = SpikeGuard(warmup=2, patience=2, action="warn")
    with pytest.warns(UserWarning, match="2 spikes in a row, the last a loss of 8 in step 4: the losses are forgotten"):
        found, history = trained(guard, [1, 1, 7, 8, 7, 8, 7, 99], spikes)
    assert found == [False, False, True, True, False, False, False, True]
    assert history.status == "completed"
    assert [decision for *_, decision in spikes.seen] == ["skip", "restart", "skip"]


def test_every_decision_is_in_the_log(tmp_path: Path) -> None:
    trained(SpikeGuard(warmup=2), [1, 1, 7, nan], EventLog(tmp_path / "run.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    fields = ("step", "loss", "in_a_row", "decision")
    assert [[line["fields"][name] for name in fields] for line in lines if line["event"] == "Spike"] == [
        [3, 7.0, 1, "skip"],
        [4, {"!float": "nan"}, 2, "skip"],
    ]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_resume_goes_on_with_the_losses_and_the_count(cut: int, tmp_path: Path) -> None:
    losses = [1, 1.5, 1.2, 7, 8, 1, 1.4, 9, 9]
    whole = SpikeGuard(warmup=2)
    expected, _ = trained(whole, losses)

    second, found = SpikeGuard(warmup=2), list[bool]()

    def trainer(guard: SpikeGuard) -> Trainer:
        def step(loss: float) -> StepResult:
            found.append(guard.spiked(loss))
            return StepResult(loss, updated=not found[-1])

        saving = Checkpoint(tmp_path, every=1, interval="step", weights=False)
        return Trainer(step, losses, callbacks=[guard, saving])

    first = trainer(SpikeGuard(warmup=2))
    first.on(StepEnd, at=cut)(lambda event: event.run.stop())
    first.fit()
    assert len(found) == cut
    trainer(second).fit(resume="auto")
    assert found == expected
    assert second.state_dict() == whole.state_dict()


def test_processes_that_are_asked_about_the_same_losses_skip_alike() -> None:
    def fit(group: Any) -> list[bool]:
        return trained(SpikeGuard(warmup=2), [1, 1, 7, 1], group=group)[0]

    assert run_in_threads(2, fit) == [[False, False, True, False]] * 2


def test_processes_that_are_asked_about_losses_of_their_own_are_refused() -> None:
    def fit(group: Any) -> str:
        rule = r"SpikeGuard.spiked\(\) must be asked about the same losses on all processes: ranks 0 and 1 differ"
        with pytest.raises(RuntimeError, match=rule) as caught:
            trained(SpikeGuard(), [1.0 + group.rank], group=group)
        return str(caught.value)

    assert len(set(run_in_threads(2, fit))) == 1


def test_it_must_be_among_the_callbacks() -> None:
    rule = r"SpikeGuard.spiked\(\) must be called by the step of a Trainer that has it in 'callbacks'"
    with pytest.raises(RuntimeError, match=rule):
        SpikeGuard().spiked(1.0)
    guard = SpikeGuard()
    with pytest.raises(RuntimeError, match=rule):
        Trainer(lambda batch: guard.spiked(batch), [1.0]).fit()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"threshold": 0}, ValueError, "'threshold' must be > 0: 0"),
        ({"window": 0}, ValueError, "'window' must be >= 1: 0"),
        ({"warmup": 5, "window": 4}, ValueError, "'warmup' must be <= window, 4: 5"),
        ({"patience": 0}, ValueError, "'patience' must be >= 1: 0"),
        ({"action": "skip"}, ValueError, "'action' must be one of 'stop', 'warn': 'skip'"),
    ],
)
def test_bad_arguments_are_refused_by_name(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SpikeGuard(**settings)
