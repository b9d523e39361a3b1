"""The pages of docs/coming_from: the two programs of each, and the names in its table."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import keyword
import re
import typing
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import attrs
from attrs import frozen

from tests.support.pages import DOCS

# What a table calls the objects of a program, by what they are.
OURS = {
    "checkpoint": "lucid_train.callbacks.Checkpoint",
    "history": "lucid_train.History",
    "record": "lucid_train.EpochRecord",
    "run": "lucid_train.Run",
    "trainer": "lucid_train.Trainer",
    "torch": "torch",
}
MODULES = (
    "lucid_train",
    "lucid_train.callbacks",
    "lucid_train.data",
    "lucid_train.optims.lr_scheduler",
    "lucid_train.testing",
)
_ANYTHING = object()


class UnknownName(Exception):
    pass


@frozen
class Page:
    """A page.

    Args:
        name: Its name, without the suffix.
        roots: Where names in the column of the other framework are looked for: objects, and mappings of what a table
            calls objects of a program, by what they are.
    """

    name: str
    roots: Iterable[Any] = ()

    @property
    def text(self) -> str:
        return (DOCS / "coming_from" / f"{self.name}.md").read_text()

    def run(self, side: str) -> dict[str, Any]:
        """Run the program under a heading, "There" or "Here", and return the names that it defines."""
        [block] = re.findall(rf"^### {side}\n.*?^```python\n(.*?)^```$", self.text, flags=re.M | re.S)
        names: dict[str, Any] = {"__name__": "page"}
        exec(compile(block, f"{self.name}.md, {side}", "exec"), names)  # the project's own documentation
        return names

    def rows(self) -> list[list[str]]:
        """Return the rows of the first table, without its head."""
        table = re.findall(r"(?:^\|.*\n)+", self.text, flags=re.M)[0]
        cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|\n"))] for line in table.splitlines()]
        return [row for row in cells[2:] if len(row) == 2]

    def unknown_there(self) -> list[str]:
        """Return what is written as code in the column of the other framework and is not in it."""
        return unknown((row[0] for row in self.rows()), self.roots)

    def unknown_here(self) -> list[str]:
        """Return what is written as code in our column and is not in lucid_train."""
        return unknown((row[1] for row in self.rows()), ours())


def _object(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name) if module else importlib.import_module(path)


def ours() -> list[Any]:
    """Return where names in our column are looked for: what is public, hooks included."""
    objects = {name: _object(path) for name, path in OURS.items()}
    modules = map(importlib.import_module, MODULES)
    public = [{name: getattr(module, name) for name in module.__all__} for module in modules]
    return [objects, *public, _object("lucid_train.Callback")]


def unknown(cells: Iterable[str], roots: Iterable[Any]) -> list[str]:
    """Return the pieces of code in these cells that name what is not in the roots, each with why."""
    return [each for cell in cells for code in re.findall("`(.+?)`", cell) for each in _unknown(code, [*roots])]


def _unknown(code: str, roots: list[Any]) -> Iterator[str]:
    if keyword.iskeyword(code):
        return
    try:
        resolve(ast.parse(code.removeprefix("@"), mode="eval").body, roots)
    except (SyntaxError, UnknownName) as error:
        yield f"{code}: {error}"


@functools.singledispatch
def resolve(node: ast.expr, roots: list[Any]) -> Any:
    """Return what an expression names: an object, the class of an instance, or anything."""
    return _ANYTHING


@resolve.register
def _(node: ast.Name, roots: list[Any]) -> Any:
    for root in [*roots, builtins]:
        if isinstance(root, dict):
            if node.id in root:
                return root[node.id]
        elif (found := member(root, node.id)) is not None:
            return found
    raise UnknownName(f"no {node.id}")


@resolve.register
def _(node: ast.Attribute, roots: list[Any]) -> Any:
    owner = resolve(node.value, roots)
    if owner is _ANYTHING:
        return _ANYTHING
    if (found := member(owner, node.attr)) is None:
        raise UnknownName(f"{owner!r} has no {node.attr}")
    return found


@resolve.register
def _(node: ast.Call, roots: list[Any]) -> Any:
    called = resolve(node.func, roots)
    for argument in [*node.args, *(each.value for each in node.keywords)]:
        # A name in lower case is the program's own.
        if not isinstance(argument, ast.Name) or argument.id[0].isupper():
            resolve(argument, roots)
    if called is _ANYTHING:
        return _ANYTHING
    try:
        parameters = inspect.signature(called).parameters.values()
    except ValueError:  # one of C, which does not say
        return _ANYTHING
    given = {each.arg for each in node.keywords} - {each.name for each in parameters}
    if given and not any(each.kind is each.VAR_KEYWORD for each in parameters):
        raise UnknownName(f"{called!r} takes no {', '.join(map(str, given))}")
    if isinstance(called, type):
        return called
    try:
        found = typing.get_type_hints(called).get("return")
    except (NameError, TypeError):
        return _ANYTHING
    return found if isinstance(found, type) else _ANYTHING


def member(owner: Any, name: str) -> Any:
    """Return what an object, or an instance of a class, has under a name; None if it has nothing."""
    if hasattr(owner, name):
        found = getattr(owner, name)
        return _ANYTHING if found is None or isinstance(found, property) else found
    if isinstance(owner, ModuleType):
        with suppress(ImportError):
            return importlib.import_module(f"{owner.__name__}.{name}")
    classes = inspect.getmro(owner) if isinstance(owner, type) else ()
    annotated = any(name in inspect.get_annotations(each) for each in classes)
    declared = isinstance(owner, type) and attrs.has(owner) and name in attrs.fields_dict(owner)
    return _ANYTHING if annotated or declared else None


def flat(model: Any) -> list[float]:
    """Return the weights of a PyTorch model, one after another."""
    return [value for each in model.parameters() for value in each.detach().double().flatten().tolist()]
