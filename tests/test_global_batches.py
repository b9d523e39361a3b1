"""Batches of which each process takes its slice: the same samples and steps however many processes there are."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from lucid_train import StepResult, Trainer, nn
from lucid_train.data import GlobalBatchSampler, WeightedIndex, batches, seeded, weighted
from lucid_train.group.discovery import place
from lucid_train.group.protocol import Solo

Kind = Literal["drop", "pad"]


@frozen
class Of:
    """A process of several."""

    rank: int
    world_size: int


@frozen
class Case:
    """How data are shared, and by how many processes."""

    size: int
    share: int
    world: int
    shuffle: bool
    seed: int
    last: Kind
    epoch: int

    @property
    def batch_size(self) -> int:
        return self.share * self.world

    @property
    def order(self) -> list[int]:
        """The order of the epoch, as the documentation gives it."""
        rng = np.random.default_rng([self.seed, self.epoch])
        return (rng.permutation(self.size) if self.shuffle else np.arange(self.size)).tolist()

    def sampled(self, group: Any) -> list[list[tuple[int, float]]]:
        """Return the batches of a sampler, each as indices and weights."""
        settings: dict[str, Any] = {"shuffle": self.shuffle, "seed": self.seed, "last": self.last}
        sampler = GlobalBatchSampler(self.size, self.batch_size, **settings, group=group)
        sampler.set_epoch(self.epoch)
        seen = list(sampler)
        assert len(seen) == len(sampler)
        return [[each if isinstance(each, tuple) else (each, 1.0) for each in batch] for batch in seen]

    def sliced(self, group: Any) -> list[list[tuple[int, float]]]:
        """Return the same of arrays."""
        settings: dict[str, Any] = {"shuffle": self.shuffle, "seed": self.seed, "last": self.last}
        rows = np.arange(self.size)
        data = batches(rows, 2 * rows, batch_size=self.batch_size, **settings, group=group)
        data.set_epoch(self.epoch)
        seen = []
        for first, second, *weights in data:
            assert second.tolist() == (2 * first).tolist()
            seen.append(list(zip(first.tolist(), weights[0].tolist() if weights else [1.0] * len(first), strict=True)))
        assert len(seen) == len(data)
        return seen


@st.composite
def cases(draw: st.DrawFn) -> Case:
    last: Kind = draw(st.sampled_from(("drop", "pad")))
    share, world = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    size = draw(st.integers(share * world if last == "drop" else 1, 60))
    shuffle, seed, epoch = draw(st.booleans()), draw(st.integers(0, 2**70)), draw(st.integers(0, 2**33))
    return Case(size, share, world, shuffle, seed, last, epoch)


@given(case=cases())
def test_the_slices_of_a_batch_are_together_the_batch_of_one_process(case: Case) -> None:
    alone = case.sampled(Solo())
    shares = [case.sampled(Of(rank, case.world)) for rank in range(case.world)]
    assert all(len(batch) == case.share for share in shares for batch in share)
    assert [[sample for part in parts for sample in part] for parts in zip(*shares, strict=True)] == alone


@given(case=cases())
def test_every_sample_comes_once_in_an_epoch_in_an_order_of_seed_and_epoch(case: Case) -> None:
    alone = case.sampled(Solo())
    real = [index for batch in alone for index, weight in batch if weight]
    kept = case.size // case.batch_size * case.batch_size if case.last == "drop" else case.size
    assert real == case.order[:kept]
    assert {weight for batch in alone for _, weight in batch} <= {0.0, 1.0}
    padding = [index for batch in alone for index, weight in batch if not weight]
    assert padding == [case.order[place % case.size] for place in range(kept, kept + len(padding))]


@given(case=cases())
def test_arrays_and_samplers_are_sliced_alike(case: Case) -> None:
    for group in (Solo(), *(Of(rank, case.world) for rank in range(case.world))):
        assert case.sliced(group) == case.sampled(group)


@given(case=cases(), part=st.integers(0, 60), other=st.sampled_from((1, 2, 3)))
def test_a_state_in_the_middle_of_a_pass_goes_on_with_more_or_fewer_processes(
    case: Case, part: int, other: int
) -> None:
    size = case.batch_size * other  # which both numbers of processes divide
    last: Kind = "pad"
    settings: dict[str, Any] = {"batch_size": size, "shuffle": case.shuffle, "seed": case.seed, "last": last}
    rows = np.arange(case.size)
    whole = batches(rows, **settings, group=Solo())
    whole.set_epoch(case.epoch)
    rest = iter(whole)
    before = batches(rows, **settings, group=Of(case.world - 1, case.world))
    before.set_epoch(case.epoch)
    passing = iter(before)
    for _ in range(min(part, len(whole))):
        next(rest), next(passing)
    state = json.loads(json.dumps(before.state_dict()))
    assert state == whole.state_dict()
    after = [batches(rows, **settings, group=Of(rank, other)) for rank in range(other)]
    for each in after:
        each.load_state_dict(state)
        each.set_epoch(case.epoch)  # as the Trainer does, which changes nothing
    for expected in (rest, whole):
        parts = zip(*(list(each) for each in after), strict=True)
        found = [[np.concatenate(arrays).tolist() for arrays in zip(*part, strict=True)] for part in parts]
        assert found == [[array.tolist() for array in batch] for batch in expected]


def indices(sampler: GlobalBatchSampler) -> list[Any]:
    return list(sampler)


def test_a_sampler_whose_epoch_is_never_set_says_that_its_order_stays_the_same() -> None:
    sampler = GlobalBatchSampler(range(6), 2)
    first = indices(sampler)
    with pytest.warns(UserWarning, match=r"every pass has the order of epoch 0; call set_epoch\(epoch\) of the Global"):
        assert indices(sampler) == first
    sampler.set_epoch(1)
    second = indices(sampler)
    assert indices(sampler) == second != first
    fixed = GlobalBatchSampler(6, 2, shuffle=False)
    assert indices(fixed) == indices(fixed) == [[0, 1], [2, 3], [4, 5]]


def test_the_epoch_that_is_set_is_that_of_the_next_pass_of_batches() -> None:
    data, other = batches(np.arange(9), batch_size=3), batches(np.arange(9), batch_size=3)
    passes = [[batch.tolist() for batch in data] for _ in range(4)]
    for epoch in (2, 0, 1, 3):
        other.set_epoch(epoch)
        assert [batch.tolist() for batch in other] == passes[epoch]
        assert other.state_dict()["epoch"] == epoch + 1
    left = iter(other)
    next(left)
    other.set_epoch(1)
    assert other.state_dict() == {**data.state_dict(), "epoch": 1}
    assert [batch.tolist() for batch in other] == passes[1]


def test_a_trainer_sets_the_epoch_of_batches_in_each_run() -> None:
    data, seen = batches(np.arange(4), batch_size=4), []
    trainer = Trainer(lambda batch: seen.append(batch.tolist()), data, epochs=2)
    trainer.fit()
    trainer.fit(restart=True)
    assert seen[:2] == seen[2:] == [np.random.default_rng([0, epoch]).permutation(4).tolist() for epoch in (0, 1)]


def arrays(rows: Any, size: int, **options: Any) -> Any:
    return batches(rows, batch_size=size, **options)


@pytest.mark.parametrize("make", [GlobalBatchSampler, arrays])
def test_processes_that_cannot_share_a_batch_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"'batch_size' must be a multiple of 3, the number of .*: 8; pass 9, or"):
        make(range(20), 8, last="drop", group=Of(0, 3))
    with pytest.raises(ValueError, match=r"'group\.rank' must be < 3, the number of processes: 3"):
        make(range(20), 9, group=Of(3, 3))
    with pytest.raises(ValueError, match=r"'group\.world_size' must be >= 1: 0"):
        make(range(20), 9, group=Of(0, 0))
    with pytest.raises(ValueError, match=r"'group\.rank' must be >= 0: -1"):
        make(range(20), 9, group=Of(-1, 3))


def test_a_short_batch_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match=r"'last' must be 'drop' or 'pad' where 2 processes share .*group=Solo\(\)"):
        batches(range(4), batch_size=2, group=Of(0, 2))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0, 1), {}, ValueError, "'dataset' must be >= 1: 0"),
        (([], 1), {}, ValueError, "'dataset' must be >= 1: 0"),
        ((1.5, 1), {}, TypeError, r"'dataset' must have a length, or be one: 1\.5"),
        ((True, 1), {}, TypeError, "'dataset' must have a length, or be one: True"),
        ((3, 0), {}, ValueError, "'batch_size' must be >= 1: 0"),
        ((3, 4), {}, ValueError, "'batch_size' must be <= 3, the number of samples, with last='drop': 4"),
        ((3, 2), {"last": "short"}, ValueError, "'last' must be one of 'drop', 'pad': 'short'"),
        ((3, 2), {"shuffle": 1}, TypeError, "'shuffle' must be True or False: 1"),
        ((3, 2), {"seed": -1}, ValueError, "'seed' must be >= 0: -1"),
    ],
)
def test_bad_arguments_of_a_sampler_are_refused(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        GlobalBatchSampler(*arguments, **options)
    with pytest.raises(ValueError, match="'epoch' must be >= 0: -1"):
        GlobalBatchSampler(3, 2).set_epoch(-1)


def test_a_sampler_shows_its_settings() -> None:
    text = "GlobalBatchSampler(3, 2, shuffle=True, seed=1, last='pad')"
    assert repr(GlobalBatchSampler("abc", 2, seed=1, last="pad")) == text


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that has this process be one of several, as an engine that is initialised would say."""
    for module in ("torch.distributed", "mpi4py.MPI"):  # which another test may have imported
        monkeypatch.delitem(sys.modules, module, raising=False)

    def initialize(name: str, rank: int, size: int) -> None:
        ask = {"get_rank": rank, "get_world_size": size, "is_available": True, "is_initialized": True}
        ask |= {"Is_initialized": True, "Is_finalized": False}
        module = SimpleNamespace(**{name: lambda value=value: value for name, value in ask.items()})
        module.COMM_WORLD = SimpleNamespace(Get_rank=lambda: rank, Get_size=lambda: size)
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]  # as far as it is asked

    return initialize


@pytest.mark.parametrize("engine", ["torch.distributed", "mpi4py.MPI"])
def test_what_is_initialised_when_a_pass_begins_says_which_slice_it_is(engine: str, engines: Any) -> None:
    sampler = GlobalBatchSampler(8, 4, shuffle=False)
    data = batches(range(8), batch_size=4, shuffle=False, last="drop")
    whole = batches(range(3), batch_size=3)
    assert (place(), indices(sampler)) == ((0, 1), [[0, 1, 2, 3], [4, 5, 6, 7]])
    engines(engine, 1, 2)
    assert place() == (1, 2)
    assert indices(sampler) == [batch.tolist() for batch in data] == [[2, 3], [6, 7]]
    with pytest.raises(ValueError, match=r"'batch_size' must be a multiple of 2, .*: 3; pass 4, or another multiple"):
        next(iter(whole))
    assert len(next(iter(batches(range(3), batch_size=3, group=Solo())))) == 3


def test_torch_says_it_before_mpi(engines: Any) -> None:
    engines("mpi4py.MPI", 2, 4)
    engines("torch.distributed", 1, 2)
    assert place() == (1, 2)


def test_a_weighted_data_set_gives_weights_and_others_refuse_the_indices() -> None:
    data = weighted(["a", "b", "c"])
    assert (len(data), data[1], data[WeightedIndex(2, 0.0)]) == (3, ("b", 1.0), ("c", 0.0))
    assert data.__getitems__([WeightedIndex(2, 0.0), 0]) == [("c", 0.0), ("a", 1.0)]
    assert data[1][1].dtype == np.float32
    assert repr(data) == "Weighted(['a', 'b', 'c'])"
    for plain in ([1, 2], np.ones((3, 3)), "abc", range(3), {0: 1}):
        with pytest.raises((TypeError, IndexError, KeyError)):
            plain[WeightedIndex(1, 1.0)]  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'dataset' must have __getitem__ and __len__: 5"):
        weighted(5)  # type: ignore[arg-type]


def test_a_data_set_that_reads_several_at_once_does_so_with_weights() -> None:
    class Table(list[str]):
        def __getitems__(self, places: list[int]) -> list[str]:
            return ["".join(self[place] for place in places)] * len(places)

    assert weighted(Table("abc")).__getitems__([WeightedIndex(2, 0.0), 0]) == [("ca", 0.0), ("ca", 1.0)]


def test_weights_and_seeds_go_together() -> None:
    data = weighted(seeded([10, 20], seed=0))
    assert [data[index] for index in next(iter(GlobalBatchSampler(data, 2, shuffle=False, last="pad")))] == [
        (10, 1.0),
        (20, 1.0),
    ]


def trained(rank: int, world: int, last: Kind) -> tuple[Any, Any, list[float]]:
    """Return each step's sum of losses and weights, and its gradients, on a process of several; and the mean losses."""
    rows, sums, gradients = np.random.default_rng(0).normal(size=(21, 2)), [], []
    model = nn.Linear(2, 1, rng=0)

    def step(batch: Any) -> Any:
        x, weights = batch if last == "pad" else (batch, np.ones(len(batch)))
        for parameter in model.parameters():
            parameter.grad = None
        difference = model(x) - x[:, :1]
        model.backward(2 * weights[:, None] * difference)
        total = float((weights * difference[:, 0] ** 2).sum())
        sums.append((total, weights.sum()))
        gradients.append([number for parameter in model.parameters() for number in np.ravel(parameter.grad)])
        return StepResult(total / max(weights.sum(), 1.0), weight=weights.sum())

    data = batches(rows, batch_size=8, seed=3, last=last, group=Of(rank, world))
    history = Trainer(step, data, epochs=3, model=model).fit()
    return np.array(sums), np.array(gradients), [record.metrics["loss"] for record in history]


@pytest.mark.parametrize("last", ["drop", "pad"])
@pytest.mark.parametrize("world", [2, 4, 8])
def test_mean_losses_and_gradients_are_those_of_one_process(world: int, last: Kind) -> None:
    alone, whole, means = trained(0, 1, last)
    parts = [trained(rank, world, last) for rank in range(world)]
    sums = np.sum([each for each, _, _ in parts], axis=0)
    assert sums == pytest.approx(alone, rel=1e-12)
    assert np.sum([each for _, each, _ in parts], axis=0) == pytest.approx(whole, rel=1e-12, abs=1e-12)
    losses, weights = sums.reshape(3, -1, 2).sum(axis=1).T
    assert losses / weights == pytest.approx(means, rel=1e-12)
    assert weights.tolist() == [21.0 if last == "pad" else 16.0] * 3
