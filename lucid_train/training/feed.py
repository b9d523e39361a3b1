"""Feed: the data of a Trainer, pass by pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice, repeat
from types import GeneratorType
from typing import Any

from attrs import define, field

from lucid_train.description import attributed
from lucid_train.progress import Progress
from lucid_train.saving.random_state import RandomState, has_epoch, is_generator

# Iterating these consumes no randomness.
_FIXED = (list, tuple, range, str, type(None))


@define(eq=False)
class Feed:
    """The data, where its pass stands, and how a pass that was left in the middle is resumed.

    Args:
        data: The Trainer's data; None gives batches that are None.
        steps_per_epoch: Steps in an epoch, where it is not a whole pass.
    """

    data: Any
    steps_per_epoch: int | None
    _pass: Any = field(default=None, init=False)  # an iterator over the data; None between two passes
    # A batch that was taken and whose step failed.
    _given_back: tuple[Any, ...] = field(default=(), init=False)
    # A state of a pass that was left, which is the data's until a new pass begins.
    _left: Any = field(default=None, init=False)

    @property
    def length(self) -> int | None:
        """The number of batches in a pass, or None where that is unknown."""
        if self.data is None:
            return self.steps_per_epoch or 1
        try:
            return len(self.data)
        except (TypeError, NotImplementedError):  # PyTorch's DataLoader has a len() that raises for iterable datasets
            return None

    @property
    def length_of_epoch(self) -> int | None:
        """The number of steps in an epoch, or None where that is unknown."""
        return self.steps_per_epoch or self.length

    def note_length(self, progress: Progress) -> None:
        """Note how many steps an epoch has, where that is known now."""
        progress.steps_per_epoch = self.length_of_epoch or progress.steps_per_epoch

    @property
    def is_stateful(self) -> bool:
        """Whether the data itself says where a pass stands and can go on from there."""
        return all(callable(getattr(self.data, name, None)) for name in ("state_dict", "load_state_dict"))

    @property
    def is_repeated(self) -> bool:
        """Whether a pass is resumed by repeating it, so that the random generators before it matter."""
        return not (self.is_stateful or isinstance(self.data, _FIXED))

    def generators(self) -> dict[str, Any]:
        """Return what the order of the data depends on.

        These are the random generators that the data, or a DataLoader's sampler, holds in an attribute, and what of
        them has a `set_epoch`, as PyTorch's DistributedSampler has.
        """
        found: dict[str, Any] = {}
        sampler, batches, dataset = (getattr(self.data, name, None) for name in ("sampler", "batch_sampler", "dataset"))
        owners = {"data": self.data, "data.sampler": sampler, "data.batch_sampler": batches}
        owners["data.batch_sampler.sampler"] = getattr(batches, "sampler", None)
        for place, owner in {**owners, "data.dataset": dataset}.items():
            if has_epoch(owner) and not any(owner is other for other in found.values()):
                found[place] = owner
        for place, owner in owners.items():
            for name, held in getattr(owner, "__dict__", {}).items():
                if is_generator(held) and not any(held is other for other in found.values()):
                    found[f"{place}.{name}"] = held
        return found

    def check_epochs(self, count: int) -> None:
        """Refuse data that cannot serve so many epochs.

        Raises:
            ValueError: If a pass is too short, or there will be none.
        """
        length = self.length
        if self.steps_per_epoch is not None and length is not None and self.steps_per_epoch > length:
            raise ValueError(f"'steps_per_epoch' must be <= the {length} batches of data: {self.steps_per_epoch}")
        if isinstance(self.data, GeneratorType) and self.steps_per_epoch is None and count > 1:
            raise ValueError(f"'data' must be iterable {count} times; a generator is not, pass a list: {self.data!r}")

    def open_pass(self, progress: Progress, random: RandomState) -> None:
        """Begin the pass of an epoch that starts, directly before its first batch is taken.

        One that was given up is resumed.
        """
        if progress.phase == "start":
            self.note_length(progress)  # what it was when the epoch began may have changed since
            progress.random_before = random.read() if self.is_repeated else None
            self._pass, progress.phase = self._iterate(), "steps"
        elif self._pass is None:
            now = random.read()
            self.resume(self.state_dict(), progress, random)
            random.write(now)

    def end_pass(self) -> None:
        """Drop the pass, whether or not it has ended."""
        self._pass, self._given_back = None, ()

    def batches(self, progress: Progress, until: int | None) -> Iterator[Any]:
        """Return the batches of the next steps, one that was given back first.

        Args:
            progress: Where the run stands.
            until: The step to stop after, if the pass or the epoch does not end before.
        """
        given_back, self._given_back, self._left = self._given_back, (), None
        progress.batch_taken = progress.pass_left = False
        limits = [] if until is None else [until - progress.step]
        if self.steps_per_epoch is not None:
            limits.append(self.steps_per_epoch - progress.epoch_step)
        if limits and min(limits) <= 0:  # the epoch has been made shorter than what is done of it
            return iter(())
        # A new islice each time, as one is at its end once what it reads has failed.
        batches = islice(self._pass, min(limits) - len(given_back)) if limits else self._pass
        return chain(given_back, batches) if given_back else batches

    def give_up_pass(self, progress: Progress, random: RandomState) -> None:
        """Note that no batch could be taken: a generator is dead then, and other iterators may have lost the batch."""
        if self._pass is self.data:  # an iterator that is the data itself cannot be iterated over again
            return
        self._pass = None
        if progress.epoch_step == 0 and progress.random_before is not None:
            # Many data draw their order only now: the next attempt draws the same one, and is resumed in that.
            random.write(progress.random_before)
            progress.phase = "start"

    def complete_pass(self, progress: Progress) -> None:
        """Record that the pass, or the part of it that makes an epoch, has ended.

        Raises:
            ValueError: If it has ended too early.
        """
        done, is_iterator = progress.epoch_step, self._pass is self.data
        if is_iterator and done == 0 and progress.step:
            raise ValueError(
                f"'data' must be iterable more than once: it had no batch left in epoch {progress.epoch}; pass a list, "
                f"or an object whose __iter__ begins a new pass: {self.data!r}"
            )
        if self.steps_per_epoch is not None and done < self.steps_per_epoch:
            raise ValueError(
                f"'steps_per_epoch' must be <= the batches of a pass: {self.steps_per_epoch}, "
                f"but epoch {progress.epoch} had {done}"
            )
        progress.pass_left = self.steps_per_epoch is not None and self.data is not None
        if not is_iterator:
            progress.steps_per_epoch = done

    def give_back(self, batch: Any, progress: Progress) -> None:
        """Take back a batch whose step failed: it is the first of the next ones."""
        self._given_back, progress.batch_taken = (batch,), True

    def can_be_saved(self) -> bool:
        """Return whether the data's own state, if it has one, leaves out no batch that is to be tried again."""
        return not (self._given_back and self.is_stateful)

    def state_dict(self) -> Any:
        """Return where the data says that its pass stands, or None if it does not.

        Raises:
            RuntimeError: If it counts a batch that was given back, and is to be tried again.
        """
        if not self.is_stateful:
            return None
        if not self.can_be_saved():
            raise RuntimeError("a batch has been taken whose step has failed; the run can be saved after the next step")
        return attributed("data.state_dict", self.data.state_dict) if self._left is None else self._left

    def resume(self, state: Any, progress: Progress, random: RandomState) -> None:
        """Bring the data to where it stood, before a new pass or in the middle of one.

        Data that does not say where it stands is iterated over from the beginning of its pass, with all generators as
        they were then, so that its order is the same.

        Args:
            state: What `state_dict` returned.
            progress: Where the run stands.
            random: The generators.

        Raises:
            ValueError: If the state is one of data that says where it stands and this does not, or the reverse, or
                there are fewer batches than were done.
        """
        if self.is_stateful is not (state is not None):
            which = "with" if self.is_stateful else "without"
            raise ValueError(f"'data' is one {which} state_dict here, and was not when the checkpoint was written")
        if self.is_stateful:
            attributed("data.load_state_dict", self.data.load_state_dict, state)
            if progress.pass_left:
                next(iter(self.data), None)  # begin that pass, to leave it again: the next one is then a new one
                self._left = state
        elif isinstance(self.data, Iterator):
            _skip(self.data, progress.step)
        if progress.phase not in ("steps", "evaluation"):
            return
        if progress.random_before is not None:
            random.write(progress.random_before)
        self._pass = self._iterate()
        done = progress.epoch_step
        repeated = 0 if self.is_stateful or isinstance(self.data, Iterator) else done
        last = _skip(self._pass, repeated + progress.batch_taken)
        if progress.batch_taken:
            self.give_back(last, progress)
        if self.is_stateful and self.steps_per_epoch is not None and done >= self.steps_per_epoch:
            next(self._pass, None)  # what has not begun could be taken for a pass to come
            self._pass = iter(())

    def _iterate(self) -> Iterator[Any]:
        return repeat(None, self.steps_per_epoch or 1) if self.data is None else iter(self.data)


def _skip(source: Iterator[Any], count: int) -> Any:
    """Take the batches that were taken before, and return the last one."""
    found, last = next(iter(deque(enumerate(islice(source, count), 1), maxlen=1)), (0, None))
    if found < count:
        raise ValueError(f"'data' must have the {count} batches that were taken before: {found}")
    return last
