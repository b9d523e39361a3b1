"""Who may know whom: every module imports only from those above it in the house, type-only imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent

# From the top of the house down; modules on one line, or in one folder, may import one another without a circle.
HOUSE = (
    ("validation",),
    ("version", "lazy", "protocols", "files", "description"),
    ("plot", "group"),
    ("monitor",),
    ("schedules",),
    ("nn",),
    ("optims",),
    ("data",),
    ("metrics", "history", "events", "command"),
    ("progress",),
    ("callback",),
    ("saving",),
    ("training",),
    ("recording",),
    ("callbacks",),
    ("testing",),
    ("cli", "__main__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(HOUSE) for room in rooms}
MOST_MODULES = 16
# The one edge that points up: an event carries its run.
ALLOWED = {("events", "training.run")}


def modules() -> dict[str, Path]:
    """Return every module by its name within the package, the faces of packages left out."""
    found = {}
    for folder, prefix in ((ROOT / "lucid_train", ""), (ROOT / "callbacks", "callbacks.")):
        for path in sorted(folder.rglob("*.py")):
            if path.name != "__init__.py":
                found[prefix + ".".join(path.relative_to(folder).with_suffix("").parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield what a module imports of the package: a module of it, or the face of a folder as its name and a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == "lucid_train":
                inside = name.partition(".")[2]
                parent = inside.rpartition(".")[0]
                yield inside if inside in known else parent if parent in known else f"{parent}."


def edges() -> list[tuple[str, str]]:
    known = modules()
    return [(name, other) for name, path in known.items() for other in imported(path, known)]


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_imports_only_from_above_it() -> None:
    inside = {(one, other) for one, other in edges() if not other.endswith(".")}
    upwards = {(one, other) for one, other in inside if FLOOR[room(other)] > FLOOR[room(one)]}
    assert upwards == ALLOWED


def test_nobody_inside_imports_from_the_face_of_a_package() -> None:
    assert {(one, other) for one, other in edges() if other.endswith(".")} == set()


def test_there_is_no_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for one, other in edges():
        if (one, other) not in ALLOWED and not other.endswith("."):
            graph[one].add(other)
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_every_room_is_in_the_house_and_none_is_crowded() -> None:
    assert {room(name) for name in modules()} <= FLOOR.keys()
    sizes: dict[str, int] = {}
    for path in modules().values():
        folder = str(path.parent.relative_to(ROOT))
        sizes[folder] = sizes.get(folder, 0) + 1
    assert {folder for folder, size in sizes.items() if size > MOST_MODULES} == set()


def test_the_tests_stand_in_the_rooms_of_what_they_test() -> None:
    rooms = {name.rpartition(".")[0].replace(".", "/") or "." for name in modules()}
    tested = {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert tested - rooms == {"oracle", "parity"}
