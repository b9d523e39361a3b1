"""What type checkers find in programs that are written on the library."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EVERYTHING, MISTAKES = (ROOT / f"tests/support/programs/{name}.py" for name in ("everything", "mistakes"))
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
WRONG = [number for number, line in enumerate(MISTAKES.read_text().splitlines(), 1) if line.endswith("# wrong")]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it is installed, its catalogue of callbacks in it."""
    folder = tmp_path_factory.mktemp("site")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lucid_train", folder / "lucid_train", ignore=ignored)
    shutil.copytree(ROOT / "callbacks", folder / "lucid_train" / "callbacks", ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def mypy(installed: Path) -> dict[str, list[tuple[int, str]]]:
    """What mypy finds, by file: the line of each error, and its text."""
    pytest.importorskip("mypy")
    pytest.importorskip("torch")
    settings = installed / "mypy.ini"
    # Some of PyTorch's methods are not annotated, backward() for one; transformers takes long to be read.
    settings.write_text(
        f"[mypy]\nstrict = True\nfollow_imports = silent\nuntyped_calls_exclude = torch\nmypy_path = {installed}\n"
        "[mypy-transformers.*]\nfollow_imports = skip\nignore_missing_imports = True\n"
        "[mypy-psutil.*,pynvml.*,schedulefree.*]\nfollow_imports = skip\nignore_missing_imports = True\n"
    )
    cache = ROOT / ".mypy_cache" / "programs"
    command = [
        "mypy",
        "--config-file",
        settings,
        "--cache-dir",
        cache,
        "--output",
        "json",
        EVERYTHING,
        MISTAKES,
        *EXAMPLES,
    ]
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], cwd=installed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, list[tuple[int, str]]] = {}
    for error in map(json.loads, done.stdout.splitlines()):
        found.setdefault(Path(error["file"]).name, []).append((error["line"], error["message"]))
    return found


@pytest.fixture(scope="module")
def pyright(installed: Path) -> dict[str, list[tuple[int, str]]]:
    """What pyright finds."""
    pytest.importorskip("basedpyright")
    pytest.importorskip("torch")
    # PyTorch's methods are annotated in part.
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(installed)], "reportUnknownMemberType": False}
    settings["include"] = [str(path) for path in (EVERYTHING, MISTAKES, *EXAMPLES)]
    (installed / "pyrightconfig.json").write_text(json.dumps(settings))
    command = ["basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(installed)]
    done = subprocess.run([sys.executable, "-m", *command], cwd=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, list[tuple[int, str]]] = {}
    for error in json.loads(done.stdout)["generalDiagnostics"]:
        place = error["range"]["start"]["line"] + 1
        found.setdefault(Path(error["file"]).name, []).append((place, error["message"]))
    return found


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("program", [EVERYTHING, *EXAMPLES], ids=lambda path: path.stem)
def test_a_strict_checker_finds_nothing_in_programs_that_are_right(
    program: Path, checker: str, request: pytest.FixtureRequest
) -> None:
    if program.name.startswith("transformers"):
        pytest.importorskip("transformers")
    assert request.getfixturevalue(checker).get(program.name, []) == []


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_it_finds_every_mistake_and_nothing_else(checker: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(checker)[MISTAKES.name]
    assert sorted({line for line, _ in found}) == WRONG, found


def test_what_it_says_of_a_hook_with_another_event_names_the_hook(
    mypy: dict[str, list[tuple[int, str]]], pyright: dict[str, list[tuple[int, str]]]
) -> None:
    line = WRONG[0]
    assert re.search('of "on_epoch_end" is incompatible with supertype', dict(mypy[MISTAKES.name])[line])
    assert 'Method "on_epoch_end" overrides class "Callback"' in dict(pyright[MISTAKES.name])[line]


def test_pyright_knows_the_type_of_every_public_symbol(installed: Path) -> None:
    pytest.importorskip("basedpyright")
    command = ["basedpyright", "--verifytypes", "lucid_train", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--pythonpath", sys.executable],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)["typeCompleteness"]
    assert Path(found["packageRootDirectory"]) == installed / "lucid_train"
    assert [symbol["name"] for symbol in found["symbols"] if not symbol["isTypeKnown"]] == []
    assert (found["completenessScore"], done.returncode) == (1, 0)


def test_the_program_that_is_right_runs_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    command = [sys.executable, "-W", "error", str(EVERYTHING), str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "completed: as planned, 3 epochs" in done.stdout
