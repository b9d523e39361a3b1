"""The state of random generators: the global ones of Python, numpy and PyTorch, and a run's own."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from attrs import define, field

from lucid_train.protocols import HasGeneratorState
from lucid_train.validation import check_entries

# A random generator whose state can be saved.
Generator: TypeAlias = random.Random | np.random.Generator | HasGeneratorState


def is_generator(value: object) -> bool:
    """Return whether this is a random generator whose state can be saved: Python's, numpy's or PyTorch's."""
    torch = sys.modules.get("torch")
    kinds = (random.Random, np.random.Generator, np.random.RandomState)
    return isinstance(value, kinds if torch is None else (*kinds, torch.Generator))


def has_epoch(value: object) -> bool:
    """Return whether this is seeded by the number of an epoch, which `set_epoch` sets and `epoch` is."""
    return callable(getattr(value, "set_epoch", None)) and isinstance(getattr(value, "epoch", None), int)


@define
class RandomState:
    """The generators whose state belongs to a run: the global ones, and the run's own.

    PyTorch's global generators are included if it has been imported: the CPU's, and those of the CUDA devices if CUDA
    is in use.

    Args:
        own: The run's own generators, by name, and what is seeded by the number of an epoch.

    >>> numbers = random.Random(0)
    >>> state = RandomState({"mine": numbers})
    >>> before = state.read()
    >>> first = numbers.random()
    >>> state.write(before)
    >>> numbers.random() == first
    True
    """

    own: Mapping[str, Any] = field(factory=dict)

    def read(self) -> dict[str, Any]:
        """Return the states of all generators as plain JSON."""
        state: dict[str, Any] = {name: _read(generator) for name, generator in _global().items()}
        state["own"] = {name: _read(generator) for name, generator in self.own.items()}
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            state["cuda"] = [_as_hex(device_state) for device_state in torch.cuda.get_rng_state_all()]
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Restore the states of all generators.

        Raises:
            ValueError: If the state does not fit, lacks one of the run's own generators, or has one that the run lacks.
        """
        check_entries("the random state", state, ("python", "numpy", "own"), optional=("torch", "cuda"))
        check_entries("the random state of the run's own generators", state["own"], self.own)
        torch = sys.modules.get("torch")
        try:
            for name, generator in self.own.items():
                _write(generator, state["own"][name])
            for name, generator in _global().items():
                if name in state:
                    _write(generator, state[name])
            if torch is not None and "cuda" in state:
                torch.cuda.set_rng_state_all([_from_hex(device_state) for device_state in state["cuda"]])
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"the random state does not fit: {type(error).__name__}: {error}") from error

    def reseed(self, names: Iterable[str], seed: int) -> None:
        """Let some generators, by names that `changed` returns, begin at a seed."""
        generators = {**_global(), **{f"own.{name}": generator for name, generator in self.own.items()}}
        for name in names:
            if name == "cuda":
                sys.modules["torch"].cuda.manual_seed_all(seed)
                continue
            generator = generators[name]
            if isinstance(generator, np.random.Generator):
                generator.bit_generator.state = type(generator.bit_generator)(seed).state
            elif isinstance(generator, (random.Random, np.random.RandomState)):
                generator.seed(seed)
            elif not has_epoch(generator):
                generator.manual_seed(seed)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of the generators whose state is another one later, as they were before.

    >>> changed({"python": 1, "numpy": 2, "own": {"mine": 3}}, {"python": 1, "numpy": 5, "own": {"mine": 4}})
    {'numpy': 2, 'own.mine': 3}
    """
    later = _flat(after)
    return {name: state for name, state in _flat(before).items() if state != later.get(name)}


def replaced(states: Mapping[str, Any], some: Mapping[str, Any]) -> dict[str, Any]:
    """Return the states of all generators, those of some of them, as `changed` returns them, in their places."""
    both = {**_flat(states), **some}
    own = {name.removeprefix("own."): state for name, state in both.items() if name.startswith("own.")}
    return {**{name: state for name, state in both.items() if not name.startswith("own.")}, "own": own}


def _flat(states: Mapping[str, Any]) -> dict[str, Any]:
    own = {f"own.{name}": state for name, state in states["own"].items()}
    return {**{name: state for name, state in states.items() if name != "own"}, **own}


def _global() -> dict[str, Any]:
    """Return the generators behind `random.random()`, `np.random.rand()` and, once it is imported, `torch.rand()`."""
    torch = sys.modules.get("torch")
    found = {"python": random._inst, "numpy": np.random.mtrand._rand}
    return found if torch is None else {**found, "torch": torch.default_generator}


def _read(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        version, numbers, gauss = generator.getstate()
        return [version, list(numbers), gauss]
    if isinstance(generator, np.random.Generator):
        bits: Any = generator.bit_generator
        seeds = {"seeds": _plain(bits.seed_seq.state)} if isinstance(bits.seed_seq, np.random.SeedSequence) else {}
        return {**_plain(bits.state), **seeds}
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    if has_epoch(generator):
        return generator.epoch
    return _as_hex(generator.get_state())


def _write(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        version, numbers, gauss = state
        generator.setstate((version, tuple(numbers), gauss))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
        if "seeds" in state:  # which `spawn` makes generators of
            bits: Any = generator.bit_generator
            size = bits.seed_seq.state["pool_size"]  # its own: mixing takes the square of it
            bits.__setstate__((bits.state, np.random.SeedSequence(**{**state["seeds"], "pool_size": size})))
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    elif has_epoch(generator):
        if generator.epoch != state:
            generator.set_epoch(state)
    else:
        generator.set_state(_from_hex(state))


def _plain(state: Any) -> Any:
    """Return a state of numpy's with lists in place of arrays."""
    if isinstance(state, Mapping):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state


def _as_hex(tensor: Any) -> str:
    return str(tensor.cpu().numpy().tobytes().hex())


def _from_hex(text: str) -> Any:
    torch = sys.modules["torch"]
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
