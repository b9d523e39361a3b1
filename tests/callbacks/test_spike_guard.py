import json
import math
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from lucid_train import Callback, History, StepEnd, StepResult, Trainer, nn, optims, replay
from lucid_train.callbacks import Checkpoint, EventLog, SpikeGuard
from lucid_train.callbacks.spike_guard import Spike
from lucid_train.cli.main import main
from lucid_train.testing import assert_resumes_exactly, run_in_threads

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


def test_a_spike_is_in_the_log_once_though_its_step_is_done_again(tmp_path: Path) -> None:
    losses = [1, 1.5, 1.2, 7, 1, 1.05, 8, 1]

    def spikes(folder: Path, killed_in: int | None) -> list[list[int]]:
        calls = count(1)

        def trainer() -> Trainer:
            guard = SpikeGuard(warmup=3)

            def step(loss: float) -> StepResult:
                spiked = guard.spiked(loss)
                if next(calls) == killed_in:
                    raise MemoryError("killed")
                return StepResult(loss, updated=not spiked)

            saving = Checkpoint(folder, every=1, interval="step", weights=False, background=False)
            return Trainer(step, losses, callbacks=[EventLog(folder / "log", heartbeat=None), guard, saving])

        if killed_in is not None:
            with pytest.raises(MemoryError, match="killed"):
                trainer().fit()
        assert trainer().fit(resume="auto").status == "completed"
        lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
        return [[line["fields"]["step"]] for line in lines if line["event"] == "Spike"]

    assert [spikes(tmp_path / str(step), step) for step in (None, 4, 5, 7)] == [[[4], [7]]] * 4


def test_a_log_with_spikes_is_replayed_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, spikes = tmp_path / "run.jsonl", Spikes()
    _, history = trained(SpikeGuard(warmup=2, patience=2), [1, 1, 7, nan, 1], EventLog(path))
    replay(path, [spikes])
    assert repr(spikes.seen) == "[(1, 3, 7.0, 1, 'skip'), (1, 4, nan, 2, 'stop')]"
    assert main(["show", str(path)]) == 0
    assert str(history.reason) in " ".join(capsys.readouterr().out.split())


def test_a_run_is_resumed_exactly_with_its_guard() -> None:
    def build() -> Trainer:
        model = nn.Linear(1, 1, rng=0)
        weight = model.weight
        optimizer, guard = optims.Adam(model.parameters(), lr=0.1), SpikeGuard(warmup=3, window=4)

        def step(batch: float) -> StepResult:
            loss = float(weight.data[0, 0] ** 2 + batch)
            weight.grad = 2 * weight.data
            if guard.spiked(loss):
                return StepResult(loss, weight=0, updated=False)
            optimizer.step()
            return StepResult(loss)

        data = [1.0, 1.1, 0.9, 50.0, 1.0, 60.0, 1.0]
        return Trainer(step, data, epochs=2, model=model, optimizer=optimizer, callbacks=[guard])

    assert_resumes_exactly(build, cuts=[3, 4, 5, 6, 10])


def test_processes_that_are_asked_about_the_same_losses_skip_alike() -> None:
    def fit(group: Any) -> tuple[list[bool], int]:
        guard = SpikeGuard(warmup=2)
        found = trained(guard, [1, 1, 7, 1], epochs=2, group=group)[0]
        return found, guard.spikes

    assert run_in_threads(2, fit) == [([False, False, True, False] * 2, 2)] * 2


def test_processes_end_a_run_of_spikes_alike() -> None:
    def fit(group: Any) -> tuple[list[bool], str, str | None]:
        guard = SpikeGuard(warmup=2, patience=3)
        found, history = trained(guard, [1, 1, *[7] * 30], epochs=2, group=group)
        return found, history.status, history.reason

    one, other = run_in_threads(2, fit)
    assert one == other
    assert one[1:] == ("stopped", "3 spikes in a row, the last a loss of 7 in step 5")


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
