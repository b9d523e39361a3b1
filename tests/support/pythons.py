"""The tests on other Pythons, and with the lowest and the newest packages that the library depends on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# What is installed with the library, by the lowest version that it allows.
LOWEST = dict(dependency.split(">=") for dependency in PROJECT["dependencies"])
OLDEST = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))


@frozen
class Trial:
    """An environment in which all tests are run that need no extra and are not slow.

    Args:
        python: The interpreter.
        version: Its version, as in (3, 13, 0).
        lowest: Whether the packages are the lowest that are allowed, not the newest.
    """

    python: Path
    version: tuple[int, ...]
    lowest: bool

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))}, {'lowest' if self.lowest else 'newest'}"

    def run(self, folder: Path) -> tuple[str, str | None]:
        """Make the environment and run the tests in a copy of the checkout.

        Returns:
            A row for the table, and what pytest or pip printed if not all went well.
        """
        copy, bin = folder / "checkout", folder / "environment" / "bin"
        generated = shutil.ignore_patterns(".*_cache", ".hypothesis", ".venv", ".git", "*.egg-info", "build", "dist")
        shutil.copytree(ROOT, copy, ignore=generated)
        rules = folder / "constraints.txt"
        rules.write_text("".join(f"{name}=={version}\n" for name, version in LOWEST.items() if self.lowest))
        commands = (
            [self.python, "-m", "venv", bin.parent],
            [bin / "pip", "install", "--quiet", "--constraint", rules, ".[test]"],
            [bin / "python", "-m", "pytest", "--quiet", "-n", "1", "-p", "no:cacheprovider"],
            [bin / "python", "-c", f"from importlib.metadata import version as v; print(*map(v, {[*LOWEST]}))"],
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        printed = []
        for command in commands:
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                return (
                    f"{self}: failed",
                    f"{self}: {' '.join(map(str, command))}\n{(done.stdout + done.stderr)[-5000:]}",
                )
            printed.append(done.stdout.splitlines()[-1] if done.stdout else "")
        _, _, result, versions = printed
        packages = ", ".join(" ".join(each) for each in zip(LOWEST, versions.split(), strict=True))
        return f"{self} ({packages}): {result}", None


def trials() -> list[Trial]:
    """Return one of the oldest Python with the lowest packages, if it is found, and one of each with the newest.

    Pythons are looked for in the paths of the variable PYTHONS, on PATH and in pyenv's folder; of one minor version the
    first counts.
    """
    given = [Path(path) for path in os.environ.get("PYTHONS", "").split(os.pathsep) if path]
    on_path = [path for folder in os.get_exec_path() for path in sorted(Path(folder).glob("python3.[0-9][0-9]"))]
    versions = (Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions").glob("3.*/bin/python3")
    found: dict[tuple[int, ...], Trial] = {}
    for python in (*given, *on_path, *sorted(versions)):
        version = _version(python)
        if version is not None and version[:2] >= OLDEST:
            found.setdefault(version[:2], Trial(python, version, lowest=False))
    lowest = [evolve(found[OLDEST], lowest=True)] if OLDEST in found else []  # a later one has no wheel of that numpy
    return lowest + [found[minor] for minor in sorted(found)]


def _version(python: Path) -> tuple[int, ...] | None:
    """Return the version of an interpreter; None if it does not run, as one that pyenv has not activated."""
    done = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
    match = re.fullmatch(r"Python (\d+)\.(\d+)\.(\d+)\s*", done.stdout)
    return None if done.returncode or match is None else tuple(map(int, match.groups()))
