"""The recipes for PyTorch among the examples do what they say, and runs of them are resumed exactly."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from lucid_train import EpochStart, StepEnd
from lucid_train.testing import assert_resumes_exactly, diff_states
from tests.support.examples import EXAMPLES, load_example

recipes = load_example("torch_recipes")


@pytest.mark.parametrize("name", recipes.recipes)
def test_a_run_of_a_recipe_is_resumed_exactly(name: str) -> None:
    assert_resumes_exactly(recipes.recipes[name], cuts=[7])


def test_autocast_and_channels_last_and_a_compiler_change_the_numbers_little() -> None:
    losses = {
        name: recipes.recipes[name]().fit()[0].metrics["loss"]
        for name in ("device", "bfloat16", "channels_last", "compiled")
    }
    assert list(losses.values()) == pytest.approx([losses["device"]] * 4, rel=0.01)
    assert losses["bfloat16"] != losses["device"] == losses["compiled"]


def test_a_skipped_update_in_float16_does_not_advance_the_schedule() -> None:
    trainer = recipes.float16()
    updated: list[bool] = []
    trainer.on(StepEnd)(lambda event: updated.append(event.updated))
    trainer.fit()
    [schedule], scaler = trainer.callbacks, trainer.extras["scaler"]
    skipped = updated.count(False)
    assert 0 < skipped < 19
    assert schedule.scheduler.last_epoch == updated.count(True) == 19 - skipped
    assert scaler.get_scale() == 2.0 ** (24 - skipped)


def test_the_norm_that_is_reported_is_that_before_it_was_clipped() -> None:
    trainer = recipes.clipping()
    pairs: list[tuple[float, float]] = []

    @trainer.on(StepEnd)
    def compare(event: StepEnd) -> None:
        left = float(clip_grad_norm_(trainer.model.parameters(), float("inf")))
        pairs.append((min(1.0, float(event.metrics["grad_norm"])), left))

    trainer.fit()
    assert len(pairs) == 19
    for reported, left in pairs:
        assert left == pytest.approx(reported, rel=1e-4)


def test_channels_come_last_in_memory_all_through_the_network() -> None:
    trainer = recipes.channels_last()
    orders: list[bool] = []
    trainer.model[0].register_forward_hook(
        lambda module, inputs, output: orders.append(output.is_contiguous(memory_format=torch.channels_last))
    )
    trainer.fit()
    assert orders == [True] * 19


def test_what_is_frozen_neither_learns_nor_counts_and_the_rest_is_trained_with_its_dropout() -> None:
    trainer = recipes.freezing()
    before = copy.deepcopy(trainer.model.state_dict())
    modes: list[tuple[bool, bool]] = []
    trainer.on(StepEnd)(lambda event: modes.append((trainer.model[0][1].training, trainer.model[2].training)))
    trainer.on(EpochStart)(lambda event: modes.append((trainer.model[0][1].training, trainer.model[2].training)))
    trainer.fit(2)
    changed = diff_states(before, trainer.model.state_dict())
    assert (changed, set(modes)) == (["3.bias", "3.weight"], {(False, True)})


def group_of(*sizes: int) -> list[list[torch.Tensor]]:
    rows = torch.arange(sum(sizes)).split(list(sizes))
    return [list(recipes.DATA[indices]) for indices in rows]


def test_a_group_is_trained_on_as_one_batch_though_its_last_one_is_short() -> None:
    one, other = (recipes.network().eval() for _ in range(2))
    group = group_of(16, 16, 16, 5)
    result = recipes.accumulated(one, recipes.sgd(one), group)
    whole = [torch.cat(parts) for parts in zip(*group, strict=True)]
    expected = recipes.accumulated(other, recipes.sgd(other), [whole])
    assert (float(result.metrics), result.weight) == (pytest.approx(float(expected.metrics), rel=1e-5), 53)
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_gradients_are_added_up_across_processes_once_per_group() -> None:
    counts: list[int] = []

    def counted(state, bucket):  # type: ignore[no-untyped-def]  # PyTorch accepts no other annotations than its own
        counts.append(bucket.index())
        return default_hooks.allreduce_hook(state, bucket)

    plain = recipes.network().eval()
    model = DistributedDataParallel(recipes.network().eval())
    model.register_comm_hook(None, counted)
    for group in (group_of(16, 16, 16, 16), group_of(16, 3)):
        recipes.accumulated(model, recipes.sgd(model), group)
        recipes.accumulated(plain, recipes.sgd(plain), group)
    assert counts == [0, 0]
    assert diff_states(plain.state_dict(), model.module.state_dict()) == []


def test_the_cnn_with_everything_around_it_has_at_most_60_lines() -> None:
    assert len((EXAMPLES / "torch_cnn.py").read_text(encoding="utf-8").splitlines()) <= 60
