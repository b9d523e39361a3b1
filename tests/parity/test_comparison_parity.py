"""Two runs of PyTorch, compared by their logs and in lockstep."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from lucid_train import StepStart, Trainer  # noqa: E402
from lucid_train.callbacks import Checkpoint, ExponentialLRCallback  # noqa: E402
from lucid_train.callbacks.event_log import EventLog  # noqa: E402
from lucid_train.cli.main import main  # noqa: E402
from lucid_train.recording.comparison import Comparison, compare_logs  # noqa: E402
from lucid_train.testing import first_divergence  # noqa: E402
from tests.support.event_logs import SILENT, lines  # noqa: E402


def build(
    path: Path,
    *callbacks: Any,
    seed: int = 0,
    dropout: int = 0,
    lr: float = 0.01,
    nudge: int | None = None,
    digests: int = 1,
    workers: int = 0,
) -> Trainer:
    """Return a Trainer of a small network with dropout, on shuffled batches: four steps per epoch, three epochs."""
    inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    torch.manual_seed(dropout)
    order = torch.Generator().manual_seed(seed)
    loader = torch.utils.data.DataLoader(inputs, 4, shuffle=True, generator=order, num_workers=workers)
    done = 0

    def step(batch: Any) -> Any:
        nonlocal done
        done += 1
        loss = (model(batch) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if done == nudge:
            with torch.no_grad():
                weight = model[2].weight
                weight[0, 1] = torch.nextafter(weight[0, 1], torch.tensor(torch.inf))
        return loss

    log = EventLog(path, digests=digests, **SILENT)
    return Trainer(
        step,
        loader,
        epochs=3,
        model=model,
        optimizer=optimizer,
        callbacks=[ExponentialLRCallback(0.5), *callbacks, log],
    )


@pytest.fixture
def compared(tmp_path: Path) -> Callable[..., Comparison]:
    """Return what trains a run as it is and one that is changed, and compares their logs."""

    def compare(digests: int = 1, **changes: Any) -> Comparison:
        build(tmp_path / "a.jsonl", digests=digests).fit()
        build(tmp_path / "b.jsonl", digests=digests, **changes).fit()
        return compare_logs(tmp_path / "a.jsonl", tmp_path / "b.jsonl")

    return compare


def test_two_runs_of_one_program_agree(compared: Callable[..., Comparison]) -> None:
    comparison = compared()
    assert (comparison.agrees, comparison.compared) == (True, 1 + 12 + 3)
    assert "generator torch" in comparison.pairs[0].one.facts


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"seed": 1}, "batch"), ({"dropout": 1}, "generator torch"), ({"lr": 0.02}, "rate")],
    ids=["seed", "dropout", "rate"],
)
def test_what_differs_from_the_first_step_on_is_named(
    compared: Callable[..., Comparison], changes: dict[str, Any], name: str
) -> None:
    comparison = compared(**changes)
    assert comparison.first is not None
    assert (str(comparison.first), next(iter(comparison.first.differing))) == ("step 1", name)
    assert bool(comparison.setup) is (name == "rate")


@pytest.mark.parametrize(("digests", "step"), [(1, 7), (4, 8)])
def test_a_weight_that_is_off_by_one_bit_is_found_at_the_next_digest(
    compared: Callable[..., Comparison], digests: int, step: int
) -> None:
    comparison = compared(digests, nudge=7)
    assert comparison.first is not None
    assert str(comparison.first) == f"step {step}"
    assert "weights" in comparison.first.differing


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_agrees_with_one_that_was_not_interrupted(
    tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    saved = partial(Checkpoint, every=3, interval="step")
    build(a, saved(tmp_path / "a"), workers=workers).fit()
    cut = build(b, saved(tmp_path / "b"), workers=workers)

    @cut.on(StepStart, at=8)
    def die(event: StepStart) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.fit()
    build(b, saved(tmp_path / "b"), workers=workers).fit(resume=tmp_path / "b")
    assert main(["diff", str(a), str(b)]) == 0
    assert capsys.readouterr().out.startswith("Nothing differs in 16 moments")
    assert [line["step"] for line in lines(b) if line["event"] == "digests"] == list(range(1, 13))


def test_first_divergence_names_the_tensor(tmp_path: Path) -> None:
    run = partial(build, tmp_path / "run.jsonl")
    before = torch.get_rng_state()
    assert first_divergence(run, run) is None
    assert str(first_divergence(run, partial(run, dropout=1))) == "step 1: generator torch, one state and another"
    found = first_divergence(run, partial(run, nudge=7))
    assert found is not None
    assert (found.step, found.what) == (7, "model.2.weight")
    assert found.largest is not None
    assert 0 < found.largest < 1e-6
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64", "int64", "bool"])
def test_the_largest_difference_is_of_tensors_of_any_type(dtype: str) -> None:
    def trainer(value: int) -> Trainer:
        class Holder:
            def state_dict(self) -> dict[str, Any]:
                return {"a": torch.tensor([1, value]).to(getattr(torch, dtype))}

            def load_state_dict(self, state: dict[str, Any]) -> None:
                del state

        return Trainer(lambda batch: None, [1], model=Holder())

    found = first_divergence(partial(trainer, 0), partial(trainer, 1))
    assert str(found) == "before step 1: model.a, largest difference 1"
