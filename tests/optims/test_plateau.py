"""ReduceLROnPlateau: what counts as a plateau, what the state holds, what cannot be known."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_train.optims.lr_scheduler import ReduceLROnPlateau
from tests.support.optimizers import Bare


def walk(scheduler: ReduceLROnPlateau, losses: list[float]) -> list[float]:
    seen = []
    for loss in losses:
        scheduler.step(loss)
        seen.append(scheduler.last_lr[0])
    return seen


@pytest.mark.parametrize(
    ("settings", "losses", "expected"),
    [
        ({"patience": 1}, [1, 1, 1, 1, 1], [1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 0}, [1, 0.99995, 0.5, math.nan], [1, 0.5, 0.5, 0.25]),
        ({"patience": 0, "mode": "max"}, [1, 1.2, 1.2, 1.1], [1, 1, 0.5, 0.25]),
        ({"patience": 0, "threshold": 0.25, "threshold_mode": "abs"}, [1, 0.8, 0.7], [1, 0.5, 0.5]),
        ({"patience": 0, "cooldown": 2}, [1, 1, 1, 1, 1], [1, 0.5, 0.5, 0.5, 0.25]),
        ({"patience": 0, "min_lr": 0.4}, [1, 1, 1, 1], [1, 0.5, 0.4, 0.4]),
        ({"patience": 0, "eps": 0.3}, [1, 1, 1], [1, 0.5, 0.5]),
    ],
)
def test_rates_by_hand(settings: dict[str, Any], losses: list[float], expected: list[float]) -> None:
    assert walk(ReduceLROnPlateau(Bare(1.0), factor=0.5, **settings), losses) == expected


@given(losses=st.lists(st.floats(-1, 1), max_size=30), cut=st.integers(0, 30))
def test_any_cut_resumes_to_the_bit(losses: list[float], cut: int) -> None:
    def build() -> ReduceLROnPlateau:
        return ReduceLROnPlateau(Bare(0.7), factor=0.3, patience=1, cooldown=1)

    straight = walk(build(), losses)
    scheduler = build()
    seen = walk(scheduler, losses[:cut])
    state = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
    scheduler = build()
    scheduler.load_state_dict(state)
    assert seen + walk(scheduler, losses[cut:]) == straight


def test_built_anew_it_starts_from_the_base_rate() -> None:
    optimizer = Bare(1.0)
    walk(ReduceLROnPlateau(optimizer, patience=0), [1, 1, 1])
    assert ReduceLROnPlateau(optimizer).last_lr == [1.0]


def test_a_group_added_later_starts_at_its_own_rate() -> None:
    optimizer = Bare(1.0)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    walk(scheduler, [1, 1])
    optimizer.param_groups.append({"lr": 0.25})
    scheduler.step(1)
    assert scheduler.last_lr == [0.25, 0.125]


def test_only_the_present_epoch_is_known() -> None:
    scheduler = ReduceLROnPlateau(Bare(1.0), patience=0)
    scheduler.step(1)
    assert scheduler.lr_at(1) == [1.0]
    with pytest.raises(ValueError, match="'t' must be 1, as ReduceLROnPlateau follows a metric: 2"):
        scheduler.lr_at(2)


@pytest.mark.parametrize("metric", [None, "1", [1]])
def test_what_is_no_number_is_refused(metric: Any) -> None:
    with pytest.raises(TypeError, match="'metrics' must be a number"):
        ReduceLROnPlateau(Bare(1.0)).step(metric)
