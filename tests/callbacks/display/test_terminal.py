"""RichLogger on a real pseudo-terminal, looked at through a terminal emulator."""

import re
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import PRELUDE, Terminal, has

STEP = "train(lambda number: (time.sleep(0.1), 1 / number)[1])"
# Long enough for the means to be drawn.
HELD_STEP = "train(lambda number: (time.sleep(0.2), number == 4 and held('seen'), 1 / number)[2])"


@pytest.mark.parametrize(
    "columns", [pytest.param(40, marks=pytest.mark.slow), 80, pytest.param(200, marks=pytest.mark.slow)]
)
def test_the_screen_shows_rows_that_stay_and_two_bars(tmp_path: Path, columns: int) -> None:
    terminal = Terminal(HELD_STEP, columns, GATES=str(tmp_path))
    live = terminal.until(
        lambda lines: re.search(r"epoch 1/2 .* [1-3]/4(  |\n).*loss \d", "\n".join(lines), re.DOTALL) is not None
    )
    moving = [line for line in live if "/4" in line or "eta" in line]
    assert len(moving) == 2
    assert all(len(line) < columns for line in live)
    assert [line.split()[:2] for line in moving] == [["epoch", "1/2"], ["run", moving[1].split()[1]]]
    assert all(("─" in line) is (columns > 40) for line in moving)
    assert "eta" in moving[1]
    assert terminal.screen.cursor.hidden
    (tmp_path / "seen").touch()
    lines = terminal.end()
    assert not [line for line in lines if "━" in line], "the bars are gone"
    rows = [line.split()[:-1] for line in lines if line.split() and line.split()[0] in "12"]
    assert rows == [["1", "0.5208", "*", "0.1000", "->", "0.0500"], ["2", "0.5208", "0.0500", "->", "0.0250"]]
    together = " ".join(" ".join(lines).split())
    assert re.search(r"completed 2 epochs, 8 steps in .* best epoch 1: loss 0.5208", together)
    assert terminal.sane
    assert terminal.child.exitstatus == 0


def test_an_exception_leaves_a_sane_terminal_and_its_traceback() -> None:
    terminal = Terminal("def step(number):\n    time.sleep(0.1)\n    assert number < 3\ntrain(step)")
    lines = terminal.end()
    assert has("failed in epoch 1, after step 2: AssertionError", "Traceback", "0 epochs, 2 steps in")(lines)
    assert not has("━")(lines)
    assert terminal.sane
    assert terminal.child.exitstatus == 1


def test_ctrl_c_leaves_a_sane_terminal() -> None:
    terminal = Terminal("train(lambda number: time.sleep(0.05), steps=10_000)")
    terminal.until(has("epoch", "steps/s"))
    terminal.child.sendintr()
    lines = terminal.end()
    assert has("interrupted", "KeyboardInterrupt")(lines)
    assert not has("━")(lines)
    assert terminal.sane
    assert terminal.code == 130


def test_sigterm_leaves_a_sane_terminal_and_still_ends_the_process() -> None:
    terminal = Terminal("train(lambda number: time.sleep(0.05), steps=10_000)")
    terminal.until(has("epoch", "steps/s"))
    terminal.child.kill(15)
    lines = terminal.end()
    assert terminal.sane
    assert not has("━")(lines)
    assert terminal.child.signalstatus == 15


def test_what_others_print_and_log_appears_once_whole_and_above(tmp_path: Path) -> None:
    terminal = Terminal(
        """
early = logging.StreamHandler()
logging.getLogger("early").addHandler(early)
out, err, stream = sys.stdout, sys.stderr, early.stream

def step(number):
    time.sleep(0.12)
    if number == 1:
        print("printed [red]text[/red] :smile:", "x" * 200)
        print("in", end=" ", flush=True)
        print("pieces")
        sys.stderr.write("two\\nlines\\n")
        logging.getLogger("early").warning("logged early [/]")
        late = logging.StreamHandler()
        logging.getLogger("late").addHandler(late)
        logging.getLogger("late").warning("logged late")
        warnings.warn("a warning", stacklevel=1)
        import rich
        rich.print("[bold]by rich[/bold]")
        from rich.console import Console
        Console().print("by another console")
        print("no end", end="")
    if number == 4:
        held("seen")
    return 1.0

train(step, epochs=1)
assert sys.stdout is out and sys.stderr is err and early.stream is stream
assert logging.getLogger("late").handlers[0].stream is err
logging.getLogger("late").warning("logged after")
""",
        GATES=str(tmp_path),
    )
    live = terminal.until(has("no end", "epoch", "─"))
    above = re.split("[━╸─]", "\n".join(live))[0]
    for text in ("printed [red]text[/red] :smile:", "in pieces", "two\nlines", "logged early [/]", "logged late"):
        assert above.count(text) == 1, (text, above)
    # Since Python 3.13 the line of the program that warns follows, also of one that is given by `-c`.
    assert above.count("by rich") == above.count("by another console") == above.count("UserWarning: a warning") == 1
    assert above.replace("\n", "").count("x" * 200) == 1
    (tmp_path / "seen").touch()
    lines = terminal.end()
    everything = "\n".join(lines)
    assert everything.count("no end") == everything.count("in pieces") == everything.count("logged after") == 1
    assert terminal.sane
    assert terminal.child.exitstatus == 0


@pytest.mark.slow
def test_a_debugger_prompt_stays_usable_and_the_bars_come_back(tmp_path: Path) -> None:
    terminal = Terminal(
        """
def step(number):
    time.sleep(0.1)
    if number in (2, 12):
        held(f"seen at {number}")
    if number == 3:
        value = 41
        breakpoint()
        value += 1
    return 1.0

train(step, epochs=1, steps=12)
assert sys.breakpointhook is sys.__breakpointhook__
import builtins, io
assert builtins.input.__module__ == "builtins"
""",
        GATES=str(tmp_path),
    )
    terminal.until(has("epoch", "─"))
    (tmp_path / "seen at 2").touch()
    stopped = terminal.until(has("(Pdb)"))
    assert not has("━")(stopped)
    assert not terminal.screen.cursor.hidden
    assert has("value", "<module>")(stopped) or has("step()")(stopped), "the debugger stands in the user's code"
    terminal.child.send("p value + 1\n")
    terminal.until(lambda lines: "42" in lines)
    for _ in range(10):
        terminal.read()
    assert not has("━")(terminal.lines()), "the prompt is left alone"
    terminal.child.send("c\n")
    terminal.until(has("(Pdb) c", "━"))
    (tmp_path / "seen at 12").touch()
    lines = terminal.end()
    assert has("completed")(lines)
    assert terminal.sane
    assert terminal.child.exitstatus == 0


@pytest.mark.slow
def test_input_is_asked_without_bars(tmp_path: Path) -> None:
    terminal = Terminal(
        """
def step(number):
    time.sleep(0.15)
    number == 3 and print("answered", input("go on? "))
    number == 9 and held("seen")
train(step, epochs=1, steps=9)
""",
        GATES=str(tmp_path),
    )
    asked = terminal.until(has("go on?"))
    assert not has("━")(asked)
    terminal.child.send("yes\n")
    terminal.until(has("answered yes", "━"))
    (tmp_path / "seen").touch()
    assert terminal.end()
    assert terminal.sane
    assert terminal.child.exitstatus == 0


@pytest.mark.slow
def test_pdb_set_trace_is_asked_without_bars() -> None:
    terminal = Terminal("import pdb\ntrain(lambda number: (time.sleep(0.1), number == 2 and pdb.set_trace(), 1.0)[2])")
    assert not has("━")(terminal.until(has("(Pdb)")))
    terminal.child.send("q\n")
    assert has("BdbQuit")(terminal.end())
    assert terminal.sane


def test_no_color_is_obeyed() -> None:
    terminal = Terminal(STEP, NO_COLOR="1")
    terminal.end()
    colours = [part for part in terminal.raw.split("\x1b[")[1:] if part.partition("m")[0].startswith("3")]
    assert colours == []
    assert "\x1b[?25l" in terminal.raw
    assert terminal.sane


def test_a_dumb_terminal_gets_plain_lines() -> None:
    terminal = Terminal("train(lambda number: 1 / number)", TERM="dumb")
    lines = terminal.end()
    assert "\x1b" not in terminal.raw
    assert has("epoch 1/2 loss 0.5208* lr 0.1000 -> 0.0500")(lines)
    assert terminal.child.exitstatus == 0


@pytest.mark.slow
@pytest.mark.parametrize("outer", ["Live('the user shows this')", "Progress()"])
def test_it_goes_on_inside_a_live_display_of_the_user(outer: str) -> None:
    terminal = Terminal(
        f"""
from rich import get_console
from rich.live import Live
from rich.progress import Progress
with {outer} as live:
    if isinstance(live, Progress):
        live.add_task("the user shows this")
    train(lambda number: (time.sleep(0.05), 1 / number)[1])
    train(lambda number: (time.sleep(0.05), 1 / number)[1], epochs=1)
"""
    )
    lines = terminal.end()
    assert has("the user shows this", "completed", "0.0500 -> 0.0250")(lines)
    assert len([line for line in lines if "completed" in line]) == 2
    assert not terminal.screen.cursor.hidden
    assert terminal.child.exitstatus == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "inner",
    [
        "for _ in rich.progress.track(range(3)): work()",
        "Trainer(lambda _: work(), range(5), callbacks=[RichLogger(header=False, summary=False)]).fit()",
    ],
)
def test_another_display_may_come_and_go_inside_it(tmp_path: Path, inner: str) -> None:
    terminal = Terminal(
        f"""
import rich.progress
def step(number):
    def work():
        time.sleep(0.1)
        number == 2 and held("seen")
    {inner}
train(step, epochs=1, steps=3)
""",
        GATES=str(tmp_path),
    )
    both = terminal.until(
        lambda lines: (
            len([line for line in lines if "━" in line]) >= 2
            and any(has(unit)(lines) for unit in ("steps/s", "s/step"))
        )
    )
    (tmp_path / "seen").touch()
    assert len([line for line in both if " step " in f" {line}"]) <= 2
    lines = terminal.end()
    assert len([line for line in lines if "completed" in line]) == 1
    assert not has("eta")(lines)
    assert terminal.sane
    assert terminal.child.exitstatus == 0


def test_a_stream_that_leads_elsewhere_is_left_alone(tmp_path: Any) -> None:
    path = tmp_path / "out.txt"
    terminal = Terminal(
        f"""
from rich.console import Console
sys.stdout = open({str(path)!r}, "w")
def step(number):
    time.sleep(0.1)
    print("to the file")
train(step, epochs=1, steps=2, logger=RichLogger(Console(stderr=True)))
sys.stdout.close()
"""
    )
    assert not has("to the file")(terminal.end())
    assert path.read_text() == "to the file\nto the file\n"


def test_a_forked_child_writes_past_the_display() -> None:
    terminal = Terminal(
        """
import os
def step(number):
    time.sleep(0.1)
    if number == 2:
        child = os.fork()
        if not child:
            print("from the child", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    return 1.0
warnings.simplefilter("ignore")
train(step, epochs=1)
"""
    )
    assert has("completed")(terminal.end())
    assert "from the child" in terminal.raw
    assert terminal.sane
    assert terminal.child.exitstatus == 0


def test_while_it_is_suspended_the_terminal_is_the_shell_s(tmp_path: Path) -> None:
    program = (
        f"{PRELUDE}train(lambda number: time.sleep(0.1) or number == 10 and held('seen') or 0.5, epochs=2, steps=20)"
    )
    training = shlex.join([sys.executable, "-c", program])
    terminal = Terminal(
        ["bash", "-mc", f"{training}; echo suspended; read; fg; echo suspended again; read; fg"],
        GATES=str(tmp_path),
    )
    for again in ("", " again"):
        terminal.until(has("epoch", "─"))
        assert terminal.screen.cursor.hidden
        terminal.child.send("\x1a")
        lines = terminal.until(has(f"suspended{again}"))
        assert not terminal.screen.cursor.hidden
        assert not has("epoch", "─")(lines)
        terminal.child.send("\n")
    (tmp_path / "seen").touch()
    lines = terminal.end()
    assert (terminal.code, terminal.sane) == (0, True)
    assert has("completed")(lines)


def interrupted(directory: Path, body: str, order: str = "logger, checkpoint", **environment: str) -> Terminal:
    """Return a run of two epochs of three steps with an evaluation, in which `body` says what takes long."""
    return Terminal(
        f"""
from lucid_train.callbacks import Checkpoint
def step(number): return 0.5
def evaluate(): return 0.25
{body}
logger, checkpoint = RichLogger(), Checkpoint({str(directory)!r}, every=None, weights=False)
Trainer(step, [1, 2, 3], evaluate=evaluate, epochs=2, callbacks=[{order}]).fit()
""",
        columns=120,
        **environment,
    )


LONG = {
    "step": "def step(number):\n    print('going')\n    time.sleep(600 if number == 2 else 0)\n    return 0.5",
    "evaluation": "def evaluate():\n    print('going')\n    time.sleep(600)\n    return 0.25",
}


@pytest.mark.parametrize("order", ["logger, checkpoint", "checkpoint, logger"])
@pytest.mark.parametrize("awaited", ["step", "evaluation"])
def test_the_first_ctrl_c_is_answered_at_once_above_the_bars(tmp_path: Path, awaited: str, order: str) -> None:
    terminal = interrupted(tmp_path, LONG[awaited], order)
    terminal.until(has("going", "eta"))
    terminal.child.sendintr()
    answer = f"Stopping: this {awaited} ends first, then the run is saved."
    lines = [" ".join(line.split()) for line in terminal.until(has(answer, "eta"))]
    assert lines[lines.index(answer) + 1] == "Ctrl-C again stops at once, without saving."
    assert lines.index(answer) < max(n for n, line in enumerate(lines) if "eta" in line)
    time.sleep(0.2)  # what follows at once is taken for a copy that a launcher has forwarded
    terminal.child.sendintr()
    lines = terminal.end()
    assert (terminal.code, terminal.sane) == (130, True)
    assert has("interrupted by Ctrl-C")(lines)
    assert not has("go on")(lines)
    assert list(tmp_path.glob("checkpoint*")) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_last_line_says_what_was_saved_and_how_to_go_on(tmp_path: Path, name: str) -> None:
    body = "def step(number):\n    print('going')\n    number == 2 and held('answered')\n    return 0.5"
    terminal = interrupted(tmp_path / "run", body, GATES=str(tmp_path))
    terminal.until(has("going", "eta"))
    terminal.child.kill(signal.Signals[name])
    terminal.until(has("Stopping", "eta"))
    (tmp_path / "answered").touch()
    lines = [" ".join(line.split()) for line in terminal.end() if line]
    answer = lines.index("Stopping: this step ends first, then the run is saved.")
    again = lines[answer + 1] == "Ctrl-C again stops at once, without saving."
    assert again is (name == "SIGINT")
    assert f'{tmp_path / "run"}: last.safetensors (epoch 1, step 2); go on with fit(resume="auto")' in " ".join(lines)
    assert (terminal.code, terminal.sane) == (130 if name == "SIGINT" else 143, True)
