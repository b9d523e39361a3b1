"""Where random numbers stand: Python's, numpy's and PyTorch's own generators, and those that a run was given."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import define, field

from lucid_train.validation import check_entries


def is_generator(value: object) -> bool:
    """Return whether this is a source of random numbers that can be saved: Python's, numpy's or PyTorch's."""
    return isinstance(value, (random.Random, np.random.Generator, np.random.RandomState)) or _is_torchs(value)


@define
class RandomState:
    """The generators whose place belongs to a run.

    PyTorch's are among them if it has been imported: the CPU's, and those of the CUDA devices once they are in use.

    Args:
        own: Generators of the run's own, by name.

    >>> numbers = random.Random(0)
    >>> state = RandomState({"mine": numbers})
    >>> before = state.read()
    >>> first = numbers.random()
    >>> state.write(before)
    >>> numbers.random() == first
    True
    """

    own: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def of(cls, own: Mapping[str, Any], extras: Mapping[str, Any]) -> RandomState:
        """Return the state of `own` and of what is a generator among `extras`."""
        return cls({**own, **{name: each for name, each in extras.items() if is_generator(each)}})

    def read(self) -> dict[str, Any]:
        """Return where all stand, as plain JSON."""
        state: dict[str, Any] = {
            "python": _read(random._inst),  # the instance behind random.random()
            "numpy": _plain(np.random.get_state(legacy=False)),
            "own": {name: _read(generator) for name, generator in self.own.items()},
        }
        torch = sys.modules.get("torch")
        if torch is not None:
            state["torch"] = _octets(torch.get_rng_state())
            if torch.cuda.is_initialized():
                state["cuda"] = [_octets(of_device) for of_device in torch.cuda.get_rng_state_all()]
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Set all to where they stood.

        Raises:
            ValueError: If the state does not fit, or has places of generators that are not here, or lacks one.
        """
        if not isinstance(state.get("own"), Mapping):
            raise ValueError(f"the random state does not fit: 'own' must not be {state.get('own')!r:.80}")
        torch = sys.modules.get("torch")
        optional = {"torch", "cuda"} & state.keys()
        check_entries("the random state", dict(state), {"python", "numpy", "own"} | optional)
        check_entries("the random state of the run's own generators", dict(state["own"]), self.own)
        try:
            _write(random._inst, state["python"])
            np.random.set_state(_typed(state["numpy"], np.random.get_state(legacy=False)))
            for name, generator in self.own.items():
                _write(generator, state["own"][name])
            if torch is not None and "torch" in state:
                torch.set_rng_state(_tensor(state["torch"]))
            if torch is not None and "cuda" in state:
                torch.cuda.set_rng_state_all([_tensor(of_device) for of_device in state["cuda"]])
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"the random state does not fit: {type(error).__name__}: {error}") from error


def _is_torchs(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Generator)


def _read(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        version, numbers, gauss = generator.getstate()
        return [version, list(numbers), gauss]
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return _plain(generator.get_state(legacy=False))
    return _octets(generator.get_state())


def _write(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        version, numbers, gauss = state
        generator.setstate((version, tuple(numbers), gauss))
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = _typed(state, generator.bit_generator.state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(_typed(state, generator.get_state(legacy=False)))
    else:
        generator.set_state(_tensor(state))


def _plain(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state


def _typed(state: Any, like: Any) -> Any:
    """Return a state with arrays where numpy has them."""
    if isinstance(like, Mapping):
        return {name: _typed(state[name], value) for name, value in like.items()}
    return np.array(state, dtype=like.dtype) if isinstance(like, np.ndarray) else state


def _octets(tensor: Any) -> str:
    return str(tensor.cpu().numpy().tobytes().hex())


def _tensor(octets: str) -> Any:
    torch = sys.modules["torch"]
    return torch.frombuffer(bytearray.fromhex(octets), dtype=torch.uint8)
