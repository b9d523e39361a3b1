"""Our schedules as a LearningRateSchedule of Keras, on the backend that the environment names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from lucid_train import schedules
from tests.support.pages import names_of

names: dict[str, Any] = names_of("elsewhere.md", "Keras")


def test_keras_updates_at_the_float32_of_our_rates() -> None:
    rates = schedules.Cosine().warmup(2, start=0.0).sized(5).table(6, base=0.1)
    optimizer = keras.optimizers.SGD(learning_rate=names["Scheduled"](rates))
    weight = keras.Variable(np.zeros(1, np.float32))
    optimizer.build([weight])
    used = []
    for _ in range(8):
        before = float(keras.ops.convert_to_numpy(weight.value)[0])
        used.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
        optimizer.apply([keras.ops.ones(1)])
        assert before - float(keras.ops.convert_to_numpy(weight.value)[0]) == pytest.approx(used[-1], abs=1e-7)
    assert used == np.float32([*rates, rates[-1], rates[-1]]).tolist()


def test_a_model_is_fitted_saved_and_loaded_with_its_schedule(tmp_path: Path) -> None:
    rates = schedules.Exponential(0.5).table(5, base=0.1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(names["Scheduled"](rates)), loss="mse")
    inputs, targets = np.ones((6, 2), np.float32), np.zeros((6, 1), np.float32)
    model.fit(inputs, targets, batch_size=2, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == 3
    assert float(keras.ops.convert_to_numpy(again.optimizer.learning_rate)) == np.float32(rates[3])
    assert again.optimizer.get_config()["learning_rate"] == model.optimizer.get_config()["learning_rate"]


def test_the_optimizer_of_the_page_begins_at_the_first_rate() -> None:
    assert float(keras.ops.convert_to_numpy(names["optimizer"].learning_rate)) == 0.0
