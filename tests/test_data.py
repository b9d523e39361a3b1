"""Mini-batches, their state, and the digits."""

import json
import pickle
import random
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lucid_train import Trainer, nn
from lucid_train.data import Batches, batches, digits, seeded
from lucid_train.optims import SGD
from lucid_train.optims.lr_scheduler import CosineAnnealingLR


def listed(passed: Any) -> list[list[int]]:
    return [batch.tolist() for batch in passed]


def numbers(rows: int = 10, **options: Any) -> Batches[NDArray[Any]]:
    return batches(np.arange(rows), **{"batch_size": 3, **options})


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    restored: dict[str, Any] = json.loads(json.dumps(state))
    return restored


def test_without_shuffling_batches_are_the_rows_in_order() -> None:
    data = numbers(shuffle=False)
    assert (len(data), listed(data)) == (4, [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]])
    assert listed(data) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_drop_last_leaves_out_a_short_batch() -> None:
    data = numbers(shuffle=False, drop_last=True)
    assert (len(data), listed(data)) == (3, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])


def test_several_arrays_come_as_tuples_of_matching_rows() -> None:
    rows = np.arange(10)
    seen = list(batches(rows, np.stack([rows, 10 * rows], axis=1), (100 * rows).tolist(), batch_size=4))
    assert [len(batch) for batch in seen] == [3, 3, 3]
    for first, second, third in seen:
        assert (second.tolist(), third.tolist()) == ([[n, 10 * n] for n in first], (100 * first).tolist())


@given(rows=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 2**64), drop=st.booleans())
def test_a_pass_hands_out_every_row_once(rows: int, size: int, seed: int, drop: bool) -> None:
    data = numbers(rows, batch_size=size, seed=seed, drop_last=drop and size <= rows)
    for _ in range(2):
        seen = listed(data)
        flat = [row for batch in seen for row in batch]
        assert len(seen) == len(data)
        assert len(set(flat)) == len(flat) == (rows // size * size if drop and size <= rows else rows)


def test_every_pass_has_an_order_of_its_own_and_the_seed_fixes_them_all() -> None:
    data, same, other = numbers(seed=1), numbers(seed=1), numbers(seed=2)
    passes = [listed(data) for _ in range(3)]
    assert passes == [listed(same) for _ in range(3)]
    assert passes[0] != passes[1] != passes[2]
    assert passes[0] != listed(other)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_alias_and_change_nothing(shuffle: bool) -> None:
    rows = np.arange(10)
    data = batches(rows, batch_size=3, shuffle=shuffle)
    for batch in data:
        batch += 100
    assert rows.tolist() == list(range(10))


@given(
    rows=st.integers(1, 12),
    size=st.integers(1, 5),
    whole=st.integers(0, 2),
    part=st.integers(0, 12),
    shuffle=st.booleans(),
)
def test_a_state_goes_on_in_the_middle_of_a_pass(rows: int, size: int, whole: int, part: int, shuffle: bool) -> None:
    original, resumed = (numbers(rows, batch_size=size, shuffle=shuffle) for _ in range(2))
    for _ in range(whole):
        list(original)
    passing = iter(original)
    for _ in range(min(part, len(original))):
        next(passing)
    resumed.load_state_dict(through_json(original.state_dict()))
    assert [listed(resumed) for _ in range(3)] == [listed(passing), listed(original), listed(original)]


def test_a_state_counts_the_batch_that_has_been_handed_out() -> None:
    data = numbers()
    before = data.state_dict()
    seen = [data.state_dict()["done"] for _ in data]
    assert (before["done"], seen, data.state_dict()["done"]) == (0, [1, 2, 3, 4], 0)


def test_the_state_of_the_last_batch_has_nothing_left_and_then_comes_the_next_pass() -> None:
    original, resumed = numbers(), numbers()
    passing = iter(original)
    for _ in range(4):
        next(passing)
    resumed.load_state_dict(original.state_dict())
    assert (listed(resumed), listed(resumed)) == ([], listed(original))


def test_a_loaded_state_can_be_read_and_loaded_again() -> None:
    original, second, third = numbers(), numbers(), numbers()
    passing = iter(original)
    next(passing)
    second.load_state_dict(original.state_dict())
    assert second.state_dict() == original.state_dict()
    rest = iter(second)
    assert next(rest).tolist() == next(passing).tolist()
    third.load_state_dict(second.state_dict())
    assert listed(third) == listed(rest) == listed(passing)


def test_a_pass_left_early_is_over() -> None:
    left, whole = numbers(), numbers()
    for _ in left:
        break
    listed(whole)
    assert left.state_dict()["done"] == 1
    assert listed(left) == listed(whole)


def test_asking_for_an_iterator_alone_begins_no_pass() -> None:
    asked, plain = numbers(), numbers()
    iter(asked)
    assert listed(asked) == listed(plain)


def test_of_two_passes_at_once_the_state_is_the_later_one_s() -> None:
    data, resumed = numbers(), numbers()
    first, second = iter(data), iter(data)
    next(first)
    next(second)
    listed(first)
    resumed.load_state_dict(data.state_dict())
    assert listed(resumed) == listed(second)


def test_a_state_loaded_inside_a_loop_is_not_spoilt_by_the_rest_of_the_loop() -> None:
    data, expected = numbers(), numbers()
    state = data.state_dict()
    for number, _ in enumerate(data):
        if number == 1:
            data.load_state_dict(state)
    assert data.state_dict() == state
    assert listed(data) == listed(expected)


def test_changing_a_state_changes_no_batches() -> None:
    data = numbers()
    state, kept = data.state_dict(), through_json(data.state_dict())
    state["done"] = 1
    assert data.state_dict() == kept


def test_a_state_is_small_however_many_rows_there_are() -> None:
    assert len(json.dumps(numbers(100_000).state_dict())) < 500


def test_a_pickled_copy_yields_the_same_passes() -> None:
    data = numbers()
    listed(data)
    other = pickle.loads(pickle.dumps(data))
    assert [listed(other), listed(other)] == [listed(data), listed(data)]


def test_repr_shows_the_settings() -> None:
    assert repr(numbers()) == "Batches(rows=10, batch_size=3, shuffle=True, seed=0, last='short')"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rows": 11}, ValueError, "'rows' in the state must be 10, as it is here: 11"),
        ({"batch_size": 4}, ValueError, "'batch_size' in the state must be 3, as it is here: 4"),
        ({"shuffle": False}, ValueError, "'shuffle' in the state must be True, as it is here: False"),
        ({"done": 5}, ValueError, "'done' in the state must be from 0 to 4, the batches of a pass: 5"),
        ({"done": -1}, ValueError, "'done' in the state must be from 0 to 4, the batches of a pass: -1"),
        ({"done": 1.5}, ValueError, "'done' in the state must be from 0 to 4, the batches of a pass: 1.5"),
        ({"seed": 1}, ValueError, "'seed' in the state must be 0, as it is here: 1"),
        ({"last": "pad"}, ValueError, "'last' in the state must be 'short', as it is here: 'pad'"),
        ({"epoch": -1}, ValueError, "'epoch' in the state must be an int of at least 0: -1"),
        ({"epoch": "1"}, ValueError, "'epoch' in the state must be an int of at least 0: '1'"),
        ({"more": 0}, ValueError, "the state of the batches does not fit: 'more' is unknown"),
        ({"done": None}, ValueError, "the state of the batches does not fit: 'done' is missing"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    data = numbers()
    before = data.state_dict()
    state = {name: value for name, value in (before | change).items() if value is not None}
    with pytest.raises(error, match=message):
        data.load_state_dict(state)
    assert data.state_dict() == before


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((), {}, TypeError, r"'arrays' must hold at least one array: \(\)"),
        ((3,), {}, TypeError, r"'arrays' must have rows: array\(3\)"),
        (([1, 2], [1]), {}, ValueError, "'arrays' must have one length: 2, 1"),
        (([],), {}, ValueError, "'arrays' must have at least one row: 0"),
        (([1],), {"batch_size": 0}, ValueError, "'batch_size' must be >= 1: 0"),
        (([1],), {"batch_size": True}, TypeError, "'batch_size' must be an int: True"),
        (([1],), {"batch_size": 2.0}, TypeError, "'batch_size' must be an int: 2.0"),
        (([1],), {"drop_last": True}, ValueError, "'batch_size' must be <= 1, .* with last='drop': 3"),
        (([1],), {"last": "drop"}, ValueError, "'batch_size' must be <= 1, .* with last='drop': 3"),
        (([1],), {"last": "keep"}, ValueError, "'last' must be one of 'short', 'drop', 'pad': 'keep'"),
        (([1],), {"last": "pad", "drop_last": True}, ValueError, "'last' must be left out with drop_last=True: 'pad'"),
        (([1],), {"drop_last": 1}, TypeError, "'drop_last' must be True or False: 1"),
        (([1],), {"shuffle": None}, TypeError, "'shuffle' must be True or False: None"),
        (([1],), {"seed": -1}, ValueError, "'seed' must be >= 0: -1"),
        (([1],), {"seed": None}, TypeError, "'seed' must be an int: None"),
    ],
)
def test_bad_arguments_are_refused(
    arrays: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        batches(*arrays, **{"batch_size": 3, **options})


def test_digits_are_1797_images_from_0_to_1_in_ten_classes() -> None:
    split = digits()
    assert [array.shape for array in split] == [(1198, 64), (1198,), (599, 64), (599,)]
    assert [array.dtype for array in split] == [np.float64, np.int64, np.float64, np.int64]
    images = np.concatenate([split.train_images, split.test_images])
    labels = np.concatenate([split.train_labels, split.test_labels])
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (images * 16).sum() == 561718


def test_the_split_of_the_digits_follows_from_the_seed() -> None:
    assert all(map(np.array_equal, digits(seed=3), digits(seed=3)))
    assert not np.array_equal(digits(seed=3).test_images, digits(seed=4).test_images)


@given(held_out=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_both_parts_of_the_digits_have_at_least_one(held_out: float) -> None:
    split = digits(held_out=held_out)
    assert len(split.train_labels) + len(split.test_labels) == 1797
    assert len(split.test_labels) == min(max(round(held_out * 1797), 1), 1796)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"held_out": 0}, ValueError, "'held_out' must be > 0 and < 1: 0"),
        ({"held_out": 1}, ValueError, "'held_out' must be > 0 and < 1: 1"),
        ({"held_out": "half"}, TypeError, "'held_out' must be a number: 'half'"),
        ({"seed": -1}, ValueError, "'seed' must be >= 0: -1"),
        ({"seed": True}, TypeError, "'seed' must be an int: True"),
    ],
)
def test_bad_arguments_of_the_digits_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        digits(**options)


def test_the_digits_are_shipped_small_with_source_and_licence() -> None:
    folder = files("lucid_train")
    assert len(folder.joinpath("digits.npz").read_bytes()) < 150_000
    licence = folder.joinpath("digits.LICENSE.txt").read_text(encoding="utf-8")
    for fact in ("Alpaydin", "Kaynak", "https://doi.org/10.24432/C50P49", "CC BY 4.0"):
        assert fact in licence
        assert fact in str(digits.__doc__)


def train_on_digits(seed: int) -> tuple[float, list[NDArray[Any]]]:
    """Train a perceptron for 30 epochs; return its accuracy on the held-out digits and its parameters."""
    split, rng = digits(seed), np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(64, 64, rng=rng), nn.ReLU(), nn.Linear(64, 10, rng=rng))
    optimizer, criterion = SGD(model.parameters(), lr=0.2, momentum=0.9), nn.CrossEntropyLoss()
    scheduler = CosineAnnealingLR(optimizer, T_max=30)
    data = batches(split.train_images, split.train_labels, batch_size=32, seed=seed)
    for _ in range(30):
        for images, labels in data:
            optimizer.zero_grad()
            criterion(model(images), labels)
            model.backward(criterion.backward())
            optimizer.step()
        scheduler.step()
    hits = model(split.test_images).argmax(axis=1) == split.test_labels
    return float(hits.mean()), [parameter.data for parameter in model.parameters()]


def test_a_perceptron_learns_the_digits_to_the_same_last_bit_each_time() -> None:
    accuracy, values = train_on_digits(0)
    again, same = train_on_digits(0)
    assert accuracy == again >= 0.96
    assert all(map(np.array_equal, values, same))


class Noisy(list[float]):
    """Draws for each sample."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index) + random.random() + np.random.rand()


def test_seeded_samples_are_the_same_in_any_order_and_differ_between_seeds_epochs_and_indices() -> None:
    data = seeded(Noisy([0.0] * 4), 3)
    samples = [data[index] for index in range(4)]
    assert [data[index] for index in (3, 1, 2, 0)] == [samples[index] for index in (3, 1, 2, 0)]
    assert data[np.int64(2)] == samples[2]
    data.set_epoch(1)
    later = [data[index] for index in range(4)]
    other = [seeded(Noisy([0.0] * 4), 4)[index] for index in range(4)]
    assert len({*samples, *later, *other}) == 12
    data.set_epoch(0)
    assert [data[index] for index in range(4)] == samples
    assert (len(data), data.epoch, data.dataset) == (4, 0, [0.0] * 4)


def test_a_seeded_sample_leaves_the_generators_as_they_were() -> None:
    data = seeded(Noisy([0.0]), 0)
    before = random.getstate(), np.random.get_state(legacy=False)
    data[0]
    with pytest.raises(IndexError):
        data[1]
    assert repr((random.getstate(), np.random.get_state(legacy=False))) == repr(before)


def test_the_keys_of_a_seeded_mapping_are_its_indices() -> None:
    class Drawing(dict[str, float]):
        def __getitem__(self, key: str) -> float:
            return super().__getitem__(key) + random.random()

    data = seeded(Drawing(a=0.0, b=0.0), 0)
    assert data["a"] == data["a"] != data["b"]


def test_seeded_is_data_of_a_trainer_which_sets_its_epoch() -> None:
    seen: list[float] = []
    Trainer(seen.append, seeded(Noisy([0.0] * 2), 0), epochs=2).fit()
    data = seeded(Noisy([0.0] * 2), 0)
    expected = [data[0], data[1]]
    data.set_epoch(1)
    assert seen == [*expected, data[0], data[1]]


@pytest.mark.parametrize("dataset", [iter([1]), (number for number in [1]), {1}, 5])
def test_what_has_no_indices_cannot_be_seeded(dataset: Any) -> None:
    with pytest.raises(TypeError, match="'dataset' must have __getitem__ and __len__, a stream must seed itself: "):
        seeded(dataset, 0)
    with pytest.raises(ValueError, match="'seed' must be >= 0: -1"):
        seeded([1], -1)
    with pytest.raises(ValueError, match="'epoch' must be >= 0: -1"):
        seeded([1], 0).set_epoch(-1)
