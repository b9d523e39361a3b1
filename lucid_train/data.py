"""Mini-batches of arrays and of PyTorch's data sets, also for many processes, groups of batches, seeds, and the digits.

The order of the samples in an epoch, counted from 0, follows from the seed and the epoch alone. It is
`np.random.default_rng([seed, epoch]).permutation(n)`, or without shuffling that of the data. A batch is a part of it,
and in a run of `w` processes rank `r` takes a slice of each: of `b` samples those from `r * b / w` to
`(r + 1) * b / w`. So the steps of an epoch are as many, and see the same samples, however many processes there are.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from itertools import islice
from multiprocessing.sharedctypes import RawValue
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, cast, final, overload

import numpy as np
from attrs import define, field, frozen
from numpy.typing import ArrayLike, NDArray

from lucid_train.group.discovery import place
from lucid_train.protocols import HasRank
from lucid_train.validation import check_entries, flag, one_of, real_number, whole_number

__all__ = [
    "Batches",
    "Digits",
    "GlobalBatchSampler",
    "Grouped",
    "Seeded",
    "Weighted",
    "WeightedIndex",
    "batches",
    "digits",
    "grouped",
    "seeded",
    "weighted",
]

Batch = TypeVar("Batch")
Sample = TypeVar("Sample", covariant=True)


# What becomes of a last batch with fewer samples than the others.
Last: TypeAlias = Literal["short", "drop", "pad"]


@frozen
class _Order:
    """The order of the samples in every epoch, its batches, and the slice of a batch that a process takes.

    Args:
        size: The number of samples. At least 1.
        batch_size: Samples of a batch, of all processes together. At least 1.
        shuffle: Whether each epoch has an order of its own.
        seed: Seed of the orders. At least 0.
        last: What becomes of a last batch with fewer samples.
    """

    size: int
    batch_size: int
    shuffle: bool
    seed: int
    last: Last

    def __attrs_post_init__(self) -> None:
        if self.last == "drop" and self.batch_size > self.size:
            rule = f"<= {self.size}, the number of samples, with last='drop'"
            raise ValueError(f"'batch_size' must be {rule}: {self.batch_size}")

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return self.size // self.batch_size if self.last == "drop" else -(-self.size // self.batch_size)

    def of_epoch(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of all samples in the order of an epoch; padding goes on with the first ones."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(self.size) if self.shuffle else np.arange(self.size)
        return np.resize(order, len(self) * self.batch_size) if self.last == "pad" else order

    def share(self, group: HasRank | None) -> tuple[int, int]:
        """Return the place in a batch at which the slice of this process begins, and the samples that it has.

        Raises:
            ValueError: If the processes cannot take slices of one size.
        """
        rank, world_size = place() if group is None else _place_in(group)
        if self.batch_size % world_size:
            nearest = -(-self.batch_size // world_size) * world_size
            raise ValueError(
                f"'batch_size' must be a multiple of {world_size}, the number of processes that share a batch: "
                f"{self.batch_size}; pass {nearest}, or another multiple"
            )
        if world_size > 1 and self.last == "short":
            raise ValueError(
                f"'last' must be 'drop' or 'pad' where {world_size} processes share a batch: 'short'; for data that is "
                "this process's alone, pass group=Solo()"
            )
        size = self.batch_size // world_size
        return rank * size, size

    def part(self, batch: int, share: tuple[int, int]) -> slice:
        """Return where the slice of a batch, from 0, stands in the order."""
        first = batch * self.batch_size + share[0]
        return slice(first, first + share[1])

    def weights(self, places: slice) -> NDArray[np.float64]:
        """Return the weight of each sample of a slice: 1, or 0 for padding."""
        return np.where(np.arange(places.start, places.stop) < self.size, 1.0, 0.0)


def _place_in(group: HasRank) -> tuple[int, int]:
    world_size = whole_number("group.world_size", group.world_size, least=1)
    rank = whole_number("group.rank", group.rank, least=0)
    if rank >= world_size:
        raise ValueError(f"'group.rank' must be < {world_size}, the number of processes: {rank}")
    return rank, world_size


@overload
def batches(
    array: ArrayLike,
    /,
    *,
    batch_size: int,
    shuffle: bool = True,
    seed: int = 0,
    drop_last: bool = False,
    last: Literal["short", "drop"] | None = None,
    group: HasRank | None = None,
) -> Batches[NDArray[Any]]: ...


@overload
def batches(
    *arrays: ArrayLike,
    batch_size: int,
    shuffle: bool = True,
    seed: int = 0,
    drop_last: bool = False,
    last: Last | None = None,
    group: HasRank | None = None,
) -> Batches[tuple[NDArray[Any], ...]]: ...


def batches(
    *arrays: ArrayLike,
    batch_size: int,
    shuffle: bool = True,
    seed: int = 0,
    drop_last: bool = False,
    last: Last | None = None,
    group: HasRank | None = None,
) -> Batches[Any]:
    """Split arrays into mini-batches, in a new order at every pass.

    Passes are numbered from 0, and the order of each follows from the seed and its number, which the Trainer sets.
    In a run of several processes all have the same arrays, and each takes its slice of every batch.

    Args:
        *arrays: Arrays of equal length n, at least 1; row i of each belongs to the same example.
        batch_size: Rows per batch, of all processes together, whose number divides it. At least 1.
        shuffle: Whether to draw a new order for each pass, or to keep the order of the arrays.
        seed: Seed of the orders. At least 0.
        drop_last: Whether to leave out a last batch with fewer rows, as last="drop" says too.
        last: What becomes of a last batch with fewer rows: "short" gives these, which only one process can; "drop"
            leaves it out; "pad" fills it with rows that were there before, and gives with every batch, as a further
            array of shape (rows,), the weights of its rows: 1, or 0 for padding. Left out, "short".
        group: What has the `rank` of this process and the `world_size`; left out, when a pass begins they are those
            of torch.distributed if it is initialised, else of mpi4py, else of one process. `Solo()` of
            `lucid_train.group` says that the arrays are those of this process alone.

    Returns:
        The batches, sized and re-iterable, as arrays if there is one array, else as tuples of arrays.

    >>> train = batches([10, 20, 30], ["a", "b", "c"], batch_size=2, shuffle=False)
    >>> len(train)
    2
    >>> for numbers, letters in train:
    ...     print(numbers, letters)
    [10 20] ['a' 'b']
    [30] ['c']
    >>> for numbers, weights in batches([10, 20, 30], batch_size=2, shuffle=False, last="pad"):
    ...     print(numbers, weights)
    [10 20] [1. 1.]
    [30 10] [1. 0.]
    """
    return Batches(
        arrays, batch_size=batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last, last=last, group=group
    )


@final
class Batches(Generic[Batch]):
    """What `batches` returns. The arrays are not copied; every batch is a copy of their rows.

    A pass begins with the request for its first batch. A pass that is left early is over: the next `iter` starts a new
    one.
    """

    def __init__(
        self,
        arrays: tuple[ArrayLike, ...],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        last: Last | None,
        group: HasRank | None,
    ) -> None:
        self._arrays = tuple(np.asarray(array) for array in arrays)
        if flag("drop_last", drop_last):
            if last not in (None, "drop"):
                raise ValueError(f"'last' must be left out with drop_last=True: {last!r}")
            last = "drop"
        self._order = _Order(
            _common_length(self._arrays),
            whole_number("batch_size", batch_size, least=1),
            flag("shuffle", shuffle),
            whole_number("seed", seed, least=0),
            one_of("last", "short" if last is None else last, ("short", "drop", "pad")),
        )
        self._group = group
        if group is not None:
            self._order.share(group)
        # The epoch of the next pass, and how many batches of it are skipped.
        self._epoch, self._to_skip = 0, 0
        self._latest = {"epoch": 0, "done": 0}

    def __len__(self) -> int:
        """The number of batches in a whole pass."""
        return len(self._order)

    def __iter__(self) -> Iterator[Batch]:
        share = self._order.share(self._group)
        # With several passes open, or one that continues after `load_state_dict`, the state is that of the latest.
        this = self._latest = {"epoch": self._epoch, "done": self._to_skip}
        self._epoch, self._to_skip = self._epoch + 1, 0
        order = self._order.of_epoch(this["epoch"])
        for number in range(this["done"], len(self)):
            places = self._order.part(number, share)
            rows = order[places]
            batch: tuple[Any, ...] = tuple(array[rows] for array in self._arrays)
            if self._order.last == "pad":
                batch = (*batch, self._order.weights(places))
            this["done"] = number + 1
            yield cast(Batch, batch if len(batch) > 1 else batch[0])
        if this is self._latest:
            self._latest = {"epoch": self._epoch, "done": 0}

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next pass, from 0; one that continues after `load_state_dict` does so if it is its own.

        The Trainer calls this.
        """
        if whole_number("epoch", epoch, least=0) != self._epoch:
            self._go_to(epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the latest pass as plain JSON; a batch counts as done once it is yielded.

        It is the same on all processes, and may be loaded by more or fewer of them.
        """
        return {**self._settings(), **self._latest}

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
                raise ValueError(f"{name!r} in the state must be {setting!r}, as it is here: {state[name]!r}")
        epoch, done = state["epoch"], state["done"]
        if type(epoch) is not int or epoch < 0:
            raise ValueError(f"'epoch' in the state must be an int of at least 0: {epoch!r:.80}")
        if type(done) is not int or not 0 <= done <= len(self):
            raise ValueError(f"'done' in the state must be from 0 to {len(self)}, the batches of a pass: {done!r:.80}")
        self._go_to(epoch, done)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"Batches({settings})"

    def _go_to(self, epoch: int, done: int) -> None:
        self._epoch, self._to_skip = epoch, done
        self._latest = {"epoch": epoch, "done": done}

    def _settings(self) -> dict[str, Any]:
        order = self._order
        return {
            "rows": order.size,
            "batch_size": order.batch_size,
            "shuffle": order.shuffle,
            "seed": order.seed,
            "last": order.last,
        }


class WeightedIndex(NamedTuple):
    """What `GlobalBatchSampler` gives for a sample with last="pad"; a data set that is not `weighted` refuses a tuple.

    Attributes:
        place: The index of the sample.
        weight: 1, or 0 for padding.
    """

    place: int
    weight: float


@final
class GlobalBatchSampler:
    """The batches of a data set, of each of which every process takes its slice: `DataLoader(..., batch_sampler=...)`.

    The batch size is that of all processes together, so that the steps of an epoch, the schedules and the samples of
    a step are the same however many processes there are. A run that is continued at the end of an epoch by more or
    fewer of them sees every sample exactly once per epoch.

    The order of an epoch follows from the seed and the epoch alone. The Trainer sets the epoch; in a loop of your own,
    call `set_epoch` before each pass, or all have the order of epoch 0.

    Args:
        dataset: The data set, or the number of its samples, at least 1.
        batch_size: Samples per batch, of all processes together, whose number divides it. At least 1.
        shuffle: Whether each epoch has an order of its own, or all have that of the data set.
        seed: Seed of the orders. At least 0.
        last: What becomes of a last batch with fewer samples: "drop" leaves it out; "pad" fills it with samples that
            were there before, whose weight is 0, and needs a data set that `weighted` wraps.
        group: What has the `rank` of this process and the `world_size`; left out, when a pass begins they are those
            of torch.distributed if it is initialised, else of mpi4py, else of one process.

    Attributes:
        epoch: The epoch of the next pass, from 0.

    Raises:
        ValueError: When a pass begins, if the number of processes does not divide the batch size.

    >>> from types import SimpleNamespace
    >>> second = SimpleNamespace(rank=1, world_size=2)
    >>> sampler = GlobalBatchSampler(10, 4, shuffle=False, group=second)
    >>> len(sampler), list(sampler)
    (2, [[2, 3], [6, 7]])
    """

    def __init__(
        self,
        dataset: Sized | int,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        last: Literal["drop", "pad"] = "drop",
        group: HasRank | None = None,
    ) -> None:
        self._order = _Order(
            _size_of(dataset),
            whole_number("batch_size", batch_size, least=1),
            flag("shuffle", shuffle),
            whole_number("seed", seed, least=0),
            one_of("last", last, ("drop", "pad")),
        )
        self._group = group
        if group is not None:
            self._order.share(group)
        self.epoch: int = 0
        self._is_set, self._has_ended = False, False

    def __len__(self) -> int:
        """The number of batches in a pass, on every process."""
        return len(self._order)

    def __iter__(self) -> Iterator[list[Any]]:
        share = self._order.share(self._group)
        if self._has_ended and self._order.shuffle and not self._is_set:
            warnings.warn(
                "every pass has the order of epoch 0; call set_epoch(epoch) of the GlobalBatchSampler before each",
                UserWarning,
                stacklevel=2,
            )
        order = self._order.of_epoch(self.epoch)
        for number in range(len(self)):
            places = self._order.part(number, share)
            indices = order[places].tolist()
            weights = self._order.weights(places).tolist() if self._order.last == "pad" else ()
            yield list(map(WeightedIndex, indices, weights)) if weights else indices
        self._has_ended = True

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, from 0."""
        self.epoch, self._is_set = whole_number("epoch", epoch, least=0), True

    def __repr__(self) -> str:
        order = self._order
        return (
            f"GlobalBatchSampler({order.size}, {order.batch_size}, shuffle={order.shuffle}, seed={order.seed}, "
            f"last={order.last!r})"
        )


def grouped(loader: Iterable[Batch], n: int) -> Grouped[Batch]:
    """Put the batches of a loader together in lists of `n`, so that a step of the Trainer is an update.

    This accumulates gradients: the step is given the micro-batches of one update, calls `backward()` for each of them
    and then updates once. Schedules, events and histories count updates, and a run is saved between updates only. The
    last list of a pass may be shorter: let each loss count by its share of the samples that are in the list.

    Args:
        loader: Any iterable of batches, such as a DataLoader.
        n: Micro-batches per list. At least 1.

    Returns:
        The lists, re-iterable and sized if the loader is. To the Trainer they are the loader; it sets its epoch, saves
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
        self.loader: Iterable[Batch] = loader
        self.n: int = whole_number("n", n, least=1)
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
        _check_indexed(dataset, ", a stream must seed itself")
        self.dataset = dataset
        self.seed: int = whole_number("seed", seed, least=0)
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


def weighted(dataset: Samples[Sample]) -> Weighted[Sample]:
    """Give with each sample of a data set its weight: 1, or 0 where a `GlobalBatchSampler` with last="pad" padded.

    A step weights the losses by them, so that padding counts for nothing::

        (x, y), weights = batch
        losses = criterion(model(x), y)  # one per sample
        loss = (losses * weights).sum() / weights.sum().clamp(min=1)  # a slice may have nothing but padding
        ...
        return StepResult(loss, weight=weights.sum())

    The gradients of a padded batch are those of one process if the weighted sums of all processes are added and divided
    by the sum of all weights. DistributedDataParallel takes the mean of the processes' gradients instead: there, call
    `backward()` of `(losses * weights).sum() * world_size / total`, `total` being the `all_reduce` of `weights.sum()`.

    Args:
        dataset: The data set, before it is given to a DataLoader; around `seeded` where that is used.

    >>> numbers = weighted([10, 20, 30])
    >>> for batch in GlobalBatchSampler(numbers, 2, shuffle=False, last="pad"):
    ...     print([(number, float(weight)) for number, weight in (numbers[index] for index in batch)])
    [(10, 1.0), (20, 1.0)]
    [(30, 1.0), (10, 0.0)]
    """
    return Weighted(dataset)


@final
class Weighted(Generic[Sample]):
    """What `weighted` returns. The weights are of float32, which all devices have.

    Attributes:
        dataset: The data set.
    """

    def __init__(self, dataset: Samples[Sample]) -> None:
        _check_indexed(dataset)
        self.dataset = dataset

    def __len__(self) -> int:
        """The number of samples."""
        return len(cast(Any, self.dataset))

    def __getitem__(self, index: Any) -> tuple[Sample, np.float32]:
        place, weight = index if isinstance(index, WeightedIndex) else (index, 1.0)
        return self.dataset[place], np.float32(weight)

    def __getitems__(self, indices: Sequence[Any]) -> list[tuple[Sample, np.float32]]:
        """Return several samples, of a data set that can read them at once as PyTorch's fetcher asks it to."""
        read = getattr(self.dataset, "__getitems__", None)
        if read is None:
            return [self[index] for index in indices]
        pairs = [index if isinstance(index, WeightedIndex) else (index, 1.0) for index in indices]
        samples = read([place for place, _ in pairs])
        return [(sample, np.float32(weight)) for sample, (_, weight) in zip(samples, pairs, strict=True)]

    def __repr__(self) -> str:
        return f"Weighted({self.dataset!r})"


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


def _size_of(dataset: Any) -> int:
    try:
        return whole_number("dataset", len(dataset) if isinstance(dataset, Sized) else dataset, least=1)
    except TypeError:
        raise TypeError(f"'dataset' must have a length, or be one: {dataset!r:.200}") from None


def _check_indexed(dataset: Any, cure: str = "") -> None:
    torch = sys.modules.get("torch")
    is_stream = torch is not None and isinstance(dataset, torch.utils.data.IterableDataset)
    if is_stream or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise TypeError(f"'dataset' must have __getitem__ and __len__{cure}: {dataset!r}")


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
