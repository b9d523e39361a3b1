"""Two recorded runs, compared: what differs in their set-up, and where they part."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen, mutable

from lucid_train.events import StepEnd
from lucid_train.metrics import is_time
from lucid_train.recording.digests import read_digests, read_setup, read_versions, read_weights
from lucid_train.recording.lines import Line, not_a_log, read_event, read_fields, read_log
from lucid_train.recording.placeholders import RecordedRun
from lucid_train.recording.values import read_json
from lucid_train.saving.settings import Setup, differences

# How many moments are kept on either side of the first difference.
_AROUND = 2
# In which order the moments after a step are recorded.
_BEGINNING, _DIGESTS, _STEP, _EVALUATION, _EPOCH = range(5)


@frozen
class Moment:
    """What a log says of one moment of a run.

    Args:
        key: Its place among others, equal for the same moment of two runs: the steps done, what kind of moment it is,
            and the epoch that has ended, if one has.
        facts: What is compared, by name, in the order in which a step uses it.
    """

    key: tuple[int, int, int]
    facts: Mapping[str, Any]

    def __str__(self) -> str:
        step, kind, epoch = self.key
        places = {_BEGINNING: "the beginning", _EVALUATION: f"the evaluation at step {step}", _EPOCH: f"epoch {epoch}"}
        return places.get(kind, f"step {step}")

    @property
    def step(self) -> int:
        """The steps done."""
        return self.key[0]

    @property
    def epoch(self) -> int:
        """The number of the epoch; 0 before the first."""
        return int(self.facts.get("epoch", self.key[2]))


@frozen
class Pair:
    """One moment of two runs.

    Args:
        one: What the first log says of it.
        other: What the second one does.
    """

    one: Moment
    other: Moment

    def __str__(self) -> str:
        return str(self.one)

    @property
    def names(self) -> list[str]:
        """The names of what either log has, in order."""
        return list(dict.fromkeys([*self.one.facts, *self.other.facts]))

    @property
    def differing(self) -> dict[str, tuple[Any, Any]]:
        """What differs, by name, as it is in each; None for what one of them lacks. NaN equals NaN.

        Times differ between any two runs, and are left out.
        """
        names = [name for name in self.names if not is_time(name)]
        both = {name: (self.one.facts.get(name), self.other.facts.get(name)) for name in names}
        # By the repr, which has as many digits as the bits need and is the same for NaN.
        return {name: pair for name, pair in both.items() if repr(pair[0]) != repr(pair[1])}


@frozen
class Comparison:
    """What two logs say of two runs.

    Args:
        setup: What differs in the set-up: sentences.
        versions: What differs in the versions of what computes: sentences.
        pairs: The first moment at which the runs differ, with those around it; if there is none, the last ones.
        first: The first moment at which they differ, or None.
        compared: How many moments both logs have that were compared, up to the difference.
        ends: The last moments that were read of each, or None if there are none.
    """

    setup: tuple[str, ...]
    versions: tuple[str, ...]
    pairs: tuple[Pair, ...]
    first: Pair | None
    compared: int
    ends: tuple[Moment | None, Moment | None]

    @property
    def agrees(self) -> bool:
        """Whether nothing differs of what both logs have."""
        return not self.setup and not self.versions and self.first is None


def compare_logs(one: Path, other: Path) -> Comparison:
    """Compare two logs by all that both have: digests, recorded steps, evaluations and epochs.

    What one of them has for other steps only is left out, and so is what comes after the end of the shorter one.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If it is not the log of a run, or if the two have no moment in common and are set up alike.
    """
    logs = _Log(one), _Log(other)
    before: deque[Pair] = deque(maxlen=_AROUND)
    first, after, compared = None, [], 0
    for pair in _common(*logs):
        compared += first is None
        if first is not None:
            after.append(pair)
            if len(after) == _AROUND:
                break
        elif pair.differing:
            first = pair
        else:
            before.append(pair)
    names = (f"in {one}", f"in {other}") if one.name == other.name else (f"in {one.name}", f"in {other.name}")
    setup = tuple(_setups(logs[0].setup, logs[1].setup, names))
    versions = tuple(chain(_versions(logs[0].versions[0], logs[1].versions[0], names), *map(_changes, logs)))
    if not (compared or setup or versions):
        cure = "record both with EventLog(path, digests=n), or one epoch at least"
        raise ValueError(f"'{one}' and '{other}' must have a step or an epoch in common to be compared: none; {cure}")
    return Comparison(
        setup,
        versions,
        (*before, *([] if first is None else [first]), *after),
        first,
        compared,
        (logs[0].last, logs[1].last),
    )


@mutable
class _Log:
    """A log that is being read.

    Attributes:
        setup: How the run was set up when it began, or None if the log does not say.
        versions: The versions of each of its fits, after how many steps each began.
        last: The last moment that was read.
    """

    path: Path
    setup: Setup | None = field(default=None, init=False)
    versions: list[tuple[int, dict[str, str]]] = field(factory=list, init=False)
    last: Moment | None = field(default=None, init=False)
    # The steps of the epochs that have ended.
    _steps: int = field(default=0, init=False)
    _run: RecordedRun = field(factory=RecordedRun, init=False)

    def moments(self) -> Iterator[Moment]:
        """Yield the moments of the run.

        Raises:
            ValueError: If a line is not one of a log, or lies before those above it.
        """
        for line in read_log(self.path):
            try:
                for moment in sorted(self._found(line), key=lambda each: each.key):
                    if self.last is not None and moment.key < self.last.key:
                        raise ValueError(f"{moment} comes after {self.last}")
                    self.last = moment
                    yield moment
            except ValueError as error:
                raise not_a_log(self.path, f"in line {line.number}, {error}") from error
        if not self.versions:
            raise not_a_log(self.path, "it has no complete line")

    def _found(self, line: Line) -> Iterator[Moment]:
        run = self._run
        run.take(line.run)
        if line.event == "FitStart":
            yield from self._begun(line)
        elif line.event == "digests":
            place = read_fields(("epoch", "step"), line.fields)
            yield Moment((place["step"], _DIGESTS, 0), {"epoch": place["epoch"], **read_digests(line.fields)})
        elif line.event == "StepEnd":
            event = read_event(line, run)
            if isinstance(event, StepEnd):
                own = {"epoch": event.epoch, **event.metrics}
                facts = {**own, "rate afterwards": tuple(run.last_lr), **_afterwards(run.scheduled)}
                yield Moment((event.step, _STEP, 0), facts)
        evaluations = () if "evaluations" not in line.run else run.history.evaluations
        for each in evaluations[len(evaluations) - len(line.run.get("evaluations", ())) :]:
            yield Moment((each.step, _EVALUATION, 0), {"epoch": each.epoch, **each.metrics})
        for record in run.history[len(run.history) - len(line.run.get("history", ())) :]:
            self._steps += record.steps
            facts = {"steps": record.steps, **record.metrics, "rate": record.lr, **record.scheduled}
            yield Moment((self._steps, _EPOCH, record.epoch), facts)

    def _begun(self, line: Line) -> Iterator[Moment]:
        run, fields = self._run, line.fields
        is_first = not self.versions
        self.versions.append((run.step, read_versions(fields.get("versions", {}))))
        setup = read_setup(fields.get("setup"))
        if is_first:
            self.setup = setup
        weights = None if fields.get("weights") is None else read_weights(read_json("weights", fields["weights"], dict))
        if is_first and weights is not None and run.step == 0:
            yield Moment((0, _BEGINNING, 0), weights)


def _afterwards(scheduled: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name} afterwards": tuple(numbers) for name, numbers in scheduled.items()}


def _common(one: _Log, other: _Log) -> Iterator[Pair]:
    """Yield the moments that both logs have."""
    ours, theirs = one.moments(), other.moments()
    mine, its = next(ours, None), next(theirs, None)
    while mine is not None and its is not None:
        if mine.key == its.key:
            yield Pair(mine, its)
            mine, its = next(ours, None), next(theirs, None)
        elif mine.key < its.key:
            mine = next(ours, None)
        else:
            its = next(theirs, None)
    # The rest is read too: how far each has come, and with which versions.
    for log in ours, theirs:
        for _ in log:
            pass


def _setups(one: Setup | None, other: Setup | None, names: tuple[str, str]) -> list[str]:
    if one is None or other is None:
        return []
    found = list(differences(evolve(one, epochs=other.epochs), other, {}, names).values())
    if one.epochs != other.epochs:
        found.insert(0, f"epochs is {one.epochs} {names[0]} and {other.epochs} {names[1]}")
    return found


def _versions(one: tuple[int, dict[str, str]], other: tuple[int, dict[str, str]], names: tuple[str, str]) -> list[str]:
    (_, ours), (_, theirs) = one, other
    if not ours or not theirs:  # a log that does not say
        return []
    both = {name: (ours.get(name, "not imported"), theirs.get(name, "not imported")) for name in [*ours, *theirs]}
    return [f"{name} is {a} {names[0]} and {b} {names[1]}" for name, (a, b) in both.items() if a != b]


def _changes(log: _Log) -> Iterator[str]:
    """Yield what has changed in the versions where a run was resumed."""
    for (_, before), (step, now) in zip(log.versions, log.versions[1:], strict=False):
        for name in [name for name in now if name in before and now[name] != before[name]]:
            yield f"{name} is {now[name]} in {log.path.name} after step {step}, and {before[name]} before it"
