"""Settings for all tests, and which of them need an extra."""

import gc
from collections.abc import Generator
from importlib.util import find_spec

import pytest
from hypothesis import settings

# Without deadlines, as a busy machine takes long now and then.
settings.register_profile("quick", deadline=None, max_examples=40)
settings.register_profile("whole", deadline=None)

collect_ignore = [] if find_spec("matplotlib") else ["test_plot.py", "schedules/test_plot.py"]


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("quick" if config.option.markexpr else "whole")  # before the tests are imported


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="let a test fail that would be skipped")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome, report.longrepr = "failed", f"skipped, where everything is installed: {report.longrepr}"
    return report


def pytest_collection_finish() -> None:
    gc.freeze()  # the tests themselves stay; walking through them at every gc.collect() takes a fifth of a second
