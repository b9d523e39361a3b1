"""Settings for all tests, and which of them need an extra."""

import gc
import shutil
import signal
import sys
from collections.abc import Generator
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis.strategies import none

# Without deadlines, as a busy machine takes long now and then. The same examples each time, so that what fails is what
# has been changed; `--random` draws others, which the soak does.
settings.register_profile("quick", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("whole", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, derandomize=False)

collect_ignore = [] if find_spec("matplotlib") else ["test_plot.py", "schedules/test_plot.py"]


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    profile = "random" if config.option.random else "quick" if config.option.markexpr else "whole"
    settings.load_profile(profile)  # before the tests are imported


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Python issue 113964: 3.12.0 and 3.12.1 start no thread once the main one has ended.
    possible = {"mpi": shutil.which("mpirun"), "late_threads": not (3, 12) <= sys.version_info < (3, 12, 2)}
    missing = [] if config.option.no_skips else [mark for mark, is_possible in possible.items() if not is_possible]
    left_out = [item for item in items if any(map(item.get_closest_marker, missing))]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="let a test fail that would be skipped")
    parser.addoption("--random", action="store_true", help="draw other examples each time")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome, report.longrepr = "failed", f"skipped, where everything is installed: {report.longrepr}"
    return report


@given(none())
def draw(nothing: None) -> None:
    """Let Hypothesis make its random generator, and look for who holds it, before objects are frozen and not found."""


def pytest_collection_finish() -> None:
    draw()
    gc.freeze()  # the tests themselves stay; walking through them at every gc.collect() takes a fifth of a second
