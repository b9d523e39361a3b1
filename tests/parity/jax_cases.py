"""Arrays and random keys of JAX, and the types of ml_dtypes; `test_jax_parity` runs these in their own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from lucid_train import CheckpointError, Trainer, read_checkpoint, write_checkpoint
from lucid_train.callbacks import WeightAverage
from lucid_train.testing import assert_resumes_exactly
from tests.support.rehearsals import PLACES, Place, assert_unnoticed

TYPES = ["bool", "int8", "uint32", "int32", "float16", "bfloat16", "float32", "complex64", "int4"]
TYPES += ["float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz"]
OF_ML_DTYPES = [name for name in TYPES if hasattr(ml_dtypes, name)]


def bits(value: Any) -> Any:
    return np.ascontiguousarray(np.asarray(value)).reshape(-1).view(np.uint8).tolist()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (0, 2)])
def test_arrays_of_jax_survive_bit_for_bit(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = jnp.asarray(np.arange(np.prod(shape)).reshape(shape), dtype=dtype)
    write_checkpoint(tmp_path / "x", [array])
    found = read_checkpoint(tmp_path / "x")[0]
    assert isinstance(found, jax.Array)
    assert (found.dtype, found.shape, found.weak_type, bits(found)) == (array.dtype, shape, False, bits(array))


@pytest.mark.parametrize("array", [jnp.asarray(0.1), jnp.full((2, 3), 7), jnp.asarray(1j), jnp.full((0,), 1.5)])
def test_weakly_typed_arrays_stay_so(tmp_path: Path, array: jax.Array) -> None:
    write_checkpoint(tmp_path / "x", [array])
    found = read_checkpoint(tmp_path / "x")[0]
    assert (found.dtype, found.weak_type, bits(found)) == (array.dtype, True, bits(array))
    assert (found + jnp.ones((), jnp.bfloat16)).dtype == (array + jnp.ones((), jnp.bfloat16)).dtype


@pytest.mark.parametrize("name", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_random_keys_draw_the_same_numbers(tmp_path: Path, name: str) -> None:
    key = jax.random.split(jax.random.key(3, impl=name), 2)
    write_checkpoint(tmp_path / "x", {"keys": key})
    found = read_checkpoint(tmp_path / "x")["keys"]
    assert (found.dtype, found.shape) == (key.dtype, (2,))
    assert bits(jax.random.normal(found[1], (5,))) == bits(jax.random.normal(key[1], (5,)))


@pytest.mark.parametrize("dtype", OF_ML_DTYPES)
def test_arrays_and_numbers_of_ml_dtypes_survive(tmp_path: Path, dtype: str) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3).T
    write_checkpoint(tmp_path / "x", [array, array[0, 0]])
    found, number = read_checkpoint(tmp_path / "x")
    assert (type(found), found.dtype, found.strides, bits(found)) == (
        np.ndarray,
        array.dtype,
        array.strides,
        bits(array),
    )
    assert (type(number), bits(number)) == (type(array[0, 0]), bits(array[0, 0]))


def test_what_is_no_array_of_this_process_is_refused(tmp_path: Path) -> None:
    def save(value: Any) -> Any:
        with pytest.raises(TypeError, match=r"'0' cannot be saved, only whole arrays of this process can: a .*Tracer"):
            write_checkpoint(tmp_path / "x", [value])
        return value

    jax.jit(save)(jnp.ones(2))


READ = """
import sys
from lucid_train import CheckpointError, read_checkpoint
try:
    read_checkpoint(sys.argv[1])
except CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        (jnp.ones(2), "'0' cannot be restored: it is an array of JAX, and jax is not imported; import jax first"),
        (jnp.ones(2, jnp.bfloat16), "ml_dtypes is not imported; import ml_dtypes, or jax, first"),
        (np.ones(2, ml_dtypes.int4), "'0' cannot be restored: it is of the type 'int4', and ml_dtypes is not imported"),
    ],
    ids=["jax", "jax bfloat16", "ml_dtypes"],
)
def test_what_has_to_be_imported_first_is_said(tmp_path: Path, value: Any, cure: str) -> None:
    write_checkpoint(tmp_path / "x", [value])
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path / "x")], capture_output=True, text=True, check=True)
    assert cure in done.stdout


def test_doubles_need_a_jax_that_has_them(tmp_path: Path) -> None:
    with jax.enable_x64(True):
        write_checkpoint(tmp_path / "x", [jnp.ones(2, jnp.float64)])
        assert read_checkpoint(tmp_path / "x")[0].dtype == jnp.float64
    with pytest.raises(CheckpointError, match="it is of float64, which JAX has only with jax_enable_x64"):
        read_checkpoint(tmp_path / "x")


class Holder:
    """Weights, momenta and a key of JAX, as a program without a framework has them."""

    def __init__(self) -> None:
        weight = jnp.linspace(-1, 1, 6, dtype=jnp.bfloat16).reshape(3, 2)
        self.held: dict[str, Any] = {"weight": weight, "momentum": jnp.zeros_like(weight), "key": jax.random.key(0)}

    def state_dict(self) -> dict[str, Any]:
        return self.held

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.held = dict(state)


class Rates:
    """An optimizer that only holds the rate."""

    def __init__(self) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": 0.1}]


def in_jax() -> Trainer:
    holder, rates = Holder(), Rates()

    def step(batch: Any) -> float:
        key, drawn = jax.random.split(holder.held["key"])
        inputs = jax.random.normal(drawn, (4, 3), jnp.bfloat16)
        loss, slope = jax.value_and_grad(lambda weight: jnp.square(inputs @ weight - batch).mean())(
            holder.held["weight"]
        )
        momentum = 0.9 * holder.held["momentum"] + slope
        weight = holder.held["weight"] - rates.param_groups[0]["lr"] * momentum
        holder.held = {"weight": weight, "momentum": momentum, "key": key}
        return float(loss)

    return Trainer(step, [0.5, 1.0, 2.0], epochs=2, model=holder, optimizer=rates)


def test_a_training_in_jax_is_resumed_exactly() -> None:
    assert_resumes_exactly(in_jax, cuts=range(1, 6))


@pytest.mark.parametrize("place", PLACES)
def test_a_training_in_jax_does_not_notice_a_search_for_its_rate(place: Place, tmp_path: Path) -> None:
    assert_unnoticed(in_jax, place, tmp_path, refused=None)


def test_arrays_of_jax_and_of_few_bits_are_averaged() -> None:
    class Model:
        state: Any = None

        def state_dict(self) -> Any:
            return self.state

        def load_state_dict(self, state: Any) -> None:
            self.state = state

    model, average, seen = Model(), WeightAverage(decay=None), []

    def step(value: int) -> None:
        model.state = {
            "jax": jnp.full(2, value, jnp.float32),
            "half": jnp.full(2, value, jnp.bfloat16),
            "numpy": np.full(2, value, ml_dtypes.bfloat16),
            "count": jnp.array(value),
        }

    def evaluate() -> float:
        seen.append(model.state["jax"].tolist())
        return 0.5

    Trainer(step, [1, 2, 6], model=model, evaluate=evaluate, callbacks=[average]).fit()
    found = {name: (str(each.dtype), each.tolist()) for name, each in average.weights.items()}
    three = ("float32", [3.0, 3.0])
    assert found == {"jax": three, "half": three, "numpy": three, "count": ("int32", 6)}
    assert (seen, model.state["jax"].tolist()) == ([[3.0, 3.0]], [6.0, 6.0])
