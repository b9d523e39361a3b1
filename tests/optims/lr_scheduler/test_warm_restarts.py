"""CosineAnnealingWarmRestarts between two epochs: `step(epoch)` with a fraction, as in PyTorch's documentation."""

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler
from lucid_train.schedules import WarmRestarts
from tests.support.optimizers import Bare

SCHEDULE = WarmRestarts(3, 2, 0.01)


def built(*rates: float) -> CosineAnnealingWarmRestarts:
    return CosineAnnealingWarmRestarts(Bare(*(rates or (1.0, 0.5))), 3, 2, 0.01)


@given(epochs=st.lists(st.one_of(st.none(), st.integers(0, 40), st.floats(0, 40)), max_size=20))
def test_the_rates_are_those_of_the_time(epochs: list[float | None]) -> None:
    scheduler = built()
    t: float = 0
    for epoch in epochs:
        scheduler.step(epoch)
        t = t + 1 if epoch is None else epoch
        assert scheduler.last_epoch == int(t)
        assert scheduler.last_lr == pytest.approx([SCHEDULE(t), SCHEDULE(t, 0.5)], rel=1e-12)


def test_from_a_fraction_it_goes_on_by_one() -> None:
    scheduler = built(1.0)
    seen = []
    for epoch in (0.5, None, None, 4, None):
        scheduler.step(epoch)
        seen.append((scheduler.last_epoch, scheduler.last_lr))
    assert seen == [(int(t), [SCHEDULE(t)]) for t in (0.5, 1.5, 2.5, 4, 5)]


@pytest.mark.parametrize("epoch", [2, 2.0])
def test_a_whole_epoch_is_one_whatever_its_type(epoch: Any) -> None:
    scheduler = built()
    scheduler.step(0.25)
    scheduler.step(epoch)
    assert (scheduler.last_epoch, scheduler.last_lr) == (2, scheduler.lr_at(2))
    assert scheduler.state_dict() == {
        "T_0": 3,
        "T_mult": 2,
        "eta_min": 0.01,
        "base_lrs": [1.0, 0.5],
        "last_epoch": 2,
    }


EPOCHS = [None, 0.25, 0.5, None, None, 7, None, 8.75, 2.9999, None, 20.5, None]


def test_every_cut_point_resumes_to_the_last_bit_through_json() -> None:
    def walk(scheduler: LRScheduler, epochs: list[Any]) -> list[Any]:
        seen = []
        for epoch in epochs:
            seen.append((scheduler.last_epoch, scheduler.last_lr))
            scheduler.step(epoch)
        return seen

    whole = walk(built(), EPOCHS)
    for cut in range(len(EPOCHS)):
        first, second = built(), built(0.3, 0.2)
        before = walk(first, EPOCHS[:cut])
        state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
        second.load_state_dict(state)
        assert second.state_dict() == state
        assert before + walk(second, EPOCHS[cut:]) == whole


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
@pytest.mark.parametrize("epoch", [0.5, 2])
def test_a_copy_goes_on_from_the_same_place(clone: Any, epoch: float) -> None:
    scheduler = built()
    scheduler.step(epoch)
    twin = clone(scheduler)
    twin.step()
    assert twin.last_lr == [SCHEDULE(epoch + 1), SCHEDULE(epoch + 1, 0.5)]


def test_only_between_two_epochs_the_state_has_the_place() -> None:
    scheduler = built()
    assert "t" not in scheduler.state_dict()
    scheduler.step(1.25)
    assert (scheduler.state_dict()["last_epoch"], scheduler.state_dict()["t"]) == (1, 1.25)
    scheduler.step(3)
    assert "t" not in scheduler.state_dict()


@pytest.mark.parametrize(
    ("epoch", "error", "message"),
    [
        (-1, ValueError, "'epoch' must be >= 0: -1.0"),
        (float("nan"), ValueError, "'epoch' must be >= 0 and finite: nan"),
        (float("inf"), ValueError, "'epoch' must be >= 0 and finite: inf"),
        ("2", TypeError, "'epoch' must be a number: '2'"),
        (True, TypeError, "'epoch' must be a number: True"),
    ],
)
def test_what_is_no_epoch_is_refused(epoch: Any, error: type[Exception], message: str) -> None:
    scheduler = built()
    scheduler.step(1.5)
    with pytest.raises(error, match=f"^{message}$"):
        scheduler.step(epoch)
    assert (scheduler.last_epoch, scheduler.last_lr) == (1, [SCHEDULE(1.5), SCHEDULE(1.5, 0.5)])


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        (2.5, ValueError, "'t' must lie in epoch 1, the state's 'last_epoch': 2.5"),
        (-0.5, ValueError, "'t' must be >= 0: -0.5"),
        (None, TypeError, "'t' must be a number: None"),
    ],
)
def test_a_state_with_another_place_is_refused_and_nothing_has_changed(
    t: Any, error: type[Exception], message: str
) -> None:
    scheduler = built()
    before = scheduler.state_dict()
    with pytest.raises(error, match=f"^{message}$"):
        scheduler.load_state_dict(before | {"last_epoch": 1, "t": t})
    assert (scheduler.state_dict(), scheduler.last_lr) == (before, [1.0, 0.5])


def test_a_jump_warns_where_the_caller_stands() -> None:
    scheduler = built(1.0)
    scheduler.optimizer.param_groups[0]["lr"] = 9.0
    with pytest.warns(UserWarning, match="other code has written it") as caught:
        scheduler.step(0.5)
    assert [warning.filename for warning in caught] == [__file__]
