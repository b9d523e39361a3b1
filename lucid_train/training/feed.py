"""Passes over the data: how one begins, how long it is, and how one that was left in the middle is taken up again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from types import GeneratorType
from typing import Any

from attrs import define

from lucid_train.saving.random_state import RandomState, is_generator
from lucid_train.training.run import OpenEpoch, Run

# Whose passes are the same whatever the random generators do.
_FIXED = (list, tuple, range, str, type(None))


@define(frozen=True)
class Passes:
    """The passes of a Trainer; one is an epoch.

    Args:
        data: The Trainer's data, or None in a rehearsal.
        steps_per_epoch: Steps in an epoch, where it is not a whole pass.
    """

    data: Iterable[Any] | None
    steps_per_epoch: int | None

    @property
    def length(self) -> int | None:
        """The number of batches in a pass, or None where that is unknown."""
        if self.data is None:
            return self.steps_per_epoch or 1
        try:
            return len(self.data)  # type: ignore[arg-type]  # not every iterable is sized
        except (TypeError, NotImplementedError):  # PyTorch's DataLoader has a len() that raises for iterable datasets
            return None

    @property
    def told(self) -> bool:
        """Whether the data itself tells where a pass stands and can go on from there."""
        return callable(getattr(self.data, "state_dict", None)) and callable(
            getattr(self.data, "load_state_dict", None)
        )

    def generators(self) -> dict[str, Any]:
        """Return the generators that the data, or a DataLoader's sampler, holds in an attribute."""
        found: dict[str, Any] = {}
        owners: dict[str, Any] = {"data": self.data}
        for path in ("sampler", "batch_sampler", "batch_sampler.sampler"):
            parent, _, attribute = f"data.{path}".rpartition(".")
            owners[f"data.{path}"] = getattr(owners[parent], attribute, None)
        for place, owner in owners.items():
            for name, held in getattr(owner, "__dict__", {}).items():
                if is_generator(held) and not any(held is other for other in found.values()):
                    found[f"{place}.{name}"] = held
        return found

    def refuse(self, epochs: int) -> None:
        """Refuse data that cannot serve so many epochs.

        Raises:
            ValueError: If a pass is too short, or there will be none.
        """
        length = self.length
        if self.steps_per_epoch is not None and length is not None and self.steps_per_epoch > length:
            raise ValueError(f"'steps_per_epoch' must be <= the {length} batches of data: {self.steps_per_epoch}")
        if isinstance(self.data, GeneratorType) and self.steps_per_epoch is None and epochs > 1:
            raise ValueError(f"'data' must be iterable {epochs} times; a generator is not, pass a list: {self.data!r}")

    def refuse_shortage(self, run: Run, part: OpenEpoch) -> None:
        """Refuse a pass that ended too early.

        Raises:
            ValueError: If it did.
        """
        done = run.epoch_step
        if part.one_shot and done == 0 and run.step:
            raise ValueError(
                f"'data' must be iterable more than once: it ran dry in epoch {run.epoch}; pass a list, "
                f"or an object whose __iter__ begins a new pass: {self.data!r}"
            )
        if self.steps_per_epoch is not None and done < self.steps_per_epoch:
            raise ValueError(
                f"'steps_per_epoch' must be <= the batches of a pass: {self.steps_per_epoch}, "
                f"but epoch {run.epoch} had {done}"
            )

    def begin(self, run: Run, random: RandomState) -> OpenEpoch:
        """Begin the pass of a new epoch."""
        before = None if self.told or isinstance(self.data, _FIXED) else [random.read()]
        batches = self.again()
        return OpenEpoch(batches, run.step, one_shot=batches is self.data, random=before)

    def again(self, done: int = 0) -> Iterator[Any]:
        """Return an iterator over the data that stands behind the first `done` batches."""
        batches = repeat(None, self.steps_per_epoch or 1) if self.data is None else iter(self.data)
        for _ in islice(batches, done):
            pass
        return batches

    def state(self, run: Run) -> dict[str, Any]:
        """Return where the data stands: its own state if it tells, and whether that is one of a pass given up.

        Raises:
            RuntimeError: If the data has given out a batch whose step failed, and which is to be tried again.
        """
        part = run.open_epoch
        if self.told and part is not None and part.pending:
            raise RuntimeError("a batch has been taken whose step has failed; the run can be saved after the next step")
        drawn = part is not None and not part.trained and run.epoch_step > 0
        state: Any = self.data.state_dict() if self.told else None  # type: ignore[union-attr]  # told says so
        return {"state": state, "left": run.left_pass and not drawn}

    def load(self, run: Run, state: dict[str, Any]) -> None:
        """Bring the data to where it stood, before a new pass or in the middle of one.

        Raises:
            ValueError: If the state is one of data that tells where it stands and this is not, or the reverse.
        """
        if self.told is not (state["state"] is not None):
            which = "with" if self.told else "without"
            raise ValueError(f"'data' is one {which} state_dict here, and was not when the checkpoint was written")
        run.left_pass = bool(state["left"])
        if self.told:
            self.data.load_state_dict(state["state"])  # type: ignore[union-attr]  # told says so
            if run.left_pass:
                # A pass that was given up: it is begun, and given up again, so that the next one is a new one.
                next(iter(self.data), None)  # type: ignore[arg-type]  # told says so
        elif isinstance(self.data, Iterator):
            _skip(self.data, run.step)

    def take_up(self, run: Run, done: int, random: RandomState, before: list[dict[str, Any]] | None) -> OpenEpoch:
        """Return the rest of a pass, after `load`.

        Data that does not tell where it stands is passed over from its beginning, with all generators as they were
        then, so that its order is the same.

        Args:
            run: The run, at its step.
            done: Steps done in the pass.
            random: The generators.
            before: Where they stood before the pass and before its first batch.

        Raises:
            ValueError: If the data has fewer batches than were done.
        """
        if before:
            random.write(before[0])
        batches = self.again()
        if before and len(before) > 1:
            random.write(before[1])
        if not self.told and not isinstance(self.data, Iterator):
            _skip(batches, done)
        one_shot = batches is self.data
        if self.told and self.steps_per_epoch is not None and done >= self.steps_per_epoch:
            next(batches, None)  # what has not begun could be taken for a pass to come
            batches = iter(())
        return OpenEpoch(batches, run.step - done, one_shot=one_shot, random=before)


def _skip(source: Iterator[Any], count: int) -> None:
    skipped = deque(enumerate(islice(source, count), 1), maxlen=1)
    found = skipped[0][0] if skipped else 0
    if found < count:
        raise ValueError(f"'data' must have the {count} batches that were done before the checkpoint: {found}")
