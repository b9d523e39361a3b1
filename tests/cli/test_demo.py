import os
import subprocess
import sys
from pathlib import Path

import pytest

from lucid_train.cli.demo import SCHEDULES, train
from lucid_train.cli.main import main


def metrics(**settings: object) -> list[tuple[dict[str, float], tuple[float, ...]]]:
    return [(dict(record.metrics), record.lr) for record in train(**settings)]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_the_demo_reaches_96_percent_on_the_held_out_third_with_every_schedule(scheduler: str) -> None:
    assert train(scheduler=scheduler, epochs=5)[-1].metrics["val_accuracy"] >= 0.96


def test_the_same_seed_gives_the_same_numbers_to_the_last_bit_in_another_process() -> None:
    code = "from lucid_train.cli.demo import train; print([(dict(r.metrics), r.lr) for r in train(epochs=2, seed=5)])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == repr(metrics(epochs=2, seed=5))


def test_another_seed_gives_other_numbers() -> None:
    assert metrics(epochs=1, seed=1) != metrics(epochs=1, seed=2)


def test_the_command_shows_a_training_with_all_that_belongs_around_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--epochs", "2", "--batch-size", "32", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (folder,) = tmp_path.iterdir()
    assert lines[:4] == [
        "model Sequential, 19,210 parameters",
        "training 2 epochs of 337 steps, SGD",
        "schedule warm-up 5 %, then cosine to 0, per step",
        "stopping after 8 epochs without a higher val_accuracy",
    ]
    assert " best by highest val_accuracy (*)" in "".join(lines)
    assert [line.split()[:2] for line in lines if line.startswith("epoch")] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert [line.split()[0] for line in lines if line.startswith(("completed", "best", "saved"))] == [
        "completed",
        "best",
        "saved",
    ]
    assert {path.name for path in folder.glob("*.safetensors")} >= {"best.safetensors", "last.safetensors"}


@pytest.mark.parametrize("chosen", [True, False], ids=["a directory of one's own", "a new directory"])
def test_an_interrupted_demo_says_once_how_it_goes_on(
    chosen: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--epochs", "2", "--batch-size", "32"]
    folder = ["--directory", str(tmp_path / "runs")]
    program = """if True:
        import signal, sys
        from lucid_train import StepEnd, Trainer
        from lucid_train.cli.main import main
        fit = Trainer.fit

        def interrupted(trainer, **options):
            trainer.on(StepEnd, at=100)(lambda event: signal.raise_signal(signal.SIGINT))
            return fit(trainer, **options)

        Trainer.fit = interrupted
        sys.exit(main(sys.argv[1:]))
    """
    command = [sys.executable, "-c", program, *arguments, *(folder if chosen else [])]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 130
    assert done.stdout.count("the same command") == 1
    if chosen:
        assert done.stdout.endswith("the same command goes on from there\n")
    else:
        (made,) = tmp_path.glob("lucid-train-demo-*")
        folder = ["--directory", str(made)]
        assert done.stdout.splitlines()[-1] == f"the same command with --directory {made} goes on from there"
    assert main([*arguments, *folder]) == 0
    assert "training epochs 1 to 2 of 337 steps, from step 101, SGD" in capsys.readouterr().out


def test_without_pytorch_one_sentence_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["demo", "--torch"]) == 2
    message = "lucid-train: error: '--torch' needs PyTorch, which is not installed: pip install torch\n"
    assert capsys.readouterr() == ("", message)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_demo_can_be_recorded_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = str(tmp_path / "run.jsonl")
    assert main(["demo", "--epochs", "2", "--batch-size", "32", "--log", log]) == 0
    assert main(["show", log]) == 0
    assert "completed 2 epochs, 674 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "-2"], "'epochs' must be >= 0: -2"),
        (["--lr", "nan"], "'lr' must be >= 0 and finite: nan"),
        (["--batch-size", "0"], "'batch_size' must be >= 1: 0"),
        (["--hidden", "0"], "must be >= 1: 0"),
        (["--seed", "-1"], "'seed' must be >= 0: -1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_an_unknown_schedule_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["demo", "--scheduler", "sine"])
    assert left.value.code == 2
    assert "'step', 'exponential', 'cosine'" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    program = """if True:
        import resource, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        from lucid_train.cli.main import main
        sys.exit(main(['demo', '--epochs', '1']))
    """
    with (tmp_path / "output").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "lucid-train: error: [Errno 27] File too large" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_package_is_the_command_too() -> None:
    command = [sys.executable, "-m", "lucid_train", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lucid-train ")


def test_a_log_that_cannot_be_written_is_a_wrong_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["demo", "--log", str(tmp_path / "file" / "run.jsonl")]) == 2
    assert capsys.readouterr().err == f"lucid-train: error: '{tmp_path / 'file'}': File exists\n"
