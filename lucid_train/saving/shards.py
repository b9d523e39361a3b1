"""Tensors that are spread over a mesh of processes: what one process holds of each, and the tensor on a mesh again."""

from __future__ import annotations

import copy
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from attrs import field, frozen

_LARGEST_RANK = 32
# The types of numbers that follow the name of a placement; a reduction is named by text.
_PLACEMENTS: dict[str, tuple[type, ...]] = {
    "shard": (int,), "strided_shard": (int, int), "replicate": (), "partial": (str,)
}  # fmt: skip
_REDUCTIONS = ("sum", "avg", "product", "min", "max")
RECIPE = "export it in a world like that one, as docs/guides/many_processes.md shows, and load the export"

# How one dimension of the mesh holds the tensor: ("shard", dimension of the tensor), ("replicate",),
# ("partial", reduction) or ("strided_shard", dimension, split factor).
Placement: TypeAlias = tuple[str | int, ...]


@frozen(eq=False)
class Shard:
    """What one process holds of a DTensor, as it is read from a checkpoint: that needs no process group.

    Args:
        local: The local tensor, with all its own settings.
        shape: The shape of the whole tensor.
        stride: The strides of the whole tensor, in elements.
        placements: How each dimension of the mesh holds the tensor, such as ("shard", 0).
        mesh_shape: The shape of the mesh.
        mesh_names: The names of the mesh's dimensions, or None.
        coordinate: The place of the process in the mesh.
    """

    local: Any = field(repr=False)
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    placements: tuple[Placement, ...]
    mesh_shape: tuple[int, ...]
    mesh_names: tuple[str, ...] | None
    coordinate: tuple[int, ...]

    def layout(self) -> list[Any]:
        """Return everything but the local tensor, as plain JSON."""
        names = None if self.mesh_names is None else list(self.mesh_names)
        placements = [list(each) for each in self.placements]
        return [list(self.shape), list(self.stride), placements, list(self.mesh_shape), names, list(self.coordinate)]

    def local_shape(self) -> tuple[int, ...] | None:
        """Return the shape that the local tensor has if the whole is cut evenly; None of strided shards."""
        sizes = list(self.shape)
        for placement, count, place in zip(self.placements, self.mesh_shape, self.coordinate, strict=True):
            match placement:
                case "shard", int(axis):
                    length = -(-sizes[axis] // count)
                    sizes[axis] = max(0, min(length, sizes[axis] - length * place))
                case "strided_shard", *_:
                    return None
        return tuple(sizes)

    def __str__(self) -> str:
        return f"{_spread(self.placements)} {_place(self.mesh_shape, self.mesh_names, self.coordinate)}"


# What may be a Shard or hold one: the types that a file has.
_WITH_ENTRIES = (dict, list, tuple, Counter, OrderedDict, defaultdict, Shard)


def shard_of(value: Any) -> Shard | None:
    """Return what this process holds of a DTensor, a Shard as it is, and None of anything else. Nothing is copied.

    Raises:
        TypeError: If it is a DTensor that cannot be saved, saying why.
    """
    if type(value) is Shard or not is_dtensor(value):
        return value if type(value) is Shard else None
    torch, mesh = sys.modules["torch"], value.device_mesh
    if value.requires_grad and not value.is_leaf:
        raise TypeError("it is part of a graph of gradients, which cannot; detach it")
    if (coordinate := mesh.get_coordinate()) is None:
        raise TypeError("this process is not in the mesh of the DTensor, and holds nothing of it")
    local = value.detach().to_local()
    if isinstance(value, torch.nn.Parameter):
        local = torch.nn.Parameter(local, value.requires_grad)
    elif value.requires_grad:
        local = local.detach().requires_grad_()
    return Shard(
        local,
        tuple(value.shape),
        tuple(value.stride()),
        tuple(map(_placement, value.placements)),
        tuple(mesh.shape),
        None if mesh.mesh_dim_names is None else tuple(mesh.mesh_dim_names),
        tuple(coordinate),
    )


def is_dtensor(value: Any) -> bool:
    """Return whether this is a DTensor of PyTorch."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and type(value) is module.DTensor


def read_shard(local: Any, layout: list[Any]) -> Shard:
    """Return the Shard of a local tensor and of what `Shard.layout` returned.

    Raises:
        ValueError: If there can be none.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(local, torch.Tensor):
        raise ValueError("a shard must be a tensor of PyTorch")
    match layout:
        case [
            list(shape), list(stride), list(placements), list(mesh_shape), None | list() as names, list(coordinate),
        ] if (
            _are_sizes(shape) and _are_sizes(stride) and len(shape) == len(stride) == local.ndim
            and _are_sizes(mesh_shape) and _are_sizes(coordinate)
            and len(mesh_shape) == len(coordinate) == len(placements) > 0
            and all(place < size for place, size in zip(coordinate, mesh_shape, strict=True))
            and (names is None or (len(names) == len(mesh_shape) and all(type(name) is str for name in names)))
            and all(_is_placement(each, len(shape)) for each in placements)
        ):  # fmt: skip
            found = (tuple(map(tuple, placements)), tuple(mesh_shape), None if names is None else tuple(names))
            return Shard(local, tuple(shape), tuple(stride), *found, tuple(coordinate))
    raise ValueError(f"a shard cannot lie so in a mesh: {layout!r:.200}")


def _are_sizes(values: list[Any]) -> bool:
    return len(values) <= _LARGEST_RANK and all(type(each) is int and 0 <= each < 2**63 for each in values)


def _is_placement(value: Any, rank: int) -> bool:
    if type(value) is not list or not value or type(value[0]) is not str:
        return False
    name, *settings = value
    if tuple(map(type, settings)) != _PLACEMENTS.get(name):
        return False
    if name == "partial":
        return settings[0] in _REDUCTIONS
    return not settings or (0 <= settings[0] < rank and all(1 <= factor < 2**31 for factor in settings[1:]))


def _placement(placement: Any) -> Placement:
    """Return a placement of PyTorch as plain values.

    Raises:
        TypeError: If it is of a kind that is not known, whose settings would be lost.
    """
    kinds = sys.modules["torch.distributed.tensor.placement_types"]
    kind = type(placement)
    if kind is kinds.Shard:
        return ("shard", placement.dim)
    if kind is kinds.Replicate:
        return ("replicate",)
    if kind is kinds.Partial and placement.reduce_op in _REDUCTIONS:
        return ("partial", placement.reduce_op)
    if kind is getattr(kinds, "_StridedShard", None):
        return ("strided_shard", placement.dim, placement.split_factor)
    raise TypeError(f"only DTensors that are sharded, replicated or partial can: {placement!r:.80}")


def _placement_from(placement: Placement) -> Any:
    kinds = sys.modules["torch.distributed.tensor.placement_types"]
    name, *settings = placement
    if name == "strided_shard":
        return kinds._StridedShard(settings[0], split_factor=settings[1])
    return {"shard": kinds.Shard, "replicate": kinds.Replicate, "partial": kinds.Partial}[str(name)](*settings)


def find_shard(state: Any, path: str) -> tuple[str, Shard] | None:
    """Return the first Shard in a state with its place, or None if there is none.

    Args:
        state: The state.
        path: Its name.
    """
    if type(state) is Shard:
        return path, state
    for key, value in _entries(state):
        # Numbers make up most of a state, and are not described in vain.
        if type(value) in _WITH_ENTRIES and (found := find_shard(value, f"{path}.{key}")) is not None:
            return found
    return None


def meshes_of(values: Iterable[Any]) -> list[Any]:
    """Return the meshes of the DTensors in these values and the containers among them, each once."""
    found: list[Any] = []
    for mesh in _meshes(values):
        if not any(mesh is each or mesh == each for each in found):
            found.append(mesh)
    return found


def _meshes(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if is_dtensor(value):
            yield value.device_mesh
        else:
            yield from _meshes(each for _, each in _entries(value))


def on_meshes(state: Any, path: str, like: Any, meshes: list[Any]) -> Any:
    """Return a state whose Shards are DTensors on the meshes that are here; what has none is returned as it is.

    Args:
        state: The state.
        path: Its name, for errors.
        like: The state that is here, whose DTensors must be spread in the same way, or what `of_parameters` returned.
        meshes: The meshes for what is not in `like`.

    Raises:
        ValueError: If a Shard does not fit what is here, naming it.
    """
    if type(state) is Shard:
        return _on_mesh(state, path, like, meshes)
    changed = {}
    for key, value in _entries(state):
        if (found := on_meshes(value, f"{path}.{key}", _entry(like, key), meshes)) is not value:
            changed[key] = found
    if not changed:
        return state
    if type(state) is tuple:
        return tuple(changed.get(index, value) for index, value in enumerate(state))
    filled = copy.copy(state)
    for key, value in changed.items():
        filled[key] = value
    return filled


def of_parameters(state: Any, optimizer: Any) -> Any:
    """Return what an optimizer's state is like: for each index in it the parameter that it belongs to."""
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    saved = [
        index
        for group in (groups if isinstance(groups, list) else ())
        if isinstance(group, Mapping) and isinstance(group.get("params"), list)
        for index in group["params"]
        if isinstance(index, (int, str))
    ]
    here = [each for group in optimizer.param_groups for each in group.get("params", ())]
    return {"state": _Parameters(dict(zip(saved, here, strict=False)))}


@frozen(eq=False)
class _Parameters:
    """Parameters by their index in the state of an optimizer; what is kept of one need not be spread as it is."""

    by_index: dict[Any, Any]


@frozen(eq=False)
class _Beside:
    """A parameter on whose mesh belongs what an optimizer keeps of it."""

    parameter: Any


def _entries(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, (list, tuple)) else ()


def _entry(like: Any, key: Any) -> Any:
    if isinstance(like, _Beside):
        return like
    if isinstance(like, _Parameters):
        return _Beside(like.by_index[key]) if key in like.by_index else None
    if isinstance(like, Mapping):
        return like.get(key)
    return like[key] if isinstance(like, (list, tuple)) and type(key) is int and key < len(like) else None


def _on_mesh(shard: Shard, path: str, like: Any, meshes: list[Any]) -> Any:
    """Return the DTensor of a Shard."""
    beside = like.parameter if isinstance(like, _Beside) else like
    if is_dtensor(beside):
        mesh = beside.device_mesh
        if not _fits(shard, mesh):
            raise _other(path, shard, f"here it is {_place_in(mesh)}")
    elif hasattr(like, "shape"):
        raise _other(path, shard, "here it is no DTensor")
    else:
        mesh = _only(shard, path, meshes)
    if is_dtensor(like):
        if (shape := tuple(like.shape)) != shard.shape:
            raise ValueError(f"{path!r} is of shape {shard.shape} in the checkpoint, and here it is of shape {shape}")
        if (placements := tuple(map(_placement, like.placements))) != shard.placements:
            raise _other(path, shard, f"here it is {_spread(placements)}")
    expected = shard.local_shape()
    if is_dtensor(beside) and (tuple(beside.shape), tuple(map(_placement, beside.placements))) == (
        shard.shape,
        shard.placements,
    ):
        expected = tuple(beside.to_local().shape)  # which may be cut unevenly by hand
    if expected is not None and tuple(shard.local.shape) != expected:
        raise _other(path, shard, f"its part must have the shape {expected}: {tuple(shard.local.shape)}")
    return _dtensor(shard, mesh)


def _dtensor(shard: Shard, mesh: Any) -> Any:
    torch, tensors = sys.modules["torch"], sys.modules["torch.distributed.tensor"]
    placements = list(map(_placement_from, shard.placements))
    found = tensors.DTensor.from_local(
        shard.local.detach(), mesh, placements, run_check=False, shape=torch.Size(shard.shape), stride=shard.stride
    )
    if isinstance(shard.local, torch.nn.Parameter):
        return torch.nn.Parameter(found, shard.local.requires_grad)
    return found.requires_grad_() if shard.local.requires_grad else found


def _only(shard: Shard, path: str, meshes: list[Any]) -> Any:
    """Return the mesh for a Shard, of which nothing is here yet."""
    found = [mesh for mesh in meshes if _fits(shard, mesh)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{path!r} may belong to any of {len(found)} meshes of shape {shard.mesh_shape}; give their dimensions "
            "names, as with init_device_mesh(..., mesh_dim_names=...)"
        )
    raise _other(path, shard, f"here {', '.join(map(_place_in, meshes)) or 'is no DTensor'}")


def _fits(shard: Shard, mesh: Any) -> bool:
    names = None if mesh.mesh_dim_names is None else tuple(mesh.mesh_dim_names)
    coordinate = mesh.get_coordinate()
    return (tuple(mesh.shape), names) == (shard.mesh_shape, shard.mesh_names) and (
        coordinate is not None and tuple(coordinate) == shard.coordinate
    )


def _other(path: str, shard: Shard, here: str) -> ValueError:
    return ValueError(f"{path!r} is {shard} in the checkpoint, and {here}; {RECIPE}")


def _place_in(mesh: Any) -> str:
    return _place(tuple(mesh.shape), mesh.mesh_dim_names, mesh.get_coordinate())


def _place(shape: Iterable[int], names: Iterable[str] | None, coordinate: Iterable[int] | None) -> str:
    """Return a place in a mesh, such as "at (dp=0, tp=1) of a mesh (dp=2, tp=2)"."""

    def numbers(values: Iterable[int]) -> str:
        named = (
            map(str, values)
            if names is None
            else (f"{name}={value}" for name, value in zip(names, values, strict=True))
        )
        return f"({', '.join(named)})"

    place = "outside" if coordinate is None else f"at {numbers(coordinate)} of"
    return f"{place} a mesh {numbers(shape)}"


def _spread(placements: tuple[Placement, ...]) -> str:
    """Return placements as text, such as "shard(0), replicate"."""
    return ", ".join(
        f"{name}({', '.join(map(str, settings))})" if settings else str(name) for name, *settings in placements
    )
