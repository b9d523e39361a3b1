from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lucid_train import (
    Callback,
    EpochReport,
    EpochStart,
    EvaluateStart,
    FitEnd,
    FitError,
    FitStart,
    StepEnd,
    StepStart,
    Trainer,
    nn,
    read_checkpoint,
)
from lucid_train.callbacks import Checkpoint
from lucid_train.saving.checkpoint import Directory
from lucid_train.training import signals
from lucid_train.training.signals import cleanup_at, signal_named
from tests.support.callbacks import At
from tests.support.terminal import Terminal, has


def saved_step(directory: Path) -> int:
    """Return how many steps the newest checkpoint has behind it."""
    step: int = read_checkpoint(directory)["progress"]["step"]
    return step


def states(directory: Path) -> list[Any]:
    return [read_checkpoint(file) for file in Directory(directory).files()]


def sending(
    number: int, checkpoint: Checkpoint, received: list[Any], *, at: int = 3, times: int = 1, pause: float = 0.0
) -> Trainer:
    def step(batch: int) -> float:
        if batch == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
                time.sleep(pause)
        received.append(batch)
        return 0.5

    trainer = Trainer(step, range(1, 11), epochs=2, model=nn.Linear(1, 1, rng=0), callbacks=[checkpoint])
    trainer.on(FitError)(lambda event: received.append(type(event.error)))
    trainer.on(FitEnd)(lambda event: received.append((event.status, event.reason)))
    return trainer


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("SIGINT", KeyboardInterrupt, "interrupted by Ctrl-C"),
        ("SIGTERM", SystemExit, "interrupted by SIGTERM"),
        ("SIGUSR1", SystemExit, "interrupted by SIGUSR1"),
    ],
)
def test_the_step_in_hand_finishes_and_all_is_saved(
    tmp_path: Path, name: str, error: type[BaseException], reason: str
) -> None:
    number = signal.Signals[name]
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    received: list[Any] = []
    checkpoint = Checkpoint(tmp_path, signals=["SIGINT", "SIGTERM", "SIGUSR1"])
    trainer = sending(number, checkpoint, received)
    with pytest.raises(error) as caught:
        trainer.fit()
    assert received == [1, 2, 3, error, ("interrupted", reason)]
    if error is SystemExit:
        assert caught.value.code == 128 + number  # type: ignore[attr-defined]  # a SystemExit
    assert {each: signal.getsignal(each) for each in before} == before
    state = read_checkpoint(tmp_path)
    progress = state["progress"]
    assert (progress["epoch"], progress["step"], progress["phase"]) == (1, 3, "steps")
    assert (progress["steps_per_epoch"], progress["finished_reason"]) == (10, None)
    resumed = sending(number, Checkpoint(tmp_path), again := [], at=-1)
    assert len(resumed.fit(resume="auto")) == 2
    assert again[:7] == [4, 5, 6, 7, 8, 9, 10]


def test_a_second_interrupt_from_the_keyboard_ends_at_once(tmp_path: Path) -> None:
    received: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        sending(signal.SIGINT, Checkpoint(tmp_path), received, times=2, pause=0.6).fit()
    assert received == [1, 2, KeyboardInterrupt, ("interrupted", "interrupted by Ctrl-C")]
    assert Directory(tmp_path).files() == []


def test_a_copy_of_ctrl_c_that_a_launcher_forwards_is_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Any] = []
    monkeypatch.setattr(signals, "monotonic", lambda: 0.0)  # however slow the machine is
    with pytest.raises(KeyboardInterrupt):
        sending(signal.SIGINT, Checkpoint(tmp_path), received, times=2).fit()
    assert received[:3] == [1, 2, 3]
    assert saved_step(tmp_path) == 3


def test_a_second_signal_of_another_kind_changes_nothing(tmp_path: Path) -> None:
    received: list[Any] = []
    with pytest.raises(SystemExit, match="143"):
        sending(signal.SIGTERM, Checkpoint(tmp_path), received, times=2, pause=0.6).fit()
    assert len(Directory(tmp_path).files()) == 1


def test_the_users_handler_is_called_too_and_put_back(tmp_path: Path) -> None:
    calls: list[int] = []

    def mine(number: int, frame: FrameType | None) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(SystemExit, match="143"):
            sending(signal.SIGTERM, Checkpoint(tmp_path), []).fit()
        assert calls == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_set_during_the_fit_stays(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer = Trainer(callbacks=[Checkpoint(tmp_path)])
    trainer.on(StepEnd)(lambda event: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    try:
        trainer.fit()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert sending(signal.SIGTERM, Checkpoint(tmp_path), []).fit().status == "completed"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_may_be_left_alone(tmp_path: Path) -> None:
    received: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        sending(signal.SIGINT, Checkpoint(tmp_path, signals=()), received).fit()
    assert received[:3] == [1, 2, KeyboardInterrupt]


def test_in_another_thread_no_handler_is_set(tmp_path: Path) -> None:
    found: list[Any] = []
    trainer = Trainer(callbacks=[Checkpoint(tmp_path)])
    trainer.on(StepStart)(lambda event: found.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
    assert len(Directory(tmp_path).files()) == 1


def test_a_signal_that_comes_when_the_loop_is_over_is_not_lost(tmp_path: Path) -> None:
    class Late(Callback):
        def on_fit_end(self, event: FitEnd) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit, match="143"):
        Trainer(callbacks=[Checkpoint(tmp_path), Late()]).fit()
    assert len(Directory(tmp_path).files()) == 1


def test_a_signal_in_the_last_step_lets_the_epoch_be_finished(tmp_path: Path) -> None:
    received: list[Any] = []
    trainer = sending(signal.SIGTERM, Checkpoint(tmp_path), received, at=10)
    trainer.on(EpochReport)(lambda event: received.append("report"))
    with pytest.raises(SystemExit):
        trainer.fit()
    assert received[10] == "report"


PROGRAM = """
import os, signal, sys, time
from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint

def step(batch):
    print(batch, flush=True)
    time.sleep(0.05)

Trainer(step, range(1000), callbacks=[Checkpoint(sys.argv[1], weights=False)]).fit(resume="auto")
"""


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, (-signal.SIGINT, 130)), (signal.SIGTERM, (143,))])
def test_the_exit_code_says_what_happened(tmp_path: Path, number: int, codes: tuple[int, ...]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode in codes, errors
    assert len(Directory(tmp_path).files()) == 1


# Its clock for signals stands still until there is a file: what comes before is a copy, however slow the machine is.
BLOCKED = """
import os, sys, time
from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint, RichLogger
from lucid_train.training import signals

signals.monotonic = lambda: float(os.path.exists(sys.argv[3]))

def block(at):
    if at == sys.argv[2]:
        print("blocked", flush=True)
        for _ in range(60_000):  # Python would see a signal just before one long sleep only after it
            time.sleep(0.01)

class Data:
    def __iter__(self):
        yield from (1, 2)
        block("data")

Trainer(
    lambda batch: 0.5, Data(), evaluate=lambda: block("evaluate") or 0.25,
    callbacks=[RichLogger(), Checkpoint(sys.argv[1], every=None, weights=False)],
).fit()
"""


@pytest.mark.parametrize("place", ["data", "evaluate"])
@pytest.mark.parametrize(
    ("number", "codes", "steps"), [(signal.SIGTERM, (143,), [2]), (signal.SIGINT, (-signal.SIGINT, 130), [])]
)
def test_a_second_signal_ends_what_is_blocked(
    tmp_path: Path, place: str, number: int, codes: tuple[int, ...], steps: list[int]
) -> None:
    later = tmp_path / "later"
    command = [sys.executable, "-c", BLOCKED, str(tmp_path), place, str(later)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline() != "blocked\n":
        pass
    process.send_signal(number)
    process.send_signal(number)  # a copy
    assert "Stopping" in process.stdout.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.2)
    later.touch()
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode in codes, errors
    assert [state["progress"]["step"] for state in states(tmp_path)] == steps


ORPHAN = """
import sys, threading, time
from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint, EventLog, RichLogger

def fit():
    threading.main_thread().join()
    history = Trainer(
        lambda batch: 0.5, [1, 2], epochs=3,
        callbacks=[RichLogger(heartbeat=0.1), Checkpoint(sys.argv[1], weights=False), EventLog(sys.argv[2])],
    ).fit()
    print(history.status, len(history), flush=True)

threading.Thread(target=fit).start()
"""


@pytest.mark.late_threads
def test_a_fit_in_a_thread_whose_main_thread_has_ended_works(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", ORPHAN, str(tmp_path / "run"), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("completed 3\n")
    assert saved_step(tmp_path / "run") == 6
    assert '"event":"FitEnd"' in (tmp_path / "log").read_text().splitlines()[-1]


def orders() -> Iterator[Any]:
    """Yield every order of two or three callbacks, among them Checkpoint, as parameters."""
    for count in (2, 3):
        for order in permutations(("RichLogger", "Checkpoint", "EventLog"), count):
            if "Checkpoint" in order:
                yield pytest.param(order, id="-".join(order), marks=[pytest.mark.slow] * ("EventLog" in order))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("order", list(orders()))
def test_in_any_order_of_callbacks_the_run_is_saved_and_the_terminal_restored(
    tmp_path: Path, order: Sequence[str], name: str
) -> None:
    made = {
        "RichLogger": "RichLogger()",
        "Checkpoint": f"Checkpoint({str(tmp_path / 'run')!r}, weights=False)",
        "EventLog": f"EventLog({str(tmp_path / 'log')!r})",
    }
    terminal = Terminal(
        f"""
from lucid_train.callbacks import Checkpoint, EventLog
done = open({str(tmp_path / "done")!r}, "w", buffering=1)
def step(number):
    time.sleep(0.05)
    number == 5 and print("going")
    done.write("x")
Trainer(step, range(1, 10_000), callbacks=[{", ".join(made[each] for each in order)}]).fit()
"""
    )
    terminal.until(has("going", "steps/s") if "RichLogger" in order else has("going"))
    if name == "SIGINT":
        terminal.child.sendintr()
    else:
        terminal.child.kill(signal.SIGTERM)
    lines = terminal.end()
    assert terminal.code == (130 if name == "SIGINT" else 143)
    steps = (tmp_path / "done").read_text().count("x")
    assert saved_step(tmp_path / "run") == steps >= 5
    reason = "by Ctrl-C" if name == "SIGINT" else "by SIGTERM"
    assert has(f"interrupted {reason}")(lines) is ("RichLogger" in order)
    assert not has("━")(lines)
    assert terminal.sane


def test_a_second_ctrl_c_restores_the_terminal_too(tmp_path: Path) -> None:
    terminal = Terminal(
        f"""
from lucid_train.callbacks import Checkpoint
def step(number):
    number == 3 and print("going")
    time.sleep(0.05 if number < 3 else 600)
Trainer(step, [1, 2, 3], callbacks=[RichLogger(), Checkpoint({str(tmp_path)!r}, weights=False)]).fit()
"""
    )
    terminal.until(has("going", "eta"))
    terminal.child.sendintr()
    terminal.until(has("Stopping", "eta"))
    time.sleep(0.5)
    assert terminal.child.isalive(), "the first Ctrl-C waits for the step"
    terminal.child.sendintr()
    lines = terminal.end()
    assert terminal.code == 130
    assert has("interrupted by Ctrl-C in epoch 1, after step 2")(lines)
    assert not has("━")(lines)
    assert terminal.sane
    assert Directory(tmp_path).files() == []


def ended_by_sigterm(program: str) -> tuple[int, str]:
    """Run a program, and return its exit code and what it printed."""
    prelude = "import os, signal, sys\nfrom lucid_train.training.signals import cleanup_at\n"
    prelude += "def cleanup(function):\n    return cleanup_at('SIGTERM', function)\n"
    prelude += "def says(text):\n    return cleanup(lambda: print(text, flush=True))\n"
    done = subprocess.run([sys.executable, "-c", prelude + program], capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_cleanups_run_the_latest_first_and_then_the_process_ends() -> None:
    program = "with says('first'), says('second'):\n    signal.raise_signal(signal.SIGTERM)\n    print('never')"
    assert ended_by_sigterm(program) == (-signal.SIGTERM, "second\nfirst\n")


def test_a_cleanup_that_is_over_does_not_run() -> None:
    program = "with says('outer'):\n    with says('inner'):\n        pass\n    signal.raise_signal(signal.SIGTERM)"
    assert ended_by_sigterm(program) == (-signal.SIGTERM, "outer\n")


def test_the_process_ends_even_if_a_cleanup_fails() -> None:
    program = "with cleanup(lambda: 1 / 0):\n    signal.raise_signal(signal.SIGTERM)"
    assert ended_by_sigterm(program) == (-signal.SIGTERM, "")


def test_where_the_signal_has_a_handler_nothing_is_cleaned_up() -> None:
    calls: list[Any] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append("handler"))
    try:
        with cleanup_at("SIGTERM", lambda: calls.append("cleanup")):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert calls == ["handler"]


def test_a_handler_set_between_two_callbacks_decides_and_may_call_the_one_before_it(tmp_path: Path) -> None:
    calls: list[Any] = []
    before = signal.getsignal(signal.SIGTERM)

    def set_handler(event: FitStart) -> None:
        previous: Any = signal.getsignal(signal.SIGTERM)

        def handler(number: int, frame: FrameType | None) -> None:
            calls.append("handler")
            previous(number, frame)

        signal.signal(signal.SIGTERM, handler)

    with cleanup_at("SIGTERM", lambda: calls.append("cleanup")):
        trainer = sending(signal.SIGTERM, Checkpoint(tmp_path, weights=False), [])
        trainer = Trainer(trainer.step, trainer.data, callbacks=[At(FitStart, set_handler), *trainer.callbacks])
        with pytest.raises(SystemExit, match="143"):
            trainer.fit()
        assert calls == ["handler"]
        assert saved_step(tmp_path) == 3
    signal.signal(signal.SIGTERM, before)


def test_two_checkpoints_are_both_written(tmp_path: Path) -> None:
    checkpoints = [Checkpoint(tmp_path / name, weights=False) for name in ("one", "two")]
    trainer = sending(signal.SIGINT, checkpoints[0], [])
    with pytest.raises(KeyboardInterrupt):
        Trainer(trainer.step, trainer.data, callbacks=checkpoints).fit()
    assert [saved_step(tmp_path / name) for name in ("one", "two")] == [3, 3]


def test_a_signal_named_twice_arrives_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sending(signal.SIGINT, Checkpoint(tmp_path, signals=["SIGINT", "SIGINT"]), []).fit()
    assert saved_step(tmp_path) == 3


def test_the_handlers_of_a_fit_within_a_step_are_those_of_the_fit_around_it(tmp_path: Path) -> None:
    found: list[Any] = []

    def look(event: Any) -> None:
        found.append(signal.getsignal(signal.SIGTERM))

    def step(batch: int) -> None:
        Trainer(epochs=1, callbacks=[Checkpoint(tmp_path / str(batch)), At(EpochStart, look)]).fit()

    before = signal.getsignal(signal.SIGTERM)
    Trainer(
        step, [1, 2], callbacks=[Checkpoint(tmp_path / "outer", weights=False), At(StepStart, look), At(StepEnd, look)]
    ).fit()
    assert len(found) == 6
    assert len(set(map(id, found))) == 1
    assert found[0] is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0), (signal.SIGUSR1, -signal.SIGUSR1)]
)
def test_a_forked_child_neither_saves_nor_interrupts_anything(tmp_path: Path, number: int, code: int) -> None:
    codes: list[int] = []

    def step(batch: int) -> None:
        child = os.fork()
        if not child:
            os.kill(os.getpid(), number)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with cleanup_at("SIGTERM", lambda: os._exit(99)):
        checkpoint = Checkpoint(tmp_path, signals=["SIGINT", "SIGTERM", "SIGUSR1"], weights=False)
        assert Trainer(step, [1], callbacks=[checkpoint]).fit().status == "completed"
    assert codes == [code]


def test_a_fit_in_a_forked_child_is_interrupted_like_any_other(tmp_path: Path) -> None:
    def step(batch: int) -> None:
        child = os.fork()
        if not child:
            try:
                sending(signal.SIGTERM, Checkpoint(tmp_path / "child"), []).fit()
            except SystemExit as error:
                os._exit(error.code)  # type: ignore[arg-type]  # a number
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143

    assert Trainer(step, [1], callbacks=[Checkpoint(tmp_path / "parent", weights=False)]).fit().status == "completed"
    assert saved_step(tmp_path / "child") == 3


def test_a_signal_must_have_a_name() -> None:
    assert signal_named("signals", "SIGTERM") is signal.SIGTERM
    with pytest.raises(
        ValueError, match="'signals' must name signals that can be caught here, such as 'SIGTERM': 'TERM'"
    ):
        signal_named("signals", "TERM")


@pytest.mark.parametrize("stopped_by", ["signal", "stop"])
def test_a_run_that_is_about_to_end_is_saved_before_it_is_evaluated(tmp_path: Path, stopped_by: str) -> None:
    saved: list[Any] = []

    def step(batch: int) -> float:
        if batch == 3:
            os.kill(os.getpid(), signal.SIGTERM) if stopped_by == "signal" else None
        return 0.5

    def evaluate() -> float:
        saved.append([(each["progress"]["step"], each["progress"]["phase"]) for each in states(tmp_path)])
        return 0.25

    trainer = Trainer(
        step, [1, 2, 3], evaluate=evaluate, epochs=2, callbacks=[Checkpoint(tmp_path, every=None, weights=False)]
    )
    if stopped_by == "stop":
        trainer.on(StepEnd, at=3)(lambda event: event.run.stop("enough"))
        trainer.fit()
    else:
        with pytest.raises(SystemExit, match="143"):
            trainer.fit()
    assert saved == [[(3, "steps")]]
    assert [(each["progress"]["step"], each["progress"]["phase"]) for each in states(tmp_path)] == [
        (3, "steps"),
        (3, "between"),
    ]


def test_a_checkpoint_that_is_due_at_the_last_step_is_written_before_the_evaluation(tmp_path: Path) -> None:
    found: list[int] = []
    checkpoint = Checkpoint(tmp_path, every=3, interval="step", weights=False)

    def evaluate() -> float:
        found.append(saved_step(tmp_path))
        return 0.5

    Trainer(lambda batch: 0.5, [1, 2, 3], evaluate=evaluate, callbacks=[checkpoint]).fit()
    assert found == [3]


def killed_worker(number: int, frame: FrameType | None) -> None:
    raise RuntimeError("worker is killed")


@pytest.fixture
def loader_with_workers() -> Iterator[Any]:
    """Yield what PyTorch installs: a handler that raises when a worker has been killed."""
    before = signal.signal(signal.SIGCHLD, killed_worker)
    yield killed_worker
    assert signal.getsignal(signal.SIGCHLD) is killed_worker
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("loader_with_workers")
def test_the_error_of_a_killed_worker_lets_the_step_finish_and_is_that_of_the_data(tmp_path: Path) -> None:
    steps: list[str] = []

    def step(batch: int) -> float:
        if batch == 2:
            os.kill(os.getpid(), signal.SIGCHLD)
        steps.append(f"finished {batch}")
        return 0.5

    trainer = Trainer(step, [1, 2, 3], callbacks=[Checkpoint(tmp_path, every=None, weights=False)])
    with pytest.raises(RuntimeError, match="worker is killed"):
        trainer.fit()
    assert steps == ["finished 1", "finished 2"]
    assert states(tmp_path) == []
    assert len(trainer.fit()) == 1  # in good order again
    assert steps[2:] == ["finished 3"]


@pytest.mark.usefixtures("loader_with_workers")
@pytest.mark.parametrize("place", ["step", "data", "evaluate"])
@pytest.mark.parametrize("order", ["worker first", "process first"])
def test_a_signal_that_kills_the_workers_too_ends_in_good_order(tmp_path: Path, place: str, order: str) -> None:
    received: list[Any] = []

    def send(here: str) -> None:
        if here != place or len(received) > 3:
            return
        if order == "worker first":
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        else:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGCHLD)

    class Data:
        def __iter__(self) -> Iterator[int]:
            for batch in (1, 2, 3):
                if batch == 3:
                    send("data")
                yield batch

    def step(batch: int) -> float:
        if batch == 2:
            send("step")
        received.append(batch)
        return 0.5

    def evaluate() -> float:
        found = random.random()
        send("evaluate")
        return found

    def trainer(directory: Path) -> Trainer:
        random.seed(0)
        return Trainer(step, Data(), evaluate=evaluate, callbacks=[Checkpoint(directory, weights=False)])

    made = trainer(tmp_path / "run")
    with pytest.raises(SystemExit, match="143"):
        made.fit()
    done = {"step": [1, 2], "data": [1, 2], "evaluate": [1, 2, 3]}[place]
    assert (received, saved_step(tmp_path / "run")) == (done, len(done))
    received += [None] * 3
    history = trainer(tmp_path / "run").fit(resume="auto")
    assert received[len(done) + 3 :] == [1, 2, 3][len(done) :]
    assert history.metric("val_loss") == trainer(tmp_path / "straight").fit().metric("val_loss")


STILL = """
import os, signal, sys
from lucid_train import Trainer
from lucid_train.callbacks import Checkpoint

def killed_worker(number, frame):
    raise RuntimeError("worker is killed")

def step(batch):
    if batch == 2:
        me = os.getpid()
        os.system(f"(sleep 0.3; kill -STOP {me}; sleep 1.2; kill -CONT {me}; sleep 0.1; kill -TERM {me}) &")
        os.kill(me, signal.SIGCHLD)
    return 0.5

signal.signal(signal.SIGCHLD, killed_worker)
Trainer(step, [1, 2, 3], callbacks=[Checkpoint(sys.argv[1], every=None, weights=False)]).fit()
"""


def test_a_process_that_stands_still_while_it_awaits_the_signal_that_killed_a_worker_does_not_miss_it(
    tmp_path: Path,
) -> None:
    done = subprocess.run([sys.executable, "-c", STILL, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (143, "")
    assert saved_step(tmp_path) == 2


def test_an_update_that_is_half_done_is_never_saved(tmp_path: Path) -> None:
    def step(batch: int) -> float:
        if batch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("half of it")
        return 0.5

    with pytest.raises(RuntimeError, match="half of it"):
        Trainer(step, [1, 2], callbacks=[Checkpoint(tmp_path, every=None, weights=False)]).fit()
    assert states(tmp_path) == []


def test_an_evaluation_for_which_a_callback_may_have_changed_the_model_is_not_given_up_and_saved(
    tmp_path: Path,
) -> None:
    def evaluate() -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("the workers are gone")

    average = At(EvaluateStart, lambda event: None)
    checkpoint = Checkpoint(tmp_path, every=None, weights=False)
    trainer = Trainer(lambda batch: 0.5, [1, 2], evaluate=evaluate, callbacks=[checkpoint, average])
    reasons: list[str | None] = []
    trainer.on(FitEnd)(lambda event: reasons.append(event.reason))
    with pytest.raises(SystemExit, match="143"):
        trainer.fit()
    assert states(tmp_path) == []
    assert reasons == ["interrupted by SIGTERM, and not saved: At may have changed the run until EvaluateEnd"]


def test_a_handler_of_another_fit_does_not_stay(tmp_path: Path) -> None:
    found: list[Any] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: found.append("called"))

    def step(batch: int) -> None:
        mine: Any = signal.getsignal(signal.SIGCHLD)
        signal.signal(signal.SIGCHLD, lambda number, frame: mine(number, frame))  # as PyTorch's does for its own

    try:
        Trainer(step, [1]).fit()
        os.kill(os.getpid(), signal.SIGCHLD)
        assert found == ["called"]
    finally:
        signal.signal(signal.SIGCHLD, before)
