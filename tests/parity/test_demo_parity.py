"""`lucid-train demo --torch`: a convolutional network of PyTorch, shown as the other one is."""

from pathlib import Path

import pytest

from lucid_train.cli.demo import train
from lucid_train.cli.main import main


def test_the_network_of_pytorch_learns_and_the_same_seed_gives_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--torch", "--epochs", "1", "--batch-size", "32", "--directory", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "training 1 epoch of 337 steps, SGD\n" in output
    (record,) = train(torch=True, epochs=1, batch_size=32)
    loss, accuracy = record.metrics["loss"], record.metrics["val_accuracy"]
    assert accuracy >= 0.9
    assert f"loss {loss:.4f}  accuracy" in output
    assert f"val_accuracy {accuracy:.4f}*" in output
