"""Schedules written as expressions, read from a list of names and literals; nothing in them is evaluated as code."""

from __future__ import annotations

import ast
import inspect
import operator
import re
import warnings
from difflib import get_close_matches
from importlib import import_module
from math import inf, isfinite
from typing import Any, NoReturn, TypeGuard

from attrs import fields

from lucid_train.schedules.schedule import Schedule, Until

_METHODS = ("skip", "then", "until", "warmup")
# Far more than a schedule needs, and little enough to be read and built at once.
_MOST_CHARACTERS, _MOST_DEPTH, _LARGEST = 4000, 40, 10**15
# Of whole numbers above 1, higher powers are larger than that; and beyond reason to compute.
_HIGHEST_POWER = 50
_OPERATORS: dict[type[ast.operator], tuple[str, Any]] = {
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.Pow: ("**", operator.pow),
}
# What Python's reader does not say of the commonest slips: where they are, and the rule.
_SLIPS = (
    (re.compile(r"(?<![\w.'\"])\d+(\.\d+)? ?%(?!['\"])"), "a share of the run must stand in quotes, as in '5%'"),
    (re.compile(r"(?<=\d)\.(?=[a-z]\w*\()"), "a ')' must stand before '.'"),
)
# What an error shows of an expression on either side of the place, and of the place: a line of 80 columns at most.
_CONTEXT, _MOST_MARKED = 15, 40
_MARK = "..."


def names() -> dict[str, type[Schedule]]:
    """Return the schedules that can be written: all public ones but the base, and those that need a function."""
    schedules = import_module("lucid_train.schedules")
    kinds = {name: getattr(schedules, name) for name in schedules.__all__}
    return {name: kind for name, kind in kinds.items() if not inspect.isabstract(kind) and not _needs_function(kind)}


def signature(kind: type[Schedule]) -> str:
    """Return how a schedule is written, with its defaults."""
    known = inspect.signature(kind)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in known.parameters.values()]
    return f"{kind.__name__}{known.replace(parameters=plain, return_annotation=inspect.Signature.empty)}"


def _of_functions() -> list[str]:
    """Return the names of the public schedules that need a function."""
    schedules = import_module("lucid_train.schedules")
    kinds = [getattr(schedules, name) for name in schedules.__all__]
    return [kind.__name__ for kind in kinds if not inspect.isabstract(kind) and _needs_function(kind)]


def _needs_function(kind: type[Schedule]) -> bool:
    required = [name for name, each in inspect.signature(kind).parameters.items() if each.default is each.empty]
    return any("Callable" in str(each.type) for each in fields(kind) if each.name in required)


def parse(text: str) -> Schedule:
    """Return the schedule that an expression describes.

    It may consist of the schedules of `lucid_train.schedules`, their methods `skip`, `then`, `until` and `warmup`, `*`
    between two schedules, and numbers, texts, True, False, None, lists and tuples; between two numbers of `*`, `/` and
    `**`.

    Args:
        text: At most 4000 characters.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If it is anything else, or a schedule refuses its arguments. A note of the error shows the place.

    >>> parse("Linear(0, 1, 100).then(Cosine())")
    Linear(0.0, total_iters=100).then(Cosine())
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"an expression must be at most {_MOST_CHARACTERS} characters long: {len(text)}")
    text = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    if not text:
        raise ValueError("an expression must be a schedule, such as Cosine(): ''")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of an unknown escape in a text
            tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        start = max((error.offset or 1) - 1, 0)
        end = error.end_offset - 1 if error.end_offset and error.end_lineno == 1 else start
        message = error.msg
        for slip, rule in _SLIPS:
            if (found := slip.search(text)) is not None:
                (start, end), message = found.span(), rule
                break
        raise _at(text, start, end, ValueError(f"not an expression: {message}")) from None
    except (RecursionError, MemoryError):
        raise ValueError("an expression must not be nested so deeply") from None
    value = _Reader(text).read(tree.body, 0)
    if isinstance(value, Until):
        raise ValueError(f"a schedule must not end before the run; say what comes then: {text}.then(...)")
    if not isinstance(value, Schedule):
        raise ValueError(f"an expression must be a schedule, such as Cosine(): {text}")
    return value


def _at(text: str, start: int, end: int, error: TypeError | ValueError) -> TypeError | ValueError:
    """Return the error with a note that shows a part of the text and, below it, the place."""
    start = min(start, len(text))
    end = min(max(end, start + 1), start + _MOST_MARKED)
    is_short = len(text) <= _MOST_MARKED + 2 * _CONTEXT
    first, last = (0, len(text)) if is_short else (max(start - _CONTEXT, 0), end + _CONTEXT)
    before, after = _MARK * (first > 0), _MARK * (last < len(text))
    error.add_note(f"  {before}{text[first:last]}{after}")
    error.add_note(f"  {' ' * (len(before) + start - first)}{'^' * (end - start)}")
    return error


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float)


class _Reader:
    """Reads the syntax tree of one expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names = names()

    def refuse(self, node: Any, message: str) -> NoReturn:
        raise self.placed(node, ValueError(message))

    def placed(self, node: Any, error: TypeError | ValueError) -> TypeError | ValueError:
        # Python counts the columns of a tree in bytes.
        line = self.text.encode()
        start, end = (len(line[:column].decode()) for column in (node.col_offset, node.end_col_offset))
        return _at(self.text, start, end, error)

    def read(self, node: ast.expr, depth: int) -> Any:
        if depth > _MOST_DEPTH:
            self.refuse(node, f"an expression must not be nested more than {_MOST_DEPTH} deep")
        match node:
            case ast.Constant(value=bool() | None | str()):
                return node.value
            case ast.Constant(value=int() | float() as value):
                return self.number(node, value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self.read(operand, depth + 1)
                if not _is_number(value):
                    self.refuse(node, "'-' must stand before a number")
                return self.number(node, -value)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.read(item, depth + 1) for item in items]
            case ast.BinOp(left=left, op=ast.Mult() | ast.Div() | ast.Pow() as sign, right=right):
                one, other = self.read(left, depth + 1), self.read(right, depth + 1)
                if _is_number(one) and _is_number(other):
                    return self.computed(node, one, type(sign), other)
                if isinstance(sign, ast.Mult) and isinstance(one, Schedule) and isinstance(other, Schedule):
                    return self.call(node, one.__mul__, [other], {})
                if isinstance(sign, ast.Mult):
                    self.refuse(node, "'*' must stand between two schedules, such as Constant(0.5), or two numbers")
                self.refuse(node, f"'{_OPERATORS[type(sign)][0]}' must stand between two numbers")
            case ast.Call(func=ast.Name(id=name)):
                if name not in self.names:
                    self.unknown_schedule(node.func, name)
                return self.call(node, self.names[name], *self.arguments(node, depth))
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module) as owner, attr=name)) if (
                module not in self.names
            ):
                if name in self.names:
                    self.refuse(node.func, f"a schedule must be written without a module: {name}(...)")
                self.unknown_schedule(owner, module)
            case ast.Call(func=ast.Attribute(value=value, attr=name)):
                schedule = self.read(value, depth + 1)
                if not isinstance(schedule, (Schedule, Until)):
                    self.refuse(value, f"'.{name}' must follow a schedule")
                if name not in _METHODS or not hasattr(schedule, name):
                    known = [each for each in _METHODS if hasattr(schedule, each)]
                    self.unknown(node, name, f"what may follow {type(schedule).__name__}(...)", known)
                return self.call(node, getattr(schedule, name), *self.arguments(node, depth))
            case ast.Name(id=name):
                if name in self.names:
                    self.refuse(node, f"'{name}' must be called: {name}(...)")
                self.unknown_schedule(node, name)
            case _:
                self.refuse(
                    node,
                    "an expression must consist of schedules, skip, then, until, warmup, *, numbers, texts and lists",
                )

    def number(self, node: ast.expr, value: float) -> float:
        if isinstance(value, int) and abs(value) > _LARGEST:
            self.refuse(node, f"a whole number must be at most {_LARGEST:.0e}")
        return value

    def computed(self, node: ast.expr, one: float, sign: type[ast.operator], other: float) -> float:
        """Return what an operator makes of two numbers, or refuse what is no number, or would be too large."""
        if sign is ast.Pow and isinstance(one, int) and isinstance(other, int) and other > _HIGHEST_POWER:
            self.refuse(node, f"a power of a whole number must be at most {_HIGHEST_POWER}")
        symbol, function = _OPERATORS[sign]
        try:
            value = function(one, other)
        except ZeroDivisionError:
            self.refuse(node, f"'{symbol}' must not divide by 0")
        except OverflowError:
            value = inf
        if not _is_number(value) or not isfinite(value):  # a power may be complex
            self.refuse(node, f"'{symbol}' must give a number that is finite: {value:.3g}")
        return self.number(node, value)

    def unknown_schedule(self, node: ast.expr, name: str) -> NoReturn:
        if name in _METHODS:
            self.refuse(node, f"'{name}' must follow a schedule, as in Cosine().{name}(...)")
        if name in _of_functions():
            self.refuse(node, f"'{name}' cannot be written here, as it needs a function; in Python, it has plot()")
        # As PyTorch's names and Keras's, "CosineAnnealingLR" or "CosineDecay", have ours in them.
        within = [each for each in self.names if len(each) > 3 and each.lower() in name.lower()]
        if within:
            self.refuse(node, f"{name!r:.60} is not a schedule; did you mean {max(within, key=len)}?")
        self.unknown(node, name, "a schedule", list(self.names))

    def unknown(self, node: ast.expr, name: str, what: str, known: list[str]) -> NoReturn:
        near = get_close_matches(name.lower(), [each.lower() for each in known], n=1)
        match = [each for each in known if [each.lower()] == near]
        cure = f"; did you mean {match[0]}?" if match else f"; there are {', '.join(known)}"
        self.refuse(node, f"{name!r:.60} is not {what}{cure}")

    def arguments(self, node: ast.Call, depth: int) -> tuple[list[Any], dict[str, Any]]:
        named = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self.refuse(keyword.value, "arguments must be written out, without **")
            if keyword.arg in named:
                self.refuse(keyword.value, f"{keyword.arg!r} must be given once")
            named[keyword.arg] = self.read(keyword.value, depth + 1)
        return [self.read(each, depth + 1) for each in node.args], named

    def call(self, node: ast.expr, function: Any, given: list[Any], named: dict[str, Any]) -> Any:
        try:
            inspect.signature(function).bind(*given, **named)
        except TypeError as error:
            accepted = list(inspect.signature(function).parameters)
            wrong = [name for name in named if name not in accepted]
            near = get_close_matches(wrong[0], accepted, n=1, cutoff=0.5) if wrong else []
            cure = f"; did you mean {near[0]}?" if near else ""
            plain = f"{function.__name__}({', '.join(accepted)})"
            written = signature(function) if isinstance(function, type) else plain
            raise self.placed(node, TypeError(f"{written}: {error}{cure}")) from None
        try:
            return function(*given, **named)
        except (TypeError, ValueError) as error:
            raise self.placed(node, error) from None
