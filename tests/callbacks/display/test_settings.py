import io
import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from rich.console import Console
from rich.theme import Theme

from lucid_train import Callback, EpochEnd
from lucid_train.callbacks import (
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    EventLog,
    ExponentialLRCallback,
    RichLogger,
    TimeLimit,
)
from lucid_train.callbacks.display import theme
from lucid_train.callbacks.display.summary import Entry, as_lines
from lucid_train.monitor import Monitor
from tests.support.console import SECONDS, Sink, pipe, shown, terminal, train


@pytest.mark.parametrize(
    ("rows", "bars", "expected"),
    [(True, False, (True, False)), (False, True, (False, True)), (False, False, (False, False))],
)
def test_rows_and_bars_are_switched_apart(rows: bool, bars: bool, expected: tuple[bool, bool]) -> None:
    console = terminal()
    train(RichLogger(console, rows=rows, bars=bars, header=False, summary=False))
    assert ("0.5833" in shown(console), "eta" in shown(console)) == expected
    assert ("\x1b" in shown(console)) is bars


class Judging(Callback):
    def monitored(self) -> Monitor:
        return Monitor("acc", "max")


@pytest.mark.parametrize(
    ("settings", "others", "expected"),
    [
        ({}, [], ["1", "2"]),
        ({"monitor": "acc", "mode": "max"}, [], ["1", "3"]),
        ({"monitor": "acc", "mode": "min"}, [], ["1", "2"]),
        ({}, [EarlyStopping("acc", mode="max")], ["1", "3"]),
        ({}, [EarlyStopping("loss", min_delta=0.3)], ["1"]),
        ({}, [Judging(), EarlyStopping("loss")], ["1", "3"]),
        ({"monitor": "loss"}, [Judging()], ["1", "2"]),
        ({"monitor": "unknown", "mode": "min"}, [], []),
    ],
)
def test_the_best_value_is_marked(settings: dict[str, Any], others: list[Callback], expected: list[str]) -> None:
    console = pipe()
    values = iter([(0.5, 0.5), (0.25, 0.4), (0.3, 0.9), (float("nan"), float("nan"))])
    logger = RichLogger(console, **settings)
    train(logger, *others, step=lambda _: dict(zip(("loss", "acc"), next(values), strict=True)), data=[1], epochs=4)
    marked = [line for line in shown(console).splitlines() if line.startswith("epoch") and "*" in line]
    assert [line.split()[1].removesuffix("/4") for line in marked] == expected
    if not expected:
        assert "best unknown: unknown is not among the metrics, loss, acc" in shown(console)


def test_the_header_says_what_is_better_for_whom() -> None:
    console = pipe()
    train(
        RichLogger(console),
        EarlyStopping("loss"),
        EarlyStopping("acc", mode="max"),
        step=lambda _: {"loss": 1, "acc": 1},
    )
    assert shown(console).splitlines()[1:4] == [
        "stopping after 5 epochs without a lower loss;",
        "  after 5 epochs without a higher acc",
        "best lowest loss (*)",
    ]


def test_the_header_says_what_is_saved_and_explains_the_star_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    others: list[Callback] = [
        Checkpoint("runs/digits", monitor="loss", weights=False),
        CSVLogger("epochs.csv"),
        EventLog("run.jsonl"),
        TimeLimit(3600),
        Judging(),
    ]
    console = pipe()
    train(RichLogger(console, monitor="loss", rows=False, summary=False), *others)
    assert shown(console).splitlines() == [
        "training 3 epochs of 3 steps, SGD",
        "saving runs/digits, every epoch; best by lowest loss (*)",
        "recording epochs.csv; run.jsonl",
        "stopping after 3600 s",
    ]
    assert [
        Checkpoint("a", **settings).describe()["saving"] for settings in ({"every": None}, {"interval": "step"})
    ] == [
        *("a, at the end", "a, every step"),
    ]
    assert Checkpoint("a", every=500, interval="step", monitor="f1", mode="max").describe() == {
        "saving": "a, every 500 steps; best by highest f1"
    }


def test_a_heartbeat_comes_in_long_epochs_only() -> None:
    console = pipe()
    logger = RichLogger(console, heartbeat=0.05, header=False, summary=False)
    began = time.monotonic()
    train(logger, step=lambda number: time.sleep(0.05 * number / 4), data=[1, 2, 4, 8, 16])
    most = (time.monotonic() - began) / 0.05
    lines = shown(console).splitlines()
    beats = [line for line in lines if "step " in line]
    assert [line.split()[1] for line in lines if line not in beats] == ["1/3", "2/3", "3/3"]
    assert 3 <= len(beats) <= most
    assert all(re.match(r"epoch [123]/3  step \d/5  [\d.]+ (steps/s|s/step)", beat) for beat in beats if "eta" in beat)
    console = pipe()
    train(RichLogger(console, heartbeat=60, header=False, summary=False))
    assert len(shown(console).splitlines()) == 3


@pytest.mark.parametrize("console", [pipe(), terminal()])
def test_a_logger_gets_the_same(console: Console, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(RichLogger(console, log="some.logger"))
    assert [record.name for record in caplog.records] == ["some.logger"] * 6
    lines = [SECONDS.sub("#", record.getMessage()) for record in caplog.records]
    assert lines[1] == "epoch 1/3  loss 0.5833*  acc[top5] 0.2333  lr 0.1000  #"
    assert lines[4] == "completed 3 epochs, 9 steps in # (#)"
    caplog.clear()
    with pytest.raises(ZeroDivisionError):
        train(RichLogger(console, log=logging.getLogger("another")), step=lambda number: 1 / 0)
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR", "ERROR"]


def test_what_is_not_shown_is_not_logged_either(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(RichLogger(pipe(), rows=False, log="some.logger"))
    assert [record.getMessage().split()[0] for record in caplog.records] == ["training", "completed", "best"]
    caplog.clear()
    train(RichLogger(pipe(), header=False, summary=False, log="some.logger"))
    assert [record.getMessage().split()[:2] for record in caplog.records] == [["epoch", f"{i}/3"] for i in (1, 2, 3)]


def test_the_seconds_of_each_hook_are_shown_on_request() -> None:
    @define(eq=False)
    class Slow(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            time.sleep(0.02)

    console = pipe()
    train(RichLogger(console, timings=True), Slow())
    _, _, found = shown(console).partition("\ncallbacks ")
    hooks = re.findall(r"(\w+)\.on_(\w+) ([\d.]+)(m?s)\b", found)
    seconds = [float(number) / {"s": 1, "ms": 1000}[unit] for *_, number, unit in hooks]
    assert seconds == sorted(seconds, reverse=True)
    assert {name for name, *_ in hooks} == {"Slow", "RichLogger"}
    assert seconds[[name for name, *_ in hooks].index("Slow")] >= 0.06


def test_styles_come_from_the_theme_or_the_console() -> None:
    def text(console: Console, theme: Theme | None) -> str:
        train(RichLogger(console, theme=theme, monitor="loss"))
        return shown(console)

    def console(theme: Theme | None = None) -> Console:
        return Console(file=Sink(), force_terminal=True, width=80, color_system="standard", theme=theme)

    magenta = Theme({"lucid.best": "magenta"})
    assert "\x1b[32m 0.5833" in text(console(), None)
    assert "\x1b[35m 0.5833" in text(console(), magenta)
    assert "\x1b[35m 0.5833" in text(console(magenta), None)
    assert "\x1b[34m 0.5833" in text(console(magenta), Theme({"lucid.best": "blue"}))


@pytest.mark.parametrize("force_terminal", [True, False, None])
def test_a_recording_has_the_rows_and_the_summary_once(force_terminal: bool | None) -> None:
    console = Console(record=True, width=90, file=io.StringIO(), force_terminal=force_terminal)
    train(RichLogger(console), ExponentialLRCallback(gamma=0.5), step=lambda number: time.sleep(0.03) or 0.5)
    picture, page, text = (
        console.export_svg(title="lucid_train", clear=False),
        console.export_html(clear=False),
        console.export_text(),
    )
    assert text.count("completed") == text.count(" epoch     loss") == 1
    assert "eta" not in text
    for export in (picture, page):
        assert "0.0250" in export.replace("&#160;", " ")
        assert "completed" in export


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"console": sys.stdout}, TypeError, "'console' must be a rich.console.Console"),
        ({"theme": {"a": "red"}}, TypeError, "'theme' must be a rich.theme.Theme"),
        ({"log": 3}, TypeError, "'log' must be a logging.Logger or a str: 3"),
        ({"monitor": ""}, TypeError, "'monitor' must be the name of a metric: ''"),
        ({"monitor": "f1"}, ValueError, "'mode' must be given, as 'f1' does not end in loss or accuracy"),
        ({"mode": "best"}, ValueError, "'mode' must be one of 'min', 'max': 'best'"),
        ({"bars": 1}, TypeError, "'bars' must be True or False: 1"),
        ({"refresh_per_second": 11}, ValueError, "'refresh_per_second' must be > 0 and <= 10: 11"),
        ({"refresh_per_second": 0}, ValueError, "'refresh_per_second' must be > 0 and <= 10: 0"),
        ({"heartbeat": -1}, ValueError, "'heartbeat' must be > 0: -1"),
    ],
)
def test_a_bad_argument_is_refused(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        RichLogger(**settings)


def test_the_repr_shows_the_settings() -> None:
    assert repr(RichLogger(monitor="loss")) == (
        "RichLogger(console=None, bars=True, rows=True, header=True, summary=True, monitor='loss', mode='min', "
        "metrics=None, columns=(DataWait(),), "
        "refresh_per_second=10, heartbeat=None, timings=False, log=None, theme=None)"
    )


def test_a_path_of_the_header_is_kept_whole_where_a_line_of_its_own_has_room_for_it() -> None:
    entries = [Entry("saving", "runs/of-thirty-characters-length, every epoch"), Entry("schedule", "none")]
    plain = theme.Theme.of(terminal(80), None)
    narrow, wide = ([text.plain.rstrip() for text in as_lines(entries, plain, width)] for width in (40, 80))
    assert narrow == ["saving", "  runs/of-thirty-characters-length,", "  every epoch", "schedule  none"]
    assert wide == [" saving    runs/of-thirty-characters-length, every epoch", " schedule  none"]
