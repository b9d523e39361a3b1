"""Mini-batches of arrays, groups of batches, data sets with a seed, and the digits that come with the package."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from itertools import islice
from multiprocessing.sharedctypes import RawValue
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast, final, overload

import numpy as np
from attrs import define, field
from numpy.typing import ArrayLike, NDArray

from lucid_train.validation import check_entries, flag, real_number, whole_number

__all__ = ["Batches", "Digits", "Grouped", "Seeded", "batches", "digits", "grouped", "seeded"]

Batch = TypeVar("Batch")
Sample = TypeVar("Sample", covariant=True)


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


def grouped(loader: Iterable[Batch], n: int) -> Grouped[Batch]:
    """Put the batches of a loader together in lists of `n`, so that a step of the Trainer is an update.

    This accumulates gradients: the step is given the micro-batches of one update, calls `backward()` for each of them
    and then updates once. Schedules, events and histories count updates, and a run is saved between updates only. The
    last list of a pass may be shorter: let each loss count by its share of the samples that are in the list.

    Args:
        loader: Any iterable of batches, such as a DataLoader.
        n: Micro-batches per list. At least 1.

    Returns:
        The lists, re-iterable and sized if the loader is. To the Trainer they are the loader: it sets its epoch, saves
        its random generators, and resumes it as it would without groups.

    >>> groups = grouped(["a", "b", "c", "d", "e"], 2)
    >>> len(groups)
    3
    >>> list(groups)
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    return Grouped(loader, n)


@final
class Grouped(Generic[Batch]):
    """What `grouped` returns.

    Attributes:
        loader: The loader.
        n: Micro-batches per list.
    """

    def __init__(self, loader: Iterable[Batch], n: int) -> None:
        if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
            raise TypeError(f"'loader' must be iterable: {loader!r}")
        self.loader, self.n = loader, whole_number("n", n, least=1)
        self._place, self._is_loaded = _Place[Batch](), False

    def __len__(self) -> int:
        """The number of lists in a whole pass; an error as the loader's own if that has no length."""
        return -(-len(cast(Any, self.loader)) // self.n)

    def __iter__(self) -> Iterator[list[Batch]]:
        # As with Batches, the state is that of the latest pass.
        if not self._is_loaded:
            self._place = _Place()
        self._is_loaded = False
        return _Groups(iter(()) if self._place.ended else iter(self.loader), self.n, self._place)

    def set_epoch(self, epoch: int) -> None:
        """Call the loader's `set_epoch`; an AttributeError if it has none."""
        cast(Any, self.loader).set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's state, and what has been taken from it since the last list; an AttributeError without."""
        return {
            "loader": cast(Any, self.loader).state_dict(),
            "begun": list(self._place.begun),
            "ended": self._place.ended,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state: the next pass yields the rest of the saved one.

        Args:
            state: What `state_dict` returned.

        Raises:
            ValueError: If an entry is missing, unknown or not possible with this `n`. Nothing has changed then.
        """
        check_entries("the state of the groups", state, ("loader", "begun", "ended"))
        place = _Place[Batch](state["begun"], state["ended"])
        if not isinstance(place.begun, list) or len(place.begun) >= self.n:
            raise ValueError(
                f"'begun' in the state must be a list of fewer than n={self.n} batches: {place.begun!r:.80}"
            )
        if not isinstance(place.ended, bool):
            raise ValueError(f"'ended' in the state must be True or False: {place.ended!r:.80}")
        cast(Any, self.loader).load_state_dict(state["loader"])
        self._place, self._is_loaded = _Place(list(place.begun), place.ended), True

    def __repr__(self) -> str:
        return f"Grouped({self.loader!r}, n={self.n})"


@define
class _Place(Generic[Batch]):
    """Where a pass in groups stands.

    Attributes:
        begun: What has been taken of the next list. It is not empty if the loader has failed in the middle of one.
        ended: Whether the loader's pass has ended although that of the lists has not: the last one was short.
    """

    begun: list[Batch] = field(factory=list)
    ended: bool = False


class _Groups(Generic[Batch]):
    """A pass in groups. It is no generator, which would be dead once the loader has failed."""

    def __init__(self, passing: Iterator[Batch], n: int, place: _Place[Batch]) -> None:
        self._passing, self._n, self._place = passing, n, place

    def __iter__(self) -> _Groups[Batch]:
        return self

    def __next__(self) -> list[Batch]:
        place = self._place
        if not place.ended:
            for batch in islice(self._passing, self._n - len(place.begun)):
                place.begun.append(batch)
            group, place.begun = place.begun, []
            place.ended = len(group) < self._n
            if group:
                return group
        place.ended, self._passing = False, iter(())
        raise StopIteration


class Samples(Protocol[Sample]):
    """A data set whose samples have indices, as a list or one of PyTorch's map-style data sets."""

    def __getitem__(self, index: Any, /) -> Sample:
        """Return the sample at an index."""


def seeded(dataset: Samples[Sample], seed: int) -> Seeded[Sample]:
    """Let the random numbers that a data set draws for a sample follow from a seed, the epoch and the sample's index.

    Around each sample the generators of Python, numpy and, if it has been imported, PyTorch (on the CPU) are seeded by
    these three, and put back. So a sample is the same in whichever process and order it is read, a resumed run reads
    the samples that the uninterrupted one would have, and the steps may draw from the same generators. The Trainer sets
    the epoch, in workers that outlive a pass too; by hand, `set_epoch` does. Generators of the data set's own are not
    seeded; have it draw from the global ones.

    Args:
        dataset: The data set, before it is given to a DataLoader. A stream (PyTorch's IterableDataset) has no indices;
            let it seed itself by its epoch and its position.
        seed: Seed of the random numbers. At least 0.

    >>> import random
    >>> class Noisy(list):
    ...     def __getitem__(self, index):
    ...         return super().__getitem__(index) + random.random()
    >>> noisy = seeded(Noisy([1, 2, 3]), seed=0)
    >>> noisy[1] == noisy[1]
    True
    >>> first = noisy[1]
    >>> noisy.set_epoch(1)
    >>> noisy[1] == first
    False
    """
    return Seeded(dataset, seed)


@final
class Seeded(Generic[Sample]):
    """What `seeded` returns.

    Attributes:
        dataset: The data set.
    """

    def __init__(self, dataset: Samples[Sample], seed: int) -> None:
        torch = sys.modules.get("torch")
        is_stream = torch is not None and isinstance(dataset, torch.utils.data.IterableDataset)
        if is_stream or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise TypeError(f"'dataset' must have __getitem__ and __len__, a stream must seed itself: {dataset!r}")
        self.dataset = dataset
        self.seed = whole_number("seed", seed, least=0)
        # Shared with the worker processes of a DataLoader, which may outlive an epoch.
        self._epoch = RawValue("q", 0)

    @property
    def epoch(self) -> int:
        """The epoch, from 0."""
        return int(self._epoch.value)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0."""
        self._epoch.value = whole_number("epoch", epoch, least=0)

    def __len__(self) -> int:
        """The number of samples."""
        return len(cast(Any, self.dataset))

    def __getitem__(self, index: Any) -> Sample:
        place = f"{self.seed} {self.epoch} {index if hasattr(index, '__index__') else repr(index)}"
        words = list(memoryview(sha256(place.encode()).digest()).cast("I"))
        torch = sys.modules.get("torch")
        states = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
        random.seed(sum(word << 32 * number for number, word in enumerate(words)))
        np.random.seed(words)
        if torch is not None:
            torch.default_generator.manual_seed(words[0] << 32 | words[1])  # those of devices stay as they are
        try:
            return self.dataset[index]
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            if torch is not None:
                torch.set_rng_state(states[2])

    def __repr__(self) -> str:
        return f"Seeded({self.dataset!r}, seed={self.seed})"


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
