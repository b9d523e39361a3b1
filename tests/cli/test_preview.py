"""`lucid-train preview`: the curve in the terminal, as a picture, as numbers."""

import argparse
import csv
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from lucid_train import schedules
from lucid_train.cli import preview
from lucid_train.cli.main import main
from lucid_train.schedules import Cosine


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="lucid-train")
    preview.add_command(parser.add_subparsers(required=True))
    chosen = parser.parse_args(["preview", *arguments])
    code: int = chosen.command(chosen)
    return code


ARGUMENTS = {
    "constant": "--factor 0.5 --total-iters 5",
    "cosine": "--lr 0.1 --T-max 50 --warmup 5 --epochs 60",
    "cosine-restarts": "--T-0 10 --T-mult 2 --eta-min 0.001",
    "cyclic": "--base-lr 0.1 --max-lr 1 --step-size-up 20 --mode triangular2",
    "exponential": "--gamma 0.9 --warmup 5%",
    "inverse-sqrt": "--timescale 20 --warmup 20",
    "inverse-time": "--decay-steps 20 --staircase",
    "linear": "--start-factor 0.1",
    "multistep": "--milestones 30 75% --gamma 0.5",
    "noam": "--d-model 512 --warmup-steps 20 --lr 1",
    "one-cycle": "--max-lr 1 --no-three-phase --anneal-strategy linear",
    "polynomial": "--power 2",
    "ramp": "--start-factor 1 --end-factor 0 --shape 1-sqrt",
    "rex": "--min-ratio 0.1",
    "step": "--step-size 25%",
}


SHOWN = {
    "constant": "Constant(0.5, total_iters=5)",
    "cosine": "Linear(0.1, total_iters=5).then(Cosine(50))",
    "cosine-restarts": "WarmRestarts(10, T_mult=2, eta_min=0.001)",
    "cyclic": "Cyclic(0.1, 1.0, step_size_up=20, step_size_down=20, mode='triangular2')",
    "exponential": "Linear(0.1, total_iters='5%').then(Exponential(0.9))",
    "inverse-sqrt": "Linear(0.1, total_iters=20).then(InverseSqrt(20))",
    "inverse-time": "InverseTime(20, staircase=True)",
    "linear": "Linear(0.1)",
    "multistep": "MultiStep((30, '75%'), gamma=0.5)",
    "noam": "Noam(512, warmup_steps=20)",
    "one-cycle": "OneCycle(1.0, anneal_strategy='linear')",
    "polynomial": "Polynomial(power=2.0)",
    "ramp": "Ramp(1.0, end_factor=0.0, shape='1-sqrt')",
    "rex": "Rex(min_ratio=0.1)",
    "step": "Step('25%')",
}


@pytest.mark.parametrize("name", preview.SCHEDULES)
def test_every_schedule_is_drawn_in_80_columns_of_ascii(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, *ARGUMENTS[name].split()) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert not {"\x1b", "\r", "\b"} & set(text)
    assert max(map(len, text.splitlines())) <= 80
    shown = SHOWN[name]
    assert text.replace("\n", "").startswith(shown)
    assert "*" in text


def test_the_curve_stands_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    run("linear", "--start-factor", "0.1", "--epochs", "11", "--total-iters", "10", "--lr", "1")
    title, *rows, axis = capsys.readouterr().out.splitlines()
    assert title == "Linear(0.1, total_iters=10)"
    assert rows[0].startswith("    1 | ")
    assert rows[0].endswith("*")
    assert rows[-1].startswith("  0.1 | ***")
    assert axis.split() == ["epoch", "0", "10"]


def test_a_flat_curve_and_a_single_epoch_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("constant", "--factor", "1", "--epochs", "1") == 0
    assert "*" in capsys.readouterr().out


def test_a_long_curve_shows_all_that_it_crosses() -> None:
    rates = [0.0, 1.0] * 500
    assert set("".join(preview.plain(rates, 20))) == {"*"}


def test_a_terminal_gets_colour_and_dots() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    preview.draw(Console(file=stream, force_terminal=True, width=80, color_system="standard"), [0.1, 0.2], "curve")
    stream.seek(0)
    text = stream.read()
    assert "\x1b[" in text
    assert any(0x2800 < ord(letter) < 0x2900 for letter in text)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_terminal_that_takes_no_dots_gets_ascii(width: int) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    preview.draw(Console(file=stream, force_terminal=True, width=width, color_system=None), [0.1, 0.2], "curve")
    stream.seek(0)
    assert "*" in stream.read()


def test_numbers_are_written_to_the_last_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "curve.csv"
    assert run("cosine", *ARGUMENTS["cosine"].split(), "--csv", str(target)) == 0
    assert capsys.readouterr().out == ""
    rows = list(csv.DictReader(target.read_text().splitlines()))
    expected = Cosine(T_max=50).warmup(5).table(60, 0.1)
    assert [(int(row["epoch"]), float(row["lr"])) for row in rows] == list(enumerate(expected))


def test_a_picture_is_written(tmp_path: Path) -> None:
    target = tmp_path / "curve.svg"
    assert run("exponential", "--gamma", "0.5", "--epochs", "3", "--svg", str(target)) == 0
    root = ET.fromstring(target.read_text(encoding="utf-8"))
    line = root.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None
    assert len(line.attrib["points"].split()) == 3
    assert "Exponential(0.5)" in "".join(root.itertext())


def test_a_length_left_out_lasts_to_the_end(tmp_path: Path) -> None:
    target = tmp_path / "curve.csv"
    run("cosine", "--lr", "1", "--epochs", "4", "--csv", str(target))
    rates = [float(row["lr"]) for row in csv.DictReader(target.read_text().splitlines())]
    assert rates == pytest.approx([1.0, 0.853553, 0.5, 0.146447], rel=1e-5)
    run("exponential", "--gamma", "0.5", "--lr", "1", "--epochs", "3", "--csv", str(target))
    assert target.read_text() == "epoch,lr\n0,1.0\n1,0.5\n2,0.25\n"


@pytest.mark.parametrize(
    ("arguments", "schedule"),
    [
        ("--warmup 4", Cosine().warmup(4)),
        ("--warmup 25% --warmup-start 0.5", Cosine().warmup("25%", 0.5)),
        ("--warmup 0", Cosine()),
        ("--T-max 50% --after hold --eta-min 0.01", Cosine("50%", 0.01, "hold")),
    ],
)
def test_the_options_are_the_settings(arguments: str, schedule: Cosine, tmp_path: Path) -> None:
    target = tmp_path / "curve.csv"
    run("cosine", *arguments.split(), "--lr", "1", "--epochs", "20", "--csv", str(target))
    rates = [float(row["lr"]) for row in csv.DictReader(target.read_text().splitlines())]
    assert rates == schedule.sized(20).table(20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cosine", "--T-max", "0"], "'T_max' must be >= 1: 0"),
        (["cosine", "--epochs", "0"], "'epochs' must be >= 1: 0"),
        (["step", "--step-size", "200%"], "'step_size' must be a share of the run"),
        (["cosine", "--lr", "-1"], "must be >= 0: -1.0"),
    ],
)
def test_what_the_library_refuses_reaches_the_command(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(*arguments)


@pytest.mark.parametrize("arguments", [["step"], ["cosin"], ["cyclic", "--mode", "saw"], ["step", "--step-size", "x"]])
def test_what_cannot_be_read_ends_with_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert "usage: lucid-train preview" in capsys.readouterr().err


def test_a_length_that_is_none_is_named_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("step", "--step-size", "x")
    assert capsys.readouterr().err.endswith("error: argument --step-size: invalid length value: 'x'\n")


def test_a_value_beyond_the_largest_float_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "exponential", "--gamma", "2", "--epochs", "2000"]) == 2
    assert capsys.readouterr() == ("", "lucid-train: error: Exponential(2.0) exceeds the largest float at 1024\n")


def test_the_scale_ends_at_the_lowest_value(capsys: pytest.CaptureFixture[str]) -> None:
    run("linear", "--start-factor", "0", "--epochs", "30")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("|")[0].strip() for line in (lines[1], lines[12])] == ["0.0967", "0"]


def test_every_schedule_that_can_be_typed_has_a_name() -> None:
    made_of_others = {"Chain", "OneCycleMomentum", "Product", "Schedule", "Sequence", "Skipped"}
    by_functions = {"Function", "Multiplicative"}
    by_other_options = {"Piecewise", "WSD"}  # a list of factors, and a warm-up of its own
    assert {kind.__name__ for kind in preview.SCHEDULES.values()} == (
        set(schedules.__all__) - made_of_others - by_functions - by_other_options
    )
