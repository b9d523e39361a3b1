"""WandbLogger online, with a client and a server that stand in for wandb's."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lucid_train import EvaluateStart, StepEnd, StepStart, Trainer
from lucid_train.callbacks import WandbLogger
from lucid_train.callbacks.trackers.tracker import _Worker
from tests.support.fakes import wandb
from tests.support.tracking import expected_curves
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("WANDB_MODE", "WANDB_GROUP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "a key")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("FAKE_WANDB", str(tmp_path))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(wandb, "faults", {})
    yield tmp_path
    # One that was let go of must not write to the server of the next test.
    until(lambda: "lucid_train.WandbLogger" not in [thread.name for thread in threading.enumerate()])


def ids(server: Path) -> list[str]:
    return [path.stem for path in server.glob("*.jsonl")]


def curves(identity: str) -> dict[str, list[tuple[int, float]]]:
    """Return what the server has, in the order in which it came, but for how long the epochs took."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in wandb.stored(identity, "row"):
        for name in row.keys() - {"step", "seconds", "_timestamp"}:
            found.setdefault(name, []).append((row["step"], row[name]))
    return dict(sorted(found.items()))


def trainer(epochs: int = 2, **settings: Any) -> Trainer:
    logger = WandbLogger("digits", step_every=1, **settings)
    return Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=epochs, callbacks=[logger])


def test_wandb_is_sent_the_metrics_over_an_axis_of_their_own_the_parameters_and_the_end(server: Path) -> None:
    began = time.time()
    trainer(config={"seed": 3}).fit()
    [run] = ids(server)
    assert curves(run) == expected_curves(2)
    assert wandb.stored(run, "axis") == [["step", None], ["*", "step"]]
    assert wandb.stored(run, "config") == [{"epochs": 2, "evaluate_every": 1, "config.seed": 3}]
    assert wandb.stored(run, "end") == [["completed", 0]]
    assert all(began <= row["_timestamp"] <= time.time() for row in wandb.stored(run, "row"))


def test_a_run_is_opened_with_what_was_asked_for(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[wandb.Run] = []
    monkeypatch.setattr(wandb, "init", lambda **arguments: opened.append(wandb.Run(arguments)) or opened[-1])
    trainer(run_name="first", entity="we", group="seeds", folder=server / "files", timeout=10).fit()
    [run] = opened
    assert run.arguments == {
        "entity": "we",
        "project": "digits",
        "name": "first",
        "group": "seeds",
        "id": ids(server)[0],
        "resume": "allow",
        "reinit": "create_new",
        "mode": "online",
        "dir": server / "files",
        "settings": {
            "silent": True,
            "console": "off",
            "init_timeout": 8.0,
            "finish_timeout": 11.0,
            "x_transaction_log_flush_interval": 0.5,
        },
    }


@pytest.mark.parametrize(
    ("given", "environment", "mode"), [(None, "offline", "offline"), ("online", "offline", "online")]
)
def test_the_mode_is_that_of_the_callback_else_that_of_the_environment(
    server: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, environment: str, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", environment)
    trainer(1, mode=given).fit()
    assert [wandb.stored(run, "begun") for run in ids(server)] == [[mode]]


def test_a_mode_that_wandb_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^'mode' must be one of None, 'online', 'offline': 'on'$"):
        WandbLogger("digits", mode="on")
    with pytest.raises(TypeError, match=r"^'folder' must be the path of a folder, or None: 3$"):
        WandbLogger("digits", folder=3)  # type: ignore[arg-type]  # that it is refused is the claim


def test_a_second_fit_goes_on_with_the_run_and_a_restart_is_another(server: Path) -> None:
    run = trainer()
    run.fit()
    run.fit(3)
    [first] = ids(server)
    assert curves(first) == expected_curves(3)
    assert [each["epochs"] for each in wandb.stored(first, "config")] == [2, 3]
    assert wandb.stored(first, "end") == [["completed", 0], ["completed", 0]]
    run.fit(1, restart=True)
    [other] = set(ids(server)) - {first}
    assert curves(other) == expected_curves(1)


def test_of_old_rows_no_step_is_sent_twice_though_only_the_newest_are_read(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid_train.callbacks.trackers.wandb._NEWEST_ROWS", 1)
    run = trainer(3)
    run.on(StepEnd, at=3)(lambda event: event.run.stop("enough"))
    run.fit()  # its newest row is a step, and the epoch is in an older one
    run.fit()
    assert [curves(each) for each in ids(server)] == [expected_curves(3)]


def test_that_there_is_no_key_is_one_warning(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.warns(RuntimeWarning, match="^WandbLogger could not be opened, .*: there is no API key; run `wandb "):
        trainer().fit()
    assert ids(server) == []


def test_a_call_that_fails_or_hangs_is_one_warning_and_the_training_goes_on(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, wait = threading.Event(), _Worker.wait

    def fail() -> None:
        raise ConnectionError("no route to host")

    def late(worker: _Worker, seconds: float) -> bool:
        """Let the wait for the end begin when what is to fail has failed, so that the limit does not pass before."""
        if worker._status is not None and fail in wandb.faults.values():
            until(lambda: worker.failure is not None)
        return wait(worker, seconds)

    def limited(**settings: Any) -> Trainer:
        """Return a training that is patient, but not with what is to take too long."""
        made = trainer(timeout=0.2 if wandb.faults == {"init": answer.wait} else 60, **settings)
        [logger] = made.callbacks
        made.on(StepStart, at=1)(lambda event: setattr(logger, "timeout", 0.2))
        return made

    monkeypatch.setattr(_Worker, "wait", late)

    expected = {
        ("init", fail): "could not be opened, and is sent nothing in this fit: no route to host",
        ("log", fail): "has 6 steps and records fewer: no route to host",
        ("finish", fail): "may show the run as going on: no route to host",
        ("init", answer.wait): "could not be opened, and is sent nothing in this fit: no answer within 0.2 s",
        ("log", answer.wait): "has 6 steps and records fewer: no answer within 0.2 s",
        ("finish", answer.wait): "may show the run as going on: no answer within 0.2 s",
    }
    for (name, fault), message in expected.items():
        wandb.faults = {name: fault}
        with pytest.warns(RuntimeWarning) as warned:
            assert limited().fit().status == "completed"
        assert [str(each.message) for each in warned] == [f"WandbLogger {message}"]
        with pytest.raises(RuntimeError, match=r"^WandbLogger "):
            limited(strict=True).fit()
    answer.set()


def test_a_run_that_cannot_be_read_when_it_is_resumed_is_a_warning(server: Path) -> None:
    def fail() -> None:
        raise ConnectionError("no route to host")

    run = trainer()
    run.fit()
    wandb.faults = {"scan_history": fail}
    with pytest.warns(RuntimeWarning, match="^WandbLogger could not be opened, .*: no route to host$"):
        run.fit(3)
    assert [curves(each) for each in ids(server)] == [expected_curves(2)]


def test_a_slow_network_does_not_slow_the_steps(server: Path) -> None:
    wandb.faults = {"log": lambda: time.sleep(0.05)}
    run, seen = trainer(1, timeout=60), []
    run.on(EvaluateStart)(lambda event: seen.extend(wandb.stored(ids(server)[0], "row")))
    run.fit()
    assert seen == []  # while both steps are done
    assert [curves(each) for each in ids(server)] == [expected_curves(1)]


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import wandb
from lucid_train import EvaluateStart, StepEnd, Trainer
from lucid_train.callbacks import Checkpoint, WandbLogger

folder, where, at = sys.argv[1:]
checkpoint = Checkpoint(folder + "/checkpoints", weights=False, every=3, interval="step")
trainer = Trainer(lambda batch: batch / 4, [1.0, 3.0], evaluate=lambda: 0.25, epochs=6,
                  callbacks=[WandbLogger("digits", step_every=1), checkpoint])

def sent(step):
    [run] = Path(folder).glob("*.jsonl")
    return any(row["step"] == step for row in wandb.stored(run.stem, "row"))

@trainer.on({"step": StepEnd, "evaluation": EvaluateStart}[where], at=int(at))
def kill(event):
    if where == "evaluation":
        awaited = event.step  # the steps, and not the epoch
    else:  # all but this step, which may be on its way, where rows are sent one by one
        awaited = event.step - 1 if os.environ["WANDB_GROUP"] == "1" else 0
    while awaited and not sent(awaited):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

trainer.fit(resume="auto")
"""


def killed_and_resumed(server: Path, *kills: tuple[str, int], group: int) -> dict[str, list[tuple[int, float]]]:
    """Train in processes that are killed, and return what the server has of the one run."""
    path = os.pathsep.join((str(Path(wandb.__file__).parent), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": path, "WANDB_GROUP": str(group)}
    for (where, at), code in [(kill, -9) for kill in kills] + [(("step", 1000), 0)]:
        arguments = [sys.executable, "-c", PROGRAM, str(server), where, str(at)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=100, env=environment)
        assert (done.returncode, done.stderr) == (code, "")
    [run] = ids(server)
    assert wandb.stored(run, "end") == [["completed", 0]]
    return curves(run)


def test_a_run_that_is_killed_and_resumed_is_one_run_with_each_step_once(server: Path) -> None:
    assert killed_and_resumed(server, ("step", 5), ("step", 10), group=1) == expected_curves(6)


def test_an_epoch_whose_last_step_has_arrived_and_itself_not_is_sent(server: Path) -> None:
    assert killed_and_resumed(server, ("evaluation", 2), group=1) == expected_curves(6)


def test_what_had_not_arrived_is_lost_of_steps_and_sent_again_of_epochs(server: Path) -> None:
    found, whole = killed_and_resumed(server, ("step", 5), ("step", 10), group=4), expected_curves(6)
    assert {name: found[name] for name in ("epoch", "loss", "val_loss")} == {
        name: whole[name] for name in ("epoch", "loss", "val_loss")
    }
    steps = found["step/loss"]
    assert (len(set(steps)), set(steps) - set(whole["step/loss"])) == (len(steps), set())
