"""The table of docs/performance.md has a row for each that the benchmarks define, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "tests/benchmarks").glob("*.py"))
PAGE = (ROOT / "docs/performance.md").read_text("utf-8")


def table(mark: str) -> list[list[str]]:
    """Return the cells of the rows between the comments with this mark, the titles first."""
    [part] = re.findall(rf"<!-- {re.escape(mark)} -->\n(.*?)<!-- end -->", PAGE, flags=re.DOTALL)
    lines = [line for line in part.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def pattern(text: ast.expr, names: dict[str, ast.expr]) -> str:
    """Return a pattern of what a text comes to: what it is formatted with may be anything, but names of texts."""
    if isinstance(text, ast.Name):
        return pattern(names[text.id], names) if text.id in names else ".+"
    if isinstance(text, ast.JoinedStr):
        return "".join(pattern(part, names) for part in text.values)
    if isinstance(text, ast.FormattedValue):
        return pattern(text.value, names)
    if isinstance(text, ast.Constant):
        return re.escape(str(text.value))
    if isinstance(text, ast.BinOp) and isinstance(text.op, ast.Add):
        return pattern(text.left, names) + pattern(text.right, names)
    return ".*"  # such as "s" * (groups > 1)


def texts(function: ast.AST) -> dict[str, ast.expr]:
    """Return what names are assigned in a function, also several at once."""
    found = {}
    for node in ast.walk(function):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = [*zip(target.elts, node.value.elts, strict=True)]
            strings = (ast.Constant, ast.JoinedStr, ast.BinOp)
            found |= {to.id: value for to, value in pairs if isinstance(to, ast.Name) and isinstance(value, strings)}
    return found


def defined(module: Path) -> Iterator[tuple[str, str]]:
    """Yield patterns of what is measured, and against what, of every row that a module defines."""
    for function in ast.parse(module.read_text("utf-8")).body:
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Row":
                names = texts(function)
                yield pattern(node.args[0], names), pattern(node.args[3], names)


ROWS = {(what, against): path.stem for path in MODULES for what, against in defined(path)}


def is_of(row: list[str], what: str, against: str) -> bool:
    return bool(re.fullmatch(what, row[0]) and re.fullmatch(against, row[2]))


@pytest.mark.parametrize(("what", "against"), ROWS, ids=lambda text: None)
def test_a_row_that_a_benchmark_defines_stands_in_the_page(what: str, against: str) -> None:
    assert [row for row in table("python tests/benchmarks --page")[1:] if is_of(row, what, against)]


def test_every_row_of_the_page_is_one_of_a_benchmark_and_stands_once() -> None:
    rows = table("python tests/benchmarks --page")[1:]
    assert [row[:3] for row in rows if not any(is_of(row, *each) for each in ROWS)] == []
    assert len({(row[0], row[2]) for row in rows}) == len(rows) > 90


def value_of(module: str, name: str) -> ast.expr:
    """Return what a benchmark assigns to a name that it annotates."""
    body = ast.parse((ROOT / f"tests/benchmarks/{module}.py").read_text("utf-8")).body
    found = {ast.unparse(node.target): node.value for node in body if isinstance(node, ast.AnnAssign)}
    value = found[name]
    assert value is not None
    return value


def test_every_schedule_of_the_benchmarks_stands_with_one_group_and_with_ten() -> None:
    schedules = value_of("schedules", "SCHEDULES")
    assert isinstance(schedules, ast.List)
    names = [ast.literal_eval(each.elts[0]) for each in schedules.elts if isinstance(each, ast.Tuple)]
    assert len(names) == len(schedules.elts)
    shown = {row[0] for row in table("python tests/benchmarks --page")}
    assert {f"{name}.step, {groups}" for name in names for groups in ("1 group", "10 groups")} <= shown


def test_each_framework_that_the_training_is_written_in_has_a_row() -> None:
    build = value_of("peers_training", "BUILD")
    assert isinstance(build, ast.Dict)
    assert len(table("python tests/benchmarks/peers_training.py --page")) == 1 + len(build.keys)
