"""Public names that are imported on first access (PEP 562)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_names(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package whose names are imported on first access.

    The names are those that its source imports under an alias, `from home import Name as Name`. It does so under
    `if TYPE_CHECKING`: to type checkers this form means that a name is public, and here it says where to find it.
    So the source must be installed, not only its bytecode.

    Args:
        package: The package's `__name__`.
    """
    module: Any = sys.modules[package]
    statements = ast.walk(ast.parse(module.__loader__.get_source(package)))
    imports = [each for each in statements if isinstance(each, ast.ImportFrom)]
    homes = {alias.asname: str(each.module) for each in imports for alias in each.names if alias.asname}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:
            return import_module(f"{package}.{name}")
        value = getattr(import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    # A star import must not replace the importer's own __version__.
    return load, lambda: sorted(homes), sorted(name for name in homes if not name.startswith("_"))
