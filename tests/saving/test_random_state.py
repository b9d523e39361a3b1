from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from lucid_train.saving.random_state import RandomState, changed, is_generator, replaced

GENERATORS: dict[str, Any] = {
    "python": random.Random(1),
    "pcg": np.random.default_rng(1),
    "mt": np.random.Generator(np.random.MT19937(1)),
    "philox": np.random.Generator(np.random.Philox(1)),
    "sfc": np.random.Generator(np.random.SFC64(1)),
    "old": np.random.RandomState(1),
}


def drawn(generator: Any) -> list[float]:
    normal = generator.gauss if isinstance(generator, random.Random) else generator.normal
    return [float(normal(0, 1)) for _ in range(3)]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_goes_on_where_it_was(name: str) -> None:
    generator = GENERATORS[name]
    assert is_generator(generator)
    chance = RandomState({name: generator})
    drawn(generator)
    state = json.loads(json.dumps(chance.read()))
    expected = drawn(generator)
    chance.write(state)
    assert drawn(generator) == expected


def test_pythons_and_numpys_own_go_on_too() -> None:
    chance = RandomState()
    random.gauss(0, 1)
    np.random.normal()
    state = json.loads(json.dumps(chance.read()))
    expected = random.gauss(0, 1), random.random(), np.random.normal(), np.random.rand()
    chance.write(state)
    assert (random.gauss(0, 1), random.random(), np.random.normal(), np.random.rand()) == expected


def test_a_state_that_does_not_fit_is_refused() -> None:
    chance = RandomState({"mine": random.Random(0)})
    state = chance.read()
    with pytest.raises(ValueError, match="own generators does not fit: 'mine' is unknown"):
        RandomState().write(state)
    with pytest.raises(ValueError, match="the random state does not fit: 'numpy' is missing"):
        chance.write({name: value for name, value in state.items() if name != "numpy"})
    with pytest.raises(ValueError, match="the random state of the run's own generators must be a dict: 3"):
        chance.write({**state, "own": 3})
    with pytest.raises(ValueError, match="the random state must be a dict: None"):
        chance.write(None)  # type: ignore[arg-type]  # as a damaged file may have it
    with pytest.raises(ValueError, match="the random state does not fit: 'alien' is unknown"):
        chance.write({**state, "alien": 3})
    with pytest.raises(ValueError, match="the random state does not fit"):
        chance.write({**state, "python": [1]})
    with pytest.raises(ValueError, match="the random state does not fit: ValueError: state dictionary is not valid"):
        chance.write({**state, "numpy": {}})


def test_what_is_no_generator_is_not_taken_for_one() -> None:
    assert not is_generator(1)
    assert not is_generator(random)


def test_what_has_changed_is_named_and_put_in_its_place() -> None:
    chance = RandomState({"mine": random.Random(0), "other": np.random.default_rng(0)})
    before = chance.read()
    chance.own["mine"].random()
    np.random.rand()
    after = chance.read()
    part = changed(before, after)
    assert list(part) == ["numpy", "own.mine"]
    assert replaced(after, part) == before
    assert changed(before, before) == {}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_begins_at_a_seed_and_no_other_does(name: str) -> None:
    chance = RandomState({name: GENERATORS[name], "still": random.Random(0)})
    before = chance.read()
    drawn_at = []
    for seed in (1, 2, 1):
        chance.reseed([f"own.{name}"], seed)
        assert changed(before, chance.read()).keys() <= {f"own.{name}"}
        drawn_at.append(drawn(GENERATORS[name]))
    assert drawn_at[0] == drawn_at[2] != drawn_at[1]


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_the_children_of_a_generator_go_on_where_they_were(bits: Any) -> None:
    first, second = np.random.Generator(bits([1, 2])), np.random.Generator(bits())
    first.spawn(3)
    second.spawn(5)
    state = json.loads(json.dumps(RandomState({"mine": first}).read()))
    RandomState({"mine": second}).write(state)
    [ours], [theirs] = first.spawn(1), second.spawn(1)
    assert (theirs.bit_generator.seed_seq.spawn_key, theirs.random()) == ((3,), ours.random())  # type: ignore[attr-defined]
    assert second.random() == first.random()


@pytest.mark.parametrize(
    "seeds",
    [{"entropy": "x"}, {"n_children_spawned": -1}, {"n_children_spawned": 10**30}, {"spawn_key": 1.5}, {"a": 1}],
)
def test_seeds_that_do_not_fit_are_refused(seeds: Any) -> None:
    state = RandomState({"mine": np.random.default_rng(1)}).read()
    state["own"]["mine"]["seeds"] |= seeds
    with pytest.raises(ValueError, match="the random state does not fit: "):
        RandomState({"mine": np.random.default_rng(2)}).write(state)


def test_a_pool_of_a_billion_costs_nothing() -> None:
    state = RandomState({"mine": np.random.default_rng(1)}).read()
    state["own"]["mine"]["seeds"]["pool_size"] = 10**9
    mine = np.random.default_rng(2)
    RandomState({"mine": mine}).write(state)
    assert mine.random() == np.random.default_rng(1).random()
