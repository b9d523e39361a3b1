"""Feed: the data of a Trainer, pass by pass."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain, islice, repeat
from types import FunctionType, GeneratorType
from typing import Any

from attrs import define, field

from lucid_train.description import attributed
from lucid_train.progress import DataPass, DrawnBatch, Progress
from lucid_train.saving.fingerprint import fingerprint
from lucid_train.saving.random_state import RandomState, changed, replaced
from lucid_train.training.source import (
    attributes,
    draws_at_random,
    generators,
    is_stateful,
    loader_of,
    set_epoch,
    ungrouped,
)

# Iterating these consumes no randomness.
_FIXED = (list, tuple, range, str, type(None))
_END = object()
_CAUSES = (
    "usual causes are a random generator that is not saved (pass it in 'extras'), random numbers that a data set draws "
    "in persistent workers (wrap it with lucid_train.data.seeded), a shuffle buffer that draws from a generator which "
    "the steps use too (give it one of its own), files in another order (sort them), and other files, transforms or "
    "batch sizes; to go on with the batches that are here, pass accept='data'"
)
# So many batches are drawn to find out whether what the data draws at random decides what comes later.
_TRIAL = 200


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
    # The latest pass that was opened here, and the one before it.
    _opened: tuple[DataPass | None, DataPass | None] = field(default=(None, None), init=False)
    # Whether the data is to load that state first, as a pass had begun that counts for nothing.
    _is_to_load: bool = field(default=False, init=False)
    # Whether data that gives other batches than before a resume is accepted.
    accepts_other: bool = field(default=False, init=False)

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
        return is_stateful(self.data)

    @property
    def _is_iterator(self) -> bool:
        """Whether the data is its own iterator, so that a pass may go on through several epochs."""
        return isinstance(ungrouped(self.data), Iterator)

    def check_epochs(self, count: int) -> None:
        """Refuse data that cannot serve so many epochs.

        Raises:
            ValueError: If a pass is too short or empty, or there will be none.
        """
        length = self.length
        if self.data is not None and length == 0 and count > 0:
            raise ValueError(f"'data' must have at least one batch: {self.data!r:.200}")
        if self.steps_per_epoch is not None and length is not None and self.steps_per_epoch > length:
            raise ValueError(f"'steps_per_epoch' must be <= the {length} batches of data: {self.steps_per_epoch}")
        if isinstance(ungrouped(self.data), GeneratorType) and self.steps_per_epoch is None and count > 1:
            raise ValueError(f"'data' must be iterable {count} times; a generator is not, pass a list: {self.data!r}")

    def open_pass(self, progress: Progress, random: RandomState) -> None:
        """Begin the pass of an epoch that starts, directly before its first batch is taken.

        One that was given up is resumed.
        """
        if progress.phase == "start":
            self.note_length(progress)  # what it was when the epoch began may have changed since
            before, states = progress.latest_pass, None if isinstance(ungrouped(self.data), _FIXED) else random.read()
            if self._is_to_load and states is not None:
                self._load(self._left, left=progress.pass_left)
                random.write(states)
            self._is_to_load = False
            try:
                if before is None or not (self._is_iterator and progress.pass_left):
                    # torchdata's loader draws a number when it is first asked for its state.
                    data = self._state_before_pass()
                    states = random.read() if self.is_stateful else states
                    progress.latest_pass = DataPass(progress.epoch, progress.step, states, data, progress.pass_left)
                    self._opened = progress.latest_pass, before
                self._pass = self._iterate()
            except BaseException:
                if states is not None and not self._is_iterator:
                    random.write(states)
                    self._forget_pass(progress)
                raise
            progress.phase = "steps"
        elif self._pass is None:
            now = random.read()
            try:
                self._resume_pass(self.state_dict(), progress, random, now)
            except BaseException:
                random.write(now)
                raise
            self._restore(random, now)

    def _state_before_pass(self) -> Any:
        if not self.is_stateful:
            return None
        try:
            return deepcopy(self.data.state_dict() if self._left is None else self._left)
        except Exception:  # it matters to a resume alone, and whoever saves asks for a state as well
            return None

    def _forget_pass(self, progress: Progress) -> None:
        """Let the pass be one that has not begun, so that the latest one is the one before it."""
        opened, before = self._opened
        if opened is not None and opened is progress.latest_pass:
            progress.latest_pass, progress.pass_left = before, opened.left
            self._left, self._is_to_load = opened.data, opened.data is not None
        progress.phase = "start"

    def begin_run(self) -> None:
        """Forget the passes of the run before."""
        self.end_pass()
        self._left, self._is_to_load, self._opened, self.accepts_other = None, False, (None, None), False

    def end_pass(self) -> None:
        """Drop the pass, whether or not it has ended."""
        self._pass, self._given_back = None, ()

    def batches(self, progress: Progress, random: RandomState, until: int | None) -> Iterator[Any]:
        """Return the batches of the next steps, one that was given back first.

        Args:
            progress: Where the run stands.
            random: The generators.
            until: The step to stop after, if the pass or the epoch does not end before.
        """
        given_back, self._given_back = self._given_back, ()
        progress.batch_taken = progress.pass_left = False
        if self.steps_per_epoch is not None:
            end = progress.first_step + self.steps_per_epoch
            until = end if until is None else min(until, end)
        if until is not None and until <= progress.step:  # the epoch has been made shorter than what is done of it
            return iter(())
        self._left = None
        # New iterators each time, as an islice is at its end once what it reads has failed.
        batches: Iterator[Any] = chain.from_iterable(self._segments(progress, random, until))
        if self.data is None:
            batches = islice(self._pass, None if until is None else until - progress.step - len(given_back))
        return chain(given_back, batches) if given_back else batches

    def _segments(self, progress: Progress, random: RandomState, until: int | None) -> Iterator[Iterable[Any]]:
        """Yield the pass in parts: number 1, 2, 4, 8, ... of its batches, each of which is noted, and those between."""
        latest = progress.latest_pass
        assert latest is not None  # the pass is open
        while progress.step != until:
            done = progress.step - latest.first_step
            noted = 1 << done.bit_length()
            between = noted - 1 - done
            yield islice(self._pass, between if until is None else min(between, until - progress.step))
            # Each step is counted before the next batch is asked for; if some are missing, the pass is over.
            if progress.step != until and progress.step - latest.first_step == noted - 1:
                yield self._noted(latest, random)
            if progress.step - latest.first_step != noted:
                return

    def _noted(self, latest: DataPass, random: RandomState) -> tuple[Any, ...]:
        """Return the next batch, if there is one, and note what it is before its step can change it."""
        # What the first one draws follows from the generators before the pass.
        is_random = latest.random is not None and latest.batches and not self.is_stateful
        before = random.read() if is_random else None
        for batch in self._pass:
            drawn = {} if before is None else changed(before, random.read())
            latest.batches.append(DrawnBatch(fingerprint(batch), drawn))
            return (batch,)
        return ()

    def give_up_pass(self, progress: Progress, random: RandomState) -> None:
        """Note that no batch could be taken: a generator is dead then, and other iterators may have lost the batch."""
        if self._is_iterator:  # what is its own iterator cannot be iterated over again
            return
        self._pass, latest = None, progress.latest_pass
        if latest is None or latest.epoch != progress.epoch:  # its own pass has not begun
            return
        del latest.batches[(progress.step - latest.first_step).bit_length() :]  # what was noted and not trained on
        can_begin = not self.is_stateful or (latest is self._opened[0] and latest.data is not None)
        if progress.epoch_step == 0 and can_begin and latest.random is not None:
            # Many data draw their order only now: the next attempt draws the same one, and is resumed in that.
            random.write(latest.random)
            self._forget_pass(progress)

    def draws(self, progress: Progress) -> bool:
        """Return whether random numbers may be drawn, in this process, while a batch is taken that is not the first."""
        noted = [] if progress.latest_pass is None else progress.latest_pass.batches
        if len(noted) > 1 and not self.is_stateful:
            return any(batch.random for batch in noted)
        in_workers = getattr(loader_of(self.data), "num_workers", 0) > 0
        return not (in_workers or isinstance(ungrouped(self.data), _FIXED))

    def complete_pass(self, progress: Progress) -> None:
        """Record that the pass, or the part of it that makes an epoch, has ended.

        Raises:
            ValueError: If it has ended too early.
        """
        done, is_iterator = progress.epoch_step, self._is_iterator
        if done == 0 and not (is_iterator and progress.step) and self.steps_per_epoch is None:
            self._pass, progress.phase = None, "start"  # other data may be set
            raise ValueError(
                f"'data' must have at least one batch, epoch {progress.epoch} had none: {self.data!r:.200}"
            )
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

    def resume(self, state: Any, progress: Progress, random: RandomState, now: dict[str, Any]) -> None:
        """Bring the data to where it stood, before a new pass or in the middle of one, and check that it is the same.

        Data that does not say where it stands is iterated over from the beginning of its pass, with all generators as
        they were then, so that its order is the same, and all its batches that were noted are compared. Where no pass
        is to go on, or the data says where it stands, the first batch of the latest pass is drawn and compared.

        Args:
            state: What `state_dict` returned.
            progress: Where the run stands.
            random: The generators.
            now: Their states where the run stands, in which they are left.

        Raises:
            ValueError: If the state is one of data that says where it stands and this does not, or the reverse, if
                there are fewer batches than were done, or other ones.
        """
        self._reposition(state, progress, random, now)
        latest = progress.latest_pass
        if latest is not None and latest.batches and not self.accepts_other:
            unknown = self.is_stateful and latest.data is None
            if unknown or any(noted.fingerprint is None for noted in latest.batches):
                reason = "its state before the pass is unknown" if unknown else "no array, number or string is in them"
                warnings.warn(
                    f"'data' may give other batches than before the checkpoint, those of epoch {latest.epoch} cannot "
                    f"be compared: {reason}",
                    UserWarning,
                    stacklevel=4,
                )

    def _reposition(self, state: Any, progress: Progress, random: RandomState, now: dict[str, Any]) -> None:
        if self.is_stateful is not (state is not None):
            which = "with" if self.is_stateful else "without"
            raise ValueError(f"'data' is one {which} state_dict here, and was not when the checkpoint was written")
        random.write(now)  # checked before the data is touched
        latest = progress.latest_pass
        self._check_workers(progress, random)
        if self.is_stateful and latest is not None and latest.batches and latest.data is not None:
            self._repeat_first(latest, random)
        self._resume_pass(state, progress, random, now)
        if progress.phase == "start":
            set_epoch(self.data, progress.epoch)
        self._restore(random, now)

    @contextmanager
    def lent(self, progress: Progress, random: RandomState, *, unused: bool) -> Iterator[None]:
        """Let others iterate over the data; afterwards it stands where it stood, and so do all generators.

        A pass that is open is taken up again as after a resume. That the data can be brought back is tried before.

        Args:
            progress: Where the run stands.
            random: The generators.
            unused: Whether the run has taken nothing from the data yet, or is going to bring it to another place.

        Raises:
            RuntimeError: If the data does not give the same batches again, or a batch is to be tried again that data
                with a state has counted.
        """
        if self._is_iterator:
            raise RuntimeError(
                f"find_lr needs data that gives the same batches again, which an iterator cannot; pass a list, or an "
                f"object whose __iter__ begins a new pass: {self.data!r:.200}"
            )
        now = random.read()
        with self._kept_as_new(random, now) if unused else self._kept_in_place(progress, random, now):
            yield

    @contextmanager
    def _kept_as_new(self, random: RandomState, now: dict[str, Any]) -> Iterator[None]:
        held = [(each, dict(each)) for each in attributes(self.data)]
        # A loader is as new when it has no iterator; torchdata's would begin one when it is asked for its state.
        has_state = self.is_stateful and loader_of(self.data) is None
        state = deepcopy(self.data.state_dict()) if has_state else None
        try:
            with _refusing():
                self._try_first(random)
            random.write(now)
            yield
        finally:
            if has_state:
                attributed("data.load_state_dict", self.data.load_state_dict, state)
            for each, values in held:
                each.clear()
                each.update(values)
            random.write(now)

    def _try_first(self, random: RandomState) -> None:
        """Take the first batch twice and compare; others would come from a generator that is not known."""
        feed, progress = Feed(self.data, self.steps_per_epoch), Progress(epoch=1, phase="start")
        set_epoch(self.data, 1)
        feed.open_pass(progress, random)
        batches = feed.batches(progress, random, 1)
        latest = progress.latest_pass
        if next(batches, _END) is not _END and latest is not None and latest.batches:
            feed._begin(latest, random)
            feed._repeat(1, latest, random)

    @contextmanager
    def _kept_in_place(self, progress: Progress, random: RandomState, now: dict[str, Any]) -> Iterator[None]:
        state, left, held = deepcopy(self.state_dict()), self._left, (self._is_to_load, self._opened)
        try:
            with _refusing():
                Feed(self.data, self.steps_per_epoch)._reposition(state, progress, random, now)
        except BaseException:
            random.write(now)
            raise
        try:
            yield
        finally:
            self.end_pass()
            self._reposition(state, progress, random, now)
            self._left = left if self._left is None else self._left
            self._is_to_load, self._opened = held

    def _restore(self, random: RandomState, now: dict[str, Any]) -> None:
        """Restore all generators; those of data that has a state, and is no loader, are as that says."""
        states = random.read()
        left = generators(self.data) if self.is_stateful and loader_of(self.data) is None else {}
        # From them such data may draw its order only with the next batch.
        own = {f"own.{name}": states["own"][name] for name in left}
        random.write(replaced(now, own))

    def _resume_pass(self, state: Any, progress: Progress, random: RandomState, now: dict[str, Any]) -> None:
        """Bring the data to where it stood when the generators stood as they do `now`; this changes them."""
        latest, done, inside = progress.latest_pass, progress.epoch_step, progress.is_inside
        if self.is_stateful:
            self._resume_from(state, progress, random, now)
        elif self.data is None:
            self._pass = repeat(None, max(0, (self.steps_per_epoch or 1) - done)) if inside else None
        elif latest is not None and (inside or latest.batches):
            if inside or self._is_iterator:
                count = progress.step - latest.first_step + progress.batch_taken
                last = self._repeat_pass(count, latest, random, now)
                if inside and progress.batch_taken:
                    self.give_back(last, progress)
            else:
                self._repeat_first(latest, random)
            if not inside:
                self.end_pass()

    def _resume_from(self, state: Any, progress: Progress, random: RandomState, now: dict[str, Any]) -> None:
        """Bring data that has a state to where that says."""
        latest, inside = progress.latest_pass, progress.is_inside
        if latest is not None:
            set_epoch(self.data, latest.epoch)
        random.write(now)
        if inside and latest is not None and latest.data is not None and draws_at_random(self.data, random):
            self._begin(latest, random)
            self._repeat(progress.epoch_step, latest, random)
            return
        self._load(state, left=progress.pass_left)
        self._left = state if progress.pass_left else None
        self._pass = None
        if inside:
            self._pass = self._iterate()
            if self.steps_per_epoch is not None and progress.epoch_step >= self.steps_per_epoch:
                next(self._pass, None)  # what has not begun could be taken for a pass to come
                self._pass, self._left = iter(()), state

    def _check_workers(self, progress: Progress, random: RandomState) -> None:
        """Refuse what workers cannot repeat.

        Raises:
            ValueError: If they give batches in no fixed order, or if they outlive a pass and draw random numbers, whose
                generators cannot be saved, and the first pass is over.
        """
        latest, inside = progress.latest_pass, progress.is_inside
        loader = loader_of(self.data)
        if latest is None or self.accepts_other:
            return
        if getattr(loader, "num_workers", 0) > 1 and not getattr(loader, "in_order", True):
            raise ValueError(
                "'data' must have in_order=True to be resumed: its workers give their batches in no fixed order; to go "
                "on with another order, pass accept='data'"
            )
        if inside and latest.epoch == 1:
            return
        if getattr(loader, "persistent_workers", False) and draws_at_random(self.data, random):
            raise ValueError(
                "'data' must not draw random numbers in persistent workers, whose generators cannot be saved, to be "
                "resumed after its first pass; wrap the data set with lucid_train.data.seeded, or set "
                "persistent_workers=False; to go on with other random numbers, pass accept='data'"
            )

    def _load(self, state: Any, *, left: bool) -> None:
        """Load a state of the data; if it is of a pass that was left, the next pass is a new one."""
        attributed("data.load_state_dict", self.data.load_state_dict, state)
        if left:
            next(iter(self.data), None)  # begin that pass, to leave it again
        else:
            # torchdata's loader acts on what was loaded when it is used: let it be now, not when generators matter.
            attributed("data.state_dict", self.data.state_dict)

    def _begin(self, latest: DataPass, random: RandomState) -> None:
        """Begin a pass as it was begun before, with all generators as they were then."""

        def restore() -> None:
            set_epoch(self.data, latest.epoch)
            if latest.random is not None:
                random.write(latest.random)

        restore()
        if self.is_stateful:
            self._load(latest.data, left=latest.left)
        elif getattr(loader := loader_of(self.data), "persistent_workers", False):
            # PyTorch draws a seed for the workers in the pass that starts them, and in no later one.
            if latest.epoch == 1:
                loader._iterator = None
            else:
                set_epoch(self.data, 1)  # workers copy their data set when they start
                next(iter(self.data), None)
        restore()
        self._pass = self._iterate()

    def _repeat_first(self, latest: DataPass, random: RandomState) -> None:
        """Take the first batch of a pass again and compare it: twice, as a generator that is not saved gives two."""
        for _ in range(2):
            self._begin(latest, random)
            self._repeat(1, latest, random)

    def _repeat_pass(self, count: int, latest: DataPass, random: RandomState, now: dict[str, Any]) -> Any:
        """Take the batches of a pass that were taken before, from its beginning, and return the last one.

        Raises:
            ValueError: If they are others, or the rest of the pass may be another one.
        """
        self._begin(latest, random)
        last, shared = self._repeat(count, latest, random, now)
        if not shared or self.accepts_other:
            return last
        # In between others drew from a generator that the batches come from: their own numbers may be other ones, but
        # none may decide what comes later.
        if self._is_iterator or self._trial(shared, latest, random, 1) != self._trial(shared, latest, random, 2):
            raise ValueError(
                f"'data' must not draw from a random generator that the steps draw from too: what it draws for a batch "
                f"decides which batches come later, so that the pass of epoch {latest.epoch} cannot be repeated; "
                f"{_CAUSES}"
            )
        self._begin(latest, random)
        return self._repeat(count, latest, random)[0]

    def _repeat(
        self, count: int, latest: DataPass, random: RandomState, now: dict[str, Any] | None = None
    ) -> tuple[Any, set[str]]:
        """Take as many batches of a pass as were taken before, and compare those that were noted.

        Returns:
            The last one, and the names of the generators that batches after the first one draw from, and others in
            between did so too, as far as `now` says where they stood at last.
        """
        batch: Any = None
        shared: set[str] = set()
        first: dict[str, Any] | None = None
        for number in range(1, count + 1):
            index = number.bit_length() - 1
            noted = latest.batches[index] if number == 1 << index and index < len(latest.batches) else None
            if noted is not None and noted.random:
                states = random.read()
                wanted = replaced(states, noted.random)
                shared |= changed(states, wanted).keys()
                random.write(wanted)
            batch = next(self._pass, _END)
            if batch is _END:
                raise ValueError(f"'data' must have the {count} batches that were taken before: {number - 1}")
            if noted is not None:
                self._compare(batch, noted, number, latest)
            if number == 1 and now is not None and latest.random is not None:
                first = random.read()
        if first is not None and now is not None:
            after = random.read()
            shared |= changed(first, after).keys() & changed(after, now).keys()
        return batch, shared

    def _compare(self, batch: Any, noted: DrawnBatch, number: int, latest: DataPass) -> None:
        found = fingerprint(batch)
        if self.accepts_other:
            noted.fingerprint = found
        elif found != noted.fingerprint:
            raise ValueError(
                f"'data' must give the batches that it gave before the checkpoint, batch {number} of epoch "
                f"{latest.epoch} is another one; {_CAUSES}"
            )

    def _trial(self, shared: set[str], latest: DataPass, random: RandomState, seed: int) -> list[str | None]:
        """Return the fingerprints of every second batch of the pass; what those between draw depends on the seed."""
        self._begin(latest, random)
        found = []
        for number in range(1, _TRIAL + 1):
            if number > 1:
                random.reseed(shared, number if number % 2 == 0 else number + seed * _TRIAL)
            batch = next(self._pass, _END)
            if batch is _END:
                break
            if number % 2 == 0:
                found.append(fingerprint(batch))
        return found

    def _iterate(self) -> Iterator[Any]:
        if self.data is None:
            return repeat(None, self.steps_per_epoch or 1)
        batches = iter(self.data)
        # One that is written in Python may begin again whenever it is asked for an iterator.
        return chain(batches) if isinstance(type(batches).__iter__, FunctionType) else batches


@contextmanager
def _refusing() -> Iterator[None]:
    """Refuse, in the words of find_lr, what a resume refuses."""
    try:
        yield
    except ValueError as error:
        cause = str(error).partition("; to go on with")[0]
        raise RuntimeError(f"find_lr needs data that gives the same batches again: {cause}") from error
