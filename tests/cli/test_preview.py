"""`lucid-train preview`: curves in the terminal, as a picture, as numbers."""

import csv
import io
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from lucid_train.cli import preview
from lucid_train.cli.expression import names, parse
from lucid_train.cli.main import main
from lucid_train.plot import text_rows
from lucid_train.schedules import Constant, Cosine, Exponential, Linear, MultiStep, Schedule, Step
from tests.schedules.test_gallery import gallery

TYPED = {name: schedule for name, schedule in gallery.EXAMPLES.items() if name in names()}
SHOWN = {**TYPED, **gallery.COMPOSITIONS}

# What Python says that it has run; a hook cannot be removed.
EXECUTED: list[str] = []
sys.addaudithook(
    lambda event, _: EXECUTED.append(event) if event in ("exec", "os.system", "subprocess.Popen") else None
)


def run(*arguments: str) -> int:
    return main(["preview", *arguments])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(*arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    return error.removeprefix("lucid-train: error: ").removesuffix("\n")


def test_all_but_those_that_need_a_function_can_be_typed() -> None:
    assert set(gallery.EXAMPLES) - set(names()) == {"Function", "Multiplicative"}


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_schedule_prints_is_an_expression_of_it(name: str) -> None:
    assert parse(repr(SHOWN[name])) == SHOWN[name]


@pytest.mark.parametrize("name", SHOWN)
def test_every_schedule_is_drawn_in_80_columns_of_ascii(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = repr(SHOWN[name])
    assert run(shown) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert not {"\x1b", "\r", "\b"} & set(text)
    assert max(map(len, text.splitlines())) <= 80
    assert text.replace("\n", "").startswith(shown)
    assert "*" in text


def test_the_curve_stands_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    run("Linear(0.1, 1, 10)", "--epochs", "11", "--lr", "1")
    title, *rows, axis = capsys.readouterr().out.splitlines()
    assert title == "Linear(0.1, total_iters=10)"
    assert rows[0].startswith("    1 | ")
    assert rows[0].endswith("*")
    assert rows[-1].startswith("  0.1 | ***")
    assert axis.split() == ["epoch", "0", "10"]


def test_the_axis_counts_steps_and_shares_are_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    run("Linear(0, 1, 100).then(Cosine())", "--steps", "2000")
    assert capsys.readouterr().out.splitlines()[-1].split() == ["step", "0", "1999"]


def test_several_curves_have_marks_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    run("Constant(1)", "Constant(0.5)", "Constant(0)", "--epochs", "4", "--lr", "1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["* Constant()", "+ Constant(0.5)", "o Constant(0.0)"]
    drawn = {line.partition("| ")[2] for line in lines[3:-1]} - {""}
    assert [sorted(set(row)) for row in sorted(drawn)] == [["*"], ["+"], ["o"]]


def test_a_flat_curve_and_a_single_epoch_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("Constant(1)", "--epochs", "1") == 0
    assert "*" in capsys.readouterr().out


def test_a_long_curve_shows_all_that_it_crosses() -> None:
    rows = text_rows([[0.0, 1.0] * 500], 20, 12, fine=False)
    assert {mark for row in rows for mark, _ in row} == {"*"}


def drawn(stream: io.TextIOWrapper, width: int, color: str | None, *curves: list[float]) -> str:
    console = Console(file=stream, force_terminal=True, width=width, color_system=color)  # type: ignore[arg-type]
    preview.draw(console, {f"curve {index}": curve for index, curve in enumerate(curves)}, "epoch", 1)
    stream.seek(0)
    return stream.read()


def test_a_terminal_gets_colour_and_dots() -> None:
    text = drawn(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), 80, "standard", [0.1, 0.2], [0.2, 0.1])
    assert "\x1b[36m" in text
    assert "\x1b[33m" in text
    assert any(0x2800 < ord(letter) < 0x2900 for letter in text)


def test_several_curves_without_a_color_are_no_dots() -> None:
    text = drawn(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), 80, None, [0.1, 0.2], [0.2, 0.1])
    assert {"*", "+"} <= set(text)
    assert not any(0x2800 < ord(letter) < 0x2900 for letter in text)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_terminal_that_takes_no_dots_gets_ascii_that_fits(width: int) -> None:
    text = drawn(io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width, None, [0.1, 0.2])
    assert "*" in text
    assert max(map(len, text.splitlines())) <= width


def test_numbers_are_written_to_the_last_bit_in_a_column_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "curve.csv"
    assert run("Cosine(50).warmup(5)", "Step('25%', gamma=0.5)", "--steps", "60", "--csv", str(target)) == 0
    assert capsys.readouterr().out == ""
    header, *rows = csv.reader(target.read_text().splitlines())
    assert header == ["step", "Linear(0.1, total_iters=5).then(Cosine(50))", "Step('25%', gamma=0.5)"]
    expected = Cosine(50).warmup(5).table(60, 0.1), Step("25%", gamma=0.5).sized(60).table(60, 0.1)
    assert [(int(t), float(one), float(other)) for t, one, other in rows] == [*zip(range(60), *expected, strict=True)]


def test_a_picture_has_every_curve(tmp_path: Path) -> None:
    target = tmp_path / "curve.svg"
    assert run("Exponential(0.5)", "Cosine()", "--epochs", "3", "--svg", str(target)) == 0
    root = ET.fromstring(target.read_text(encoding="utf-8"))
    curves = root.findall(".//{*}path[@stroke-width='1.5']")
    assert [len(curve.attrib["d"].split()) for curve in curves] == [3, 3]
    texts = [text.text for text in root.iterfind(".//{*}text")]
    assert texts == ["Exponential(0.5)", "Cosine()", "0.1", "0.025", "0", "epoch", "2"]


def test_the_list_has_every_schedule_with_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list") == 0
    text = capsys.readouterr().out
    assert "Exponential(gamma, every=1, min_ratio=0.0)\n    Multiply the base" in text
    assert [line.partition("(")[0] for line in text.splitlines() if line[:1].isupper()] == list(names())


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("Linear(0, 1, 100).then(Cosine())", Linear(0, 1, 100).then(Cosine())),
        ("  Cosine().warmup('25%', start=0.5)\n", Cosine().warmup("25%", 0.5)),
        ("Constant().until('80%').then(Exponential(.9))", Constant().until("80%").then(Exponential(0.9))),
        ("(Cosine() * Step(3)) * Step(4)", (Cosine() * Step(3)) * Step(4)),
        ("Cosine(None, 0.0, 'hold')", Cosine(after="hold")),
        ("Exponential(0.1 ** (1 / 30))", Exponential(0.1 ** (1 / 30))),
        ("Step(3 * 10, 2 ** -1)", Step(30, 0.5)),
        ("MultiStep([10 ** 2, -(-2) * 10 ** 3])", MultiStep([100, 2000])),
    ],
)
def test_an_expression_is_read_as_python_would(text: str, schedule: Schedule) -> None:
    assert parse(text) == schedule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Linear(0, 1).then(Cosin())", "'Cosin' is not a schedule; did you mean Cosine?\n#^^^^^@Cosin"),
        ("cosine()", "'cosine' is not a schedule; did you mean Cosine?\n#^^^^^^@cosine"),
        (
            "Constant().til(3)",
            "'til' is not what may follow Constant(...); did you mean until?\n#^^^^^^^^^^^^^^^^^@Const",
        ),
        ("Cosine", "'Cosine' must be called: Cosine(...)\n#^^^^^^@Cosine"),
        ("Linear(0).then(Step(0))", "'step_size' must be >= 1: 0\n#^^^^^^^@Step"),
        (
            "Constant().then(Cosine())",
            "'then' must follow an end, as in .until('5%').then(...): Constant()\n#^*25@Const",
        ),
        (
            "Cosine(Tmax=3)",
            "Cosine(T_max=None, eta_min=0.0, after='restart', min_ratio=0.0, cycles=0.5, power=1.0): got an unexpected "
            "keyword argument 'Tmax'; did you mean T_max?\n#^*14@Cosine",
        ),
        ("Step()", "Step(step_size, gamma=0.1, min_ratio=0.0): missing a required argument: 'step_size'\n#^*6@Step"),
        ("Cosine(", "not an expression: '(' was never closed\n#^@("),
        ("Cosine().then(Step(3)", "not an expression: '(' was never closed\n#^@(Step"),
        ("Linear(0, 1, 9.then(Rex())", "not an expression: a ')' must stand before '.'\n#^@.then"),
        (
            "Cosine().warmup(2.5%)",
            "not an expression: a share of the run must stand in quotes, as in '5%'\n#^^^^@2.5",
        ),
        ("CosineAnnealingLR(9)", "'CosineAnnealingLR' is not a schedule; did you mean Cosine?\n#^*17@Cos"),
        ("MultiStepLR([9])", "'MultiStepLR' is not a schedule; did you mean MultiStep?\n#^*11@Multi"),
        ("warmup(5)", "'warmup' must follow a schedule, as in Cosine().warmup(...)\n#^^^^^^@warm"),
        ("schedules.Cosine()", "a schedule must be written without a module: Cosine(...)\n#^*16@sched"),
        ("optim.lr()", "'optim' is not a schedule; there are " + ", ".join(names()) + "\n#^^^^^@optim"),
        (
            "Function(f)",
            "'Function' cannot be written here, as it needs a function; in Python, it has plot()\n#^*8@Func",
        ),
        ("Rex() * 0.5", "'*' must stand between two schedules, such as Constant(0.5), or two numbers\n#^*11@Rex"),
        ("Step('1' / 2)", "'/' must stand between two numbers\n#^*7@'1'"),
        ("(-Cosine())", "'-' must stand before a number\n#^*9@-Cos"),
        ("- Cosine()", "'-' must stand before a number\n#^*10@- Cos"),
        ("Step(-True)", "'-' must stand before a number\n#^*5@-True"),
        ("Step(2 ** 51)", "a power of a whole number must be at most 50\n#^*7@2 **"),
        ("Step(10 ** 16)", "a whole number must be at most 1e+15\n#^*8@10 **"),
        ("Step(1 / 0)", "'/' must not divide by 0\n#^*5@1 /"),
        ("Step(0 ** -1)", "'**' must not divide by 0\n#^*7@0 **"),
        ("Step(2.0 ** 5000)", "'**' must give a number that is finite: inf\n#^*11@2.0"),
        ("Step(1e308 * 10)", "'*' must give a number that is finite: inf\n#^*10@1e308"),
        ("Step((-2) ** 0.5)", "'**' must give a number that is finite: 8.66e-17+1.41j\n#^*11@(-2)"),
        ("Step(T_max='é') 3", "not an expression: invalid syntax\n#^@3"),
    ],
)
def test_an_error_says_what_and_where(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    what, _, where = message.partition("\n#")
    carets, _, place = where.partition("@")
    carets = "^" * int(carets[2:]) if "*" in carets else carets
    assert refusal(capsys, text) == f"{what}\n  {text}\n  {' ' * text.index(place)}{carets}"


HOSTILE = {
    "an attribute": "Cosine.__class__",
    "a method that is none": "Cosine().__class__()",
    "a method of the schedule's own": "Cosine().sized(3)",
    "another name": "__import__('os').system('exit')",
    "a name of Python's": "eval('1')",
    "a large text": "Step('a' * 10**9)",
    "a power": "Step(9 ** 9 ** 9)",
    "powers of powers": f"Step({'(' * 30}2{' ** 50)' * 30})",
    "a power of a text": "Step('a' ** 9)",
    "a product of lists": "MultiStep([1] * 10**9)",
    "a large number": f"Step({'9' * 3000})",
    "a number beyond all": f"Step({'9' * 3990})",
    "an f-string": "Step(f'{1}')",
    "a lambda": "Function(lambda t: 1)",
    "a comprehension": "MultiStep([t for t in range(9)])",
    "a generator": "MultiStep(t for t in [1])",
    "a walrus": "(x := Cosine())",
    "a condition": "Cosine() if 1 else Cosine()",
    "stars": "MultiStep(*[[1]])",
    "two stars": "MultiStep(**{'milestones': [1]})",
    "an index": "[Cosine()][0]",
    "an await": "await Cosine()",
    "bytes": "Step(b'1')",
    "a complex number": "Exponential(1j)",
    "an ellipsis": "Step(...)",
    "a setting twice": "Step(step_size=1, step_size=2)",
    "parentheses": "(" * 2000 + ")" * 2000,
    "signs": f"Step({'-' * 3900}1)",
    "nested lists": "Chain([" * 60 + "Cosine()" + "])" * 60,
    "a long chain of methods": "Constant()" + ".warmup(1)" * 300,
    "a list of a million": f"MultiStep([{'1,' * 1_000_000}])",
    "statements": "import os; os.abort()",
    "no schedule": "[1]",
    "nothing": "",
    "a part without an end": "Cosine().until(3)",
    "a lone surrogate": "Step('\ud800')",
    "a zero byte": "Step(\0)",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_is_evaluated(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    EXECUTED.clear()
    error = refusal(capsys, text)
    assert EXECUTED == []
    assert len(error) < 700
    assert max(map(len, error.splitlines()[1:]), default=0) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-Cosine()"],
            "lucid-train: error: unrecognized arguments: -Cosine(); what begins with '-' is read as an option: no "
            "schedule does, a file is written ./-name\n",
        ),
        (
            ["Cosine()", "--svg", "-curve.svg"],
            "argument --svg: expected one argument; a file whose name begins with '-' is written ./-name\n",
        ),
        (["Cosine()", "--stp", "5"], "lucid-train: error: unrecognized arguments: --stp 5\n"),
    ],
)
def test_what_begins_with_a_minus_is_refused_as_an_option(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert capsys.readouterr().err.endswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Cosine()", "--epochs", "0"], "'epochs' must be >= 1: 0"),
        (["Cosine()", "--steps", "1000000000000"], "'steps' must be <= 10,000,000: 1,000,000,000,000"),
        (["Cosine()", "--lr", "-1"], "'lr' must be >= 0: -1.0"),
        (["Exponential(2)", "--epochs", "2000"], "Exponential(2.0) exceeds the largest float at 1024"),
        ([], "'schedule' must be 1 to 4 expressions, such as \"Cosine().warmup('5%')\": 0; lucid-train preview --list"),
        (["Cosine()"] * 5, "'schedule' must be 1 to 4 expressions"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, *arguments).startswith(message)


def test_the_scale_ends_at_the_lowest_value(capsys: pytest.CaptureFixture[str]) -> None:
    run("Linear(0)", "--epochs", "30")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("|")[0].strip() for line in (lines[1], lines[12])] == ["0.0967", "0"]
