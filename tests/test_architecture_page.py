"""What docs/architecture.md says of the code: its drawing shows who imports what, and all that it names exists."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.test_architecture import ALLOWED, HOUSE, ROOT, edges, room

TEXT = (ROOT / "docs/architecture.md").read_text("utf-8")
# The prose: without front matter, code that runs, drawings, and the addresses of links.
PROSE = re.sub(r"^```.*?^```$|^---$.*?^---$|\]\([^)]*\)", " ", TEXT, flags=re.MULTILINE | re.DOTALL)
SPANS = sorted({" ".join(span.split()) for span in re.findall(r"`([^`]+)`", PROSE)})
ROOMS = [each for rooms in HOUSE for each in rooms]
# Of Python, and of what the library is built on and trains: what no file here defines.
FOREIGN = {"__init__.py", "init", "os.replace", "param_groups", "safetensors", "self", "True", "False", "None"}
# The folder of the catalogue stands beside lucid_train/.
SOURCES = ("lucid_train", "callbacks", "tests")


def drawing() -> str:
    """Return the rooms from the top of the house down, each with those that it imports from."""
    used = {(room(one), room(other)) for one, other in edges() if (one, other) not in ALLOWED}
    width = max(map(len, ROOMS))
    lines = []
    for floor, rooms in enumerate(HOUSE, 1):
        for each in rooms:
            place = ROOMS.index(each)
            cells = ["x" if (each, other) in used else "." for other in ROOMS[:place]]
            lines.append(f"{floor:2}  {each:{width}}  {' '.join([*cells, each[0]])}")
    return "\n".join(lines)


def parts_of(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield what some statements define by name: classes, functions, constants, fields."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(each, ast.Name):
                        yield each.id, node


@cache
def defined_in(path: Path) -> frozenset[str]:
    """Return the names that a module defines: its own, and those in its classes with the name of the class."""
    found = set()
    for name, node in parts_of(ast.parse(path.read_text("utf-8")).body):
        found.add(name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{name}.{inner}" for inner, _ in parts_of(node.body)}
    return frozenset(found)


@cache
def arguments() -> frozenset[str]:
    """Return the names of the arguments of all functions, and of the fields of all classes."""
    found = set()
    for folder in ("lucid_train", "callbacks"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= {node.arg for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.arg)}
            found |= {name.rpartition(".")[2] for name in defined_in(path) if "." in name}
    return frozenset(found)


@cache
def names() -> frozenset[str]:
    """Return what all modules define, and the dotted names of the modules and the packages."""
    found = set()
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            found |= defined_in(path)
            inside = path.relative_to(ROOT).with_suffix("").parts
            for parts in (inside, inside[:-1]):
                dotted = ".".join(parts)
                found |= {
                    dotted,
                    dotted.removeprefix("lucid_train."),
                    re.sub("^callbacks", "lucid_train.callbacks", dotted),
                }
    return frozenset(found)


def is_path(span: str) -> bool:
    return "/" in span or span.rpartition(".")[2] in ("py", "md", "toml", "csv")


def unknown_in(span: str) -> list[str]:
    """Return the names in a piece of code that nothing here defines."""
    try:
        tree = ast.parse(span.removeprefix("@"))
    except SyntaxError:
        return [span]
    found, inner = [], set[int]()
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.Attribute):
            inner |= {id(each) for each in ast.walk(node)}
        if isinstance(node, (ast.Attribute, ast.Name)):
            name = ast.unparse(node)
            if (
                name not in names() | FOREIGN | set(dir(builtins))
                and name.removeprefix("run.") not in RUN | arguments()
            ):
                found.append(name)
        elif isinstance(node, ast.keyword) and node.arg not in arguments() | FOREIGN:
            found.append(str(node.arg))
    return found


# An event's run, as its hooks write it.
RUN = {
    name.removeprefix("Run.") for name in defined_in(ROOT / "lucid_train/training/run.py") if name.startswith("Run.")
}


def test_the_drawing_shows_who_imports_what() -> None:
    assert f"```text\n{drawing()}\n```" in TEXT, f"draw it as it is now:\n{drawing()}"


def test_the_one_import_upwards_is_named() -> None:
    [(lower, upper)] = ALLOWED
    assert {lower, upper} <= set(SPANS)


def test_every_room_is_described_in_the_order_of_the_house() -> None:
    table = TEXT.partition("| room |")[2].partition("\n\n")[0]
    assert [
        name
        for row in re.findall(r"^\| (`[^|]+) \|", table, flags=re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ] == ROOMS


@pytest.mark.parametrize("span", [span for span in SPANS if is_path(span)])
def test_a_path_exists(span: str) -> None:
    assert span in FOREIGN or list(ROOT.glob(span)), span


@pytest.mark.parametrize("span", [span for span in SPANS if not is_path(span)])
def test_what_is_written_as_code_exists(span: str) -> None:
    assert unknown_in(span) == []


def test_what_a_walk_finds_in_a_file_is_defined_there() -> None:
    items = re.findall(r"^\d+\. (.*)$", TEXT, flags=re.MULTILINE)
    rows = [match.groups() for each in items if (match := re.fullmatch(r"`([\w/]+\.py)`: (.+)\\", each))]
    assert len(rows) == len(items) > 30
    missing = [
        (file, name)
        for file, cell in rows
        for name in re.findall(r"`([\w.]+)`", cell)
        if name not in defined_in(ROOT / file)
    ]
    assert missing == []
