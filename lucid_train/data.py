"""Mini-batches of arrays, and the handwritten digits that come with the package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from importlib.resources import files
from io import BytesIO
from typing import Any, Generic, NamedTuple, TypeVar, cast, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lucid_train.validation import check_entries, flag, real_number, whole_number

__all__ = ["Batches", "Digits", "batches", "digits"]

Batch = TypeVar("Batch")


@overload
def batches(
    array: ArrayLike, /, *, batch_size: int, shuffle: bool = True, seed: int = 0, drop_last: bool = False
) -> Batches[NDArray[Any]]: ...


@overload
def batches(
    *arrays: ArrayLike, batch_size: int, shuffle: bool = True, seed: int = 0, drop_last: bool = False
) -> Batches[tuple[NDArray[Any], ...]]: ...


def batches(
    *arrays: ArrayLike, batch_size: int, shuffle: bool = True, seed: int = 0, drop_last: bool = False
) -> Batches[Any]:
    """Split arrays into mini-batches, in a new order at every pass.

    Args:
        *arrays: Arrays of equal length n, at least 1; row i of each belongs to the same example.
        batch_size: Rows per batch; the last batch of a pass may have fewer. At least 1.
        shuffle: Whether to draw a new order for each pass, or to keep the order of the arrays.
        seed: Seed of the orders. At least 0.
        drop_last: Whether to leave out a last batch with fewer rows.

    Returns:
        The batches, sized and re-iterable: arrays if one was given, else tuples of arrays.

    >>> train = batches([10, 20, 30], ["a", "b", "c"], batch_size=2, shuffle=False)
    >>> len(train)
    2
    >>> for numbers, letters in train:
    ...     print(numbers, letters)
    [10 20] ['a' 'b']
    [30] ['c']
    """
    return Batches(arrays, batch_size=batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)


@final
class Batches(Generic[Batch]):
    """What `batches` returns. The arrays are not copied; every batch is a copy of their rows.

    A pass begins with the request for its first batch. A pass that is left early is over: the next `iter` starts a new
    one.
    """

    def __init__(
        self, arrays: tuple[ArrayLike, ...], *, batch_size: int, shuffle: bool, seed: int, drop_last: bool
    ) -> None:
        self._arrays = tuple(np.asarray(array) for array in arrays)
        self._rows = _common_length(self._arrays)
        self.batch_size = whole_number("batch_size", batch_size, least=1)
        self.shuffle, self.drop_last = flag("shuffle", shuffle), flag("drop_last", drop_last)
        if drop_last and self.batch_size > self._rows:
            rule = f"<= {self._rows}, the length of the arrays, with drop_last=True"
            raise ValueError(f"'batch_size' must be {rule}: {self.batch_size}")
        self._rng = np.random.default_rng(whole_number("seed", seed, least=0))
        self._latest, self._to_skip = self._pass_from(0), 0

    def __len__(self) -> int:
        """The number of batches in a whole pass."""
        return self._rows // self.batch_size if self.drop_last else -(-self._rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # With several passes open, or one that continues after `load_state_dict`, the state is that of the latest.
        this = self._latest = self._pass_from(self._to_skip)
        order = self._rng.permutation(self._rows) if self.shuffle else np.arange(self._rows)
        self._to_skip = 0
        for number in range(this["done"], len(self)):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            batch = tuple(array[rows] for array in self._arrays)
            this["done"] = number + 1
            yield cast(Batch, batch if len(batch) > 1 else batch[0])
        if this is self._latest:
            self._latest = self._pass_from(0)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the latest pass as plain JSON; a batch counts as done once it is yielded."""
        return {**self._settings(), **deepcopy(self._latest)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state: the next pass yields the rest of the saved one, and the passes after it are the same.

        A state taken during the last batch has no batches left: the next pass is empty. A state taken after the loop
        has ended is at the start of the next pass.

        Args:
            state: What `state_dict` returned, for the same number of rows and the same settings.

        Raises:
            ValueError: If an entry is missing, unknown, or in conflict with the settings. Nothing has changed then.
        """
        check_entries("the state of the batches", state, self.state_dict())
        for name, setting in self._settings().items():
            if state[name] != setting:
                raise ValueError(f"{name!r} in the state must be {setting}, as it is here: {state[name]!r}")
        done = state["done"]
        if type(done) is not int or not 0 <= done <= len(self):
            raise ValueError(f"'done' in the state must be from 0 to {len(self)}, the batches of a pass: {done!r:.80}")
        rng = deepcopy(self._rng)
        try:
            rng.bit_generator.state = state["generator"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"'generator' in the state must be one of numpy's PCG64: {state['generator']}") from error
        self._rng = rng
        self._latest, self._to_skip = self._pass_from(done), done

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._settings().items())
        return f"Batches({settings})"

    def _pass_from(self, done: int) -> dict[str, Any]:
        # The order of a pass is not stored: it follows from the generator's state before the pass.
        return {"generator": self._rng.bit_generator.state, "done": done}

    def _settings(self) -> dict[str, Any]:
        return {"rows": self._rows, "batch_size": self.batch_size, "shuffle": self.shuffle, "drop_last": self.drop_last}


class Digits(NamedTuple):
    """Images of shape (n, 64), float64 from 0 to 1, and their classes of shape (n,), int64 from 0 to 9."""

    train_images: NDArray[np.float64]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float64]
    test_labels: NDArray[np.int64]


def digits(seed: int = 0, held_out: float = 1 / 3) -> Digits:
    """Return 1,797 handwritten digits of 8 x 8 pixels, split at random into a training set and a test set.

    They are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI
    Machine Learning Repository, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0,
    https://creativecommons.org/licenses/by/4.0/legalcode.

    Args:
        seed: Seed of the split. At least 0.
        held_out: Share of the digits in the test set. Above 0, below 1; each set gets at least one digit.

    >>> train_images, train_labels, test_images, test_labels = digits()
    >>> train_images.shape, test_labels.shape
    ((1198, 64), (599,))
    """
    whole_number("seed", seed, least=0)
    real_number("held_out", held_out, above=0, below=1)
    packed = files("lucid_train").joinpath("digits.npz").read_bytes()
    with np.load(BytesIO(packed), allow_pickle=False) as arrays:
        images, labels = arrays["images"] / 16, arrays["labels"].astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    size = min(max(round(held_out * len(images)), 1), len(images) - 1)
    test, train = order[:size], order[size:]
    return Digits(images[train], labels[train], images[test], labels[test])


def _common_length(arrays: tuple[NDArray[Any], ...]) -> int:
    if not arrays:
        raise TypeError("'arrays' must hold at least one array: ()")
    for array in arrays:
        if not array.ndim:
            raise TypeError(f"'arrays' must have rows: {array!r}")
    lengths = list(map(len, arrays))
    if len(set(lengths)) > 1:
        raise ValueError(f"'arrays' must have one length: {', '.join(map(str, lengths))}")
    if not lengths[0]:
        raise ValueError("'arrays' must have at least one row: 0")
    return lengths[0]
