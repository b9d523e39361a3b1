"""DTensors are saved by what a process holds of them, go on exactly in the same world, and are refused in another."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.distributed.tensor import Shard as Sharded
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from examples import export_shards
from lucid_train import (
    Callback,
    StepEnd,
    StepResult,
    Trainer,
    find_lr,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from lucid_train.callbacks import LRSchedulerCallback
from lucid_train.group import Solo
from lucid_train.optims.lr_scheduler import StepLR
from lucid_train.saving.checkpoint.arrays import unpack
from lucid_train.saving.checkpoint.tree import flatten, unflatten
from lucid_train.saving.shards import Shard, meshes_of, of_parameters, on_meshes, shard_of
from lucid_train.testing import diff_states
from tests.support.programs import shards

ROOT = Path(__file__).parents[2]
RECIPE = "; export it in a world like that one, as docs/guides/many_processes.md shows, and load the export"


def torchrun(count: int, *arguments: Any) -> str:
    """Return what a program of so many processes prints."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={count}",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left."""
    found = tmp_path_factory.mktemp("two")
    torchrun(2, ROOT / "tests/support/programs/shards.py", found)
    return found


@pytest.fixture
def world() -> Iterator[None]:
    """Process 1 of four, the others of which are not there: PyTorch's own group for tests."""
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=4)
    yield
    dist.destroy_process_group()


def in_file(tree: Any, folder: Path) -> Any:
    write_checkpoint(folder / "x", tree)
    return read_checkpoint(folder / "x")


def spread(mesh: DeviceMesh, local: Any, placements: list[Any], shape: tuple[int, ...]) -> DTensor:
    strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=torch.Size(shape), stride=strides)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("name", "moments"), [("sharded", ["exp_avg", "exp_avg_sq"]), ("parallel", ["momentum_buffer"])]
)
def test_a_run_of_two_processes_goes_on_exactly_from_what_each_of_them_holds(
    folder: Path, name: str, moments: list[str], rank: int
) -> None:
    assert json.loads((folder / f"found-{rank}.json").read_text())[name] == {
        "exchanges of a save": 0,
        "copied": [],
        "exchanges of a resume": 0,
        "read again": [],
        "differing": [],
        "spread": 4,
        "moments": moments,
    }


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_fingerprints_take_dtensors_and_a_loss_that_is_one_is_refused(folder: Path, rank: int) -> None:
    found = json.loads((folder / f"found-{rank}.json").read_text())["others"]
    assert found.pop("fingerprints") > 1
    assert found == {
        "exchanges of fingerprints": 0,
        "exchanges of a forward pass": True,
        "loss": "a step must return single numbers: 'loss' is a DTensor; return its full_tensor()",
    }


@pytest.mark.slow
def test_another_world_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    state = read_checkpoint(folder / "sharded-0.safetensors")
    plain = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 1))
    alone = shards.trainer(plain, torch.optim.Adam(plain.parameters(), lr=0.05))
    there = "'model.0.weight' is shard(0) at (0) of a mesh (2) in the checkpoint, and here it is "
    with pytest.raises(ValueError, match=re.escape(f"{there}no DTensor{RECIPE}")):
        alone.load_state_dict(state, accept=["model", "world_size"])  # the name of its class, which FSDP2 changes
    before = flatten(plain.state_dict()).copy()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        one = shards.trainer(*shards.sharded(init_device_mesh("cpu", (1,))))
        with pytest.raises(ValueError, match=re.escape(f"{there}at (0) of a mesh (1){RECIPE}")):
            one.load_state_dict(state, accept="world_size")
    finally:
        dist.destroy_process_group()
    assert [leaf.data.tolist() for leaf in flatten(plain.state_dict()).leaves] == [
        leaf.data.tolist() for leaf in before.leaves
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "WeightAverage"])
def test_weights_of_which_a_file_has_a_part_are_not_returned(folder: Path, name: str | None) -> None:
    message = f"the weights must be whole, and '{name or 'model'}.0.weight' is shard(0) at (1) of a mesh (2){RECIPE}"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_weights(folder / "sharded-1.safetensors", name=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # in one process
def test_what_two_processes_export_one_and_three_go_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example, target = ROOT / "examples/export_shards.py", tmp_path / "export"
    weights = torchrun(2, example, "export", target)
    export_shards.main("load", str(target))
    one = capsys.readouterr().out
    assert torchrun(3, example, "load", target) == one
    assert one.splitlines()[0] == weights.strip()
    assert re.fullmatch(r"loss \d\.\d{5}", one.splitlines()[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # in one process
def test_an_export_of_a_checkpoint_has_the_parts_put_together(folder: Path) -> None:
    model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    export_shards.load(model, optimizer, str(folder / "export"))
    one, other = (read_checkpoint(folder / f"sharded-{rank}.safetensors") for rank in range(2))
    for index, (name, weight) in enumerate(model.state_dict().items()):
        assert torch.equal(weight, torch.cat([each["model"][name].local for each in (one, other)]))
        moments = [each["optimizer"]["state"][index]["exp_avg"].local for each in (one, other)]
        assert torch.equal(optimizer.state_dict()["state"][index]["exp_avg"], torch.cat(moments))


@pytest.mark.usefixtures("world")
def test_a_dtensor_is_marked_with_its_layout_and_comes_back_as_a_shard(tmp_path: Path) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    local = torch.arange(6.0).reshape(2, 3)
    tensor = spread(mesh, local, [Sharded(0), Replicate()], (3, 3))
    flat = flatten({"x": tensor, "y": 0})
    assert flat.json == {
        "x": {
            "dtensor": [
                {"array": ["x", "torch.float32", [2, 3]]},
                [3, 3],
                [3, 1],
                [["shard", 0], ["replicate"]],
                [2, 2],
                ["dp", "tp"],
                [0, 1],
            ]
        },
        "y": 0,
    }
    assert flat.leaves[0].data.ctypes.data == local.data_ptr()
    read = in_file([tensor], tmp_path)[0]
    assert repr(read) == repr(shard_of(tensor))
    assert torch.equal(read.local, local)
    assert diff_states([read], [tensor]) == []
    assert diff_states(in_file([read], tmp_path), [tensor]) == []
    other = spread(mesh, local, [Replicate(), Sharded(0)], (3, 3))
    assert diff_states([read], [other]) == ["0"]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("placements", "shape", "local"),
    [
        ([Sharded(0), Sharded(0)], (5, 2), (1, 2)),
        ([Sharded(1), Replicate()], (2, 3), (2, 2)),
        ([Replicate(), Sharded(0)], (1, 3), (0, 3)),
        ([Replicate(), Partial("avg")], (2,), (2,)),
        ([_StridedShard(0, split_factor=2), Sharded(0)], (8, 1), (2, 1)),
        ([Replicate(), Replicate()], (), ()),
    ],
    ids=["twice", "second", "empty", "partial", "strided", "scalar"],
)
@pytest.mark.parametrize("kind", ["plain", "requires_grad", "parameter"])
def test_a_shard_becomes_the_dtensor_that_it_was(
    tmp_path: Path, placements: list[Any], shape: tuple[int, ...], local: tuple[int, ...], kind: str
) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    tensor: Any = spread(mesh, torch.rand(local, dtype=torch.bfloat16), placements, shape)
    if kind == "parameter":
        tensor = nn.Parameter(tensor, requires_grad=False)
    elif kind == "requires_grad":
        tensor.requires_grad_()
    read = in_file({"a": (tensor, [1]), "b": 2}, tmp_path)
    for like, meshes in (({"a": (tensor,)}, []), (None, [mesh])):
        found = on_meshes(read, "state", like, meshes)
        [back, rest], number = found["a"], found["b"]
        assert (rest, number, type(found["a"])) == ([1], 2, tuple)
        assert (type(back), back._spec, back.requires_grad) == (DTensor, tensor._spec, tensor.requires_grad)
        assert isinstance(back, nn.Parameter) == (kind == "parameter")
        assert torch.equal(back.detach().to_local(), tensor.detach().to_local())
    assert type(read["a"][0]) is Shard


@pytest.mark.usefixtures("world")
def test_what_an_optimizer_keeps_lies_on_the_mesh_of_its_parameter(tmp_path: Path) -> None:
    one, other = DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", [1, 3])
    parameters = [
        nn.Parameter(spread(mesh, torch.rand(1), [Sharded(0)], (2,))) for mesh in (one, DeviceMesh("cpu", [2, 1]))
    ]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for each in parameters:
        each.grad = spread(each.device_mesh, torch.ones(1), [Sharded(0)], (2,))
    optimizer.step()
    read = in_file(optimizer.state_dict(), tmp_path)
    fresh = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    fresh.load_state_dict(on_meshes(read, "optimizer", of_parameters(read, fresh), []))
    assert [fresh.state[each]["momentum_buffer"]._spec.mesh for each in parameters] == [
        each.device_mesh for each in parameters
    ]
    assert diff_states(fresh.state_dict(), optimizer.state_dict()) == []
    assert meshes_of([{"a": [parameters[0]]}, parameters, other]) == [each.device_mesh for each in parameters]


@pytest.mark.usefixtures("world")
def test_a_shard_that_does_not_fit_what_is_here_is_named(tmp_path: Path) -> None:
    mesh, four = DeviceMesh("cpu", [0, 1]), init_device_mesh("cpu", (4,))
    named = init_device_mesh("cpu", (4,), mesh_dim_names=("dp",))
    tensor = spread(mesh, torch.rand(2, 4), [Sharded(0)], (4, 4))
    read = in_file({"w": tensor}, tmp_path)

    def refused(like: Any, meshes: list[Any], here: str, state: Any = read) -> None:
        there = "'model.w' is shard(0) at (1) of a mesh (2) in the checkpoint, and "
        with pytest.raises(ValueError, match=re.escape(f"{there}{here}{RECIPE}")):
            on_meshes(state, "model", like, meshes)

    refused({"w": spread(four, torch.rand(1, 4), [Sharded(0)], (4, 4))}, [], "here it is at (1) of a mesh (4)")
    refused({"w": spread(named, torch.rand(1, 4), [Sharded(0)], (4, 4))}, [], "here it is at (dp=1) of a mesh (dp=4)")
    refused({"w": torch.zeros(4, 4)}, [mesh], "here it is no DTensor")
    refused({"w": spread(mesh, torch.rand(4, 2), [Sharded(1)], (4, 4))}, [], "here it is shard(1)")
    refused(None, [], "here is no DTensor")
    refused(None, [four, DeviceMesh("cpu", [1, 0])], "here at (1) of a mesh (4), at (0) of a mesh (2)")
    refused(None, [DeviceMesh("cpu", [0, 2])], "here outside a mesh (2)")
    cut = Shard(torch.zeros(1, 4), (4, 4), (4, 1), (("shard", 0),), (2,), None, (1,))
    refused(None, [mesh], "its part must have the shape (2, 4): (1, 4)", {"w": cut})
    refused({"w": tensor}, [], "its part must have the shape (2, 4): (1, 4)", {"w": cut})
    with pytest.raises(
        ValueError, match=re.escape("'model.w' is of shape (4, 4) in the checkpoint, and here it is of")
    ):
        on_meshes(read, "model", {"w": spread(mesh, torch.rand(1, 4), [Sharded(0)], (2, 4))}, [])
    with pytest.raises(ValueError, match=r"'model.w' may belong to any of 2 meshes of shape \(2,\); give their dimens"):
        on_meshes(read, "model", None, [mesh, DeviceMesh("cpu", [2, 1])])


@pytest.mark.usefixtures("world")
def test_a_dtensor_that_is_cut_by_hand_comes_back_so(tmp_path: Path) -> None:
    tensor = spread(DeviceMesh("cpu", [0, 1]), torch.rand(3, 1), [Sharded(0)], (4, 1))
    back = on_meshes(in_file([tensor], tmp_path), "model", [tensor], [])[0]
    assert torch.equal(back.to_local(), tensor.to_local())


class Momentum(Callback):
    """Keeps a DTensor itself, as an average of weights does."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.sum = model, None

    def on_step_end(self, event: StepEnd) -> None:
        weight = self.model.weight.detach()
        self.sum = weight.clone() if self.sum is None else self.sum + weight

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self.sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sum = state["sum"]


class Gathered:
    """A metric that keeps a DTensor in an attribute."""

    def __init__(self) -> None:
        self.total: Any = None

    def update(self, value: Any) -> None:
        self.total = value.clone() if self.total is None else self.total + value

    def compute(self) -> float:
        return 0.5

    def reset(self) -> None:
        self.total = None


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("place", ["optimizer", "extras", "callback"])
def test_a_run_goes_on_wherever_its_optimizer_stands(tmp_path: Path, place: str) -> None:
    mesh = init_device_mesh("cpu", (4,))

    def build(seed: float) -> Trainer:
        model, metric = nn.Module(), Gathered()
        model.weight = nn.Parameter(spread(mesh, torch.full((1, 3), seed), [Sharded(0)], (3, 3)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(batch: float) -> float:
            model.weight.grad = model.weight.detach() * batch
            optimizer.step()
            metric.update(model.weight.detach())
            return batch

        scheduled = [LRSchedulerCallback(StepLR(optimizer, 1))] if place == "callback" else []
        return Trainer(
            step,
            [1.0, 2.0],
            epochs=2,
            model=model,
            optimizer=optimizer if place == "optimizer" else None,
            extras={"opt": optimizer} if place == "extras" else {},
            metrics={"gathered": metric},
            callbacks=[Momentum(model), *scheduled],
            group=Solo(),  # the other processes of the mesh are not there
        )

    straight, cut, resumed = build(1.0), build(1.0), build(2.0)
    straight.fit()
    if place != "extras":  # which rate to raise is not known then
        find_lr(cut, 1e-4, 1.0, steps=10)

    @cut.on(StepEnd, at=3)
    def stop(event: StepEnd) -> None:
        event.run.at_safe_point(lambda: write_checkpoint(tmp_path / "cut", event.run.state_dict()))
        event.run.stop("cut")

    cut.fit()
    resumed.load_state_dict(read_checkpoint(tmp_path / "cut"))
    resumed.fit()
    assert diff_states(straight.state_dict(), resumed.state_dict()) == []
    assert type(resumed.callbacks[0].sum) is DTensor


class Own(Sharded):
    """A placement of a user's own."""


@pytest.mark.usefixtures("world")
def test_what_of_dtensors_cannot_be_saved_is_named() -> None:
    mesh = DeviceMesh("cpu", [0, 1])
    trained = spread(mesh, torch.rand(2), [Replicate()], (2,)).requires_grad_()
    for tensor, message in (
        (spread(mesh, torch.rand(2), [Own(0)], (4,)), "only DTensors that are sharded, replicated or partial can: "),
        (trained * 2, "it is part of a graph of gradients, which cannot; detach it"),
        (spread(DeviceMesh("cpu", [0, 2]), torch.rand(2), [Sharded(0)], (4,)), "this process is not in the mesh of"),
    ):
        with pytest.raises(TypeError, match=f"'a' cannot be saved, {message}"):
            flatten({"a": tensor})


@pytest.mark.usefixtures("world")
def test_a_weight_that_is_a_dtensor_is_refused() -> None:
    weight = spread(DeviceMesh("cpu", [0, 1]), torch.tensor(1.0), [Replicate()], ())
    with pytest.raises(TypeError, match=r"'weight' must be .*, no DTensor; pass its full_tensor\(\)"):
        StepResult(0.5, weight=weight)


GOOD: list[Any] = [[2, 3], [3, 1], [["shard", 0]], [2], None, [1]]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, [2]),
        (0, [2, -1]),
        (0, [2, True]),
        (0, [2, 2**63]),
        (0, {"a": 1, "b": 2}),
        (1, [3]),
        (1, [3, 0.5]),
        (2, []),
        (2, [["shard", 2]]),
        (2, [["shard", -1]]),
        (2, [["shard"]]),
        (2, [["shard", True]]),
        (2, [["replicate", 0]]),
        (2, [["partial", "eval"]]),
        (2, [["partial"]]),
        (2, [["strided_shard", 0]]),
        (2, [["strided_shard", 0, 0]]),
        (2, [["strided_shard", 0, 2**31]]),
        (2, [["eval", 0]]),
        (2, [[[], 0]]),
        (2, ["shard"]),
        (2, [["shard", 0]] * 2),
        (3, []),
        (3, [0]),
        (3, [1]),
        (3, "2"),
        (4, []),
        (4, [1]),
        (4, "d"),
        (5, [2]),
        (5, [-1]),
        (5, [0, 0]),
        (5, None),
    ],
)
def test_a_layout_that_cannot_be_is_refused(place: int, value: Any) -> None:
    def read(layout: list[Any]) -> Any:
        text = json.dumps({"dtensor": [{"array": ["x", "torch.uint8", [1, 3]]}, *layout]}).encode()
        return unflatten(text, lambda name, *rest: unpack(np.zeros(3, np.uint8), *rest), size=10**9)

    assert read(GOOD).layout() == GOOD
    with pytest.raises(ValueError, match="a shard cannot lie so in a mesh"):
        read([value if index == place else each for index, each in enumerate(GOOD)])
    with pytest.raises(ValueError, match="a shard cannot lie so in a mesh"):
        read(GOOD[:place])
