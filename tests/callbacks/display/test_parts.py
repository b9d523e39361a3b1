"""The parts that RichLogger is made of."""

import io
import math
import os
import re
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from lucid_train import EpochRecord, EvaluationRecord, Run
from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.bars import Bars
from lucid_train.callbacks.display.formatting import flow
from lucid_train.callbacks.display.outputs import Output
from lucid_train.callbacks.display.table import Record, Table, line
from lucid_train.callbacks.display.terminal.screen import Screen
from lucid_train.callbacks.display.terminal.streams import StreamProxy
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.callbacks.display.ticker import Ticker
from lucid_train.progress import Progress
from tests.support.waiting import until

numbers = st.floats(allow_nan=True, allow_infinity=True)


def theme(encoding: str = "utf-8") -> Theme:
    return Theme.of(Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=80), None)


@given(st.floats(min_value=1e-300, max_value=1e3))
@example(1.0005)
@example(1.234567e-300)
@example(999.95)
def test_a_rate_is_never_a_wrong_zero_and_fits_its_column(value: float) -> None:
    text = formatting.rate(value)
    assert len(text) <= formatting.RATE_WIDTH
    assert float(text) == pytest.approx(value, rel=5.0001e-4)
    assert float(text) > 0


@given(st.floats(min_value=1e-300, max_value=1e3), st.floats(min_value=1e-300, max_value=1e3))
@example(0.1, 0.0999999)
@example(0.1, math.nextafter(0.1, 0))
def test_a_change_of_the_rate_is_always_to_be_seen(used: float, following: float) -> None:
    before, after = formatting.rates_and_next([used], [following])
    assert (after != "") is (used != following)
    assert max(len(before), len(after)) <= formatting.RATE_WIDTH


@given(numbers)
@example(-99999.4999)
@example(-1e-100)
@example(9999.99996)
def test_a_metric_fits_its_column(value: float) -> None:
    text = formatting.metric(value)
    assert len(text) <= formatting.METRIC_WIDTH
    if 0 < abs(value) < 1e99:
        assert abs(float(text) - value) <= max(5.1e-5, 0.06 * abs(value))


@given(st.floats(min_value=0, max_value=9.9e5))
def test_a_time_fits_its_column(value: float) -> None:
    assert len(formatting.seconds(value)) <= formatting.SECONDS_WIDTH


@given(st.lists(numbers, max_size=50), st.integers(min_value=0, max_value=20), st.booleans())
@example([1.7e308, -1.7e308], 2, True)
@example([0.0, 0.0, *[sys.float_info.max] * 3], 2, False)
@example([5e-324, 0.0], 2, False)
def test_a_curve_has_one_line_and_its_width(values: Sequence[float], width: int, ascii_only: bool) -> None:
    drawn = formatting.curve(values, width, ascii_only=ascii_only)
    known = any(map(math.isfinite, values))
    assert len(drawn) == (min(width, len(values)) if known else 0)
    assert not ascii_only or drawn.isascii()


@given(st.text())
def test_clean_text_is_one_line_of_what_the_stream_can_hold(text: str) -> None:
    for encoding in ("ascii", "cp1252", "utf-8"):
        clean = formatting.clean(text, encoding)
        assert clean.isprintable()
        assert len(clean.splitlines()) <= 1
        clean.encode(encoding)


@given(st.lists(st.text(alphabet="ab λ字", max_size=30), max_size=8), st.integers(min_value=3, max_value=60))
def test_flowing_text_fits_and_loses_nothing(parts: list[str], width: int) -> None:
    shown = theme()
    lines = flow([shown.text(part) for part in parts], width, indent=1)
    assert all(text.cell_len <= width for text in lines)
    assert re.sub(" ", "", "".join(text.plain for text in lines)) == re.sub(" ", "", "".join(parts))


common: dict[str, Any] = {
    "epoch": st.integers(min_value=1, max_value=10**6),
    "seconds": st.floats(min_value=0, max_value=1e6),
    "metrics": st.dictionaries(st.text(min_size=1, max_size=12), numbers, max_size=5),
}
rates = st.lists(st.floats(min_value=0, max_value=1e3), min_size=1, max_size=5).map(tuple)
epochs = st.builds(EpochRecord, **common, lr=rates, last_lr=rates)
evaluations = st.builds(EvaluationRecord, **common, step=st.integers(min_value=0, max_value=10**9))


@settings(max_examples=60)
@given(st.lists(epochs | evaluations, min_size=1, max_size=4), st.sampled_from([20, 40, 80, 200]))
def test_rows_fit_the_screen_and_say_what_the_line_says(records: list[Record], width: int) -> None:
    for encoding in ("ascii", "utf-8"):
        table = Table(theme(encoding))
        for record in records:
            best = next(iter(record.metrics), None)
            text = table.lines(record, 10**6, best, width)
            assert all(row.cell_len <= width for row in text)
            together = re.sub(r"\s", "", "".join(row.plain for row in text))
            whole = line(record, 10**6, best)
            said = [formatting.metric(value) for value in record.metrics.values()]
            if isinstance(record, EpochRecord):
                rates = filter(None, formatting.rates_and_next(record.lr, record.last_lr))
                said += [" -> ".join(rates), formatting.seconds(record.seconds)]
            else:
                said.append(f"step {record.step}")
            for each in said:
                assert re.sub(r"\s", "", each) in together
                assert each in whole


def test_evaluations_within_an_epoch_have_rows_of_their_own_among_those_of_the_epochs() -> None:
    table = Table(theme())
    records: list[Record] = [
        EvaluationRecord(epoch=1, step=50, metrics={"val_loss": 0.5}),
        EvaluationRecord(epoch=1, step=100, metrics={"val_loss": 0.25}),
        EpochRecord(epoch=1, seconds=1.2, metrics={"loss": 0.75}, lr=(0.1,), last_lr=(0.05,)),
        EvaluationRecord(epoch=2, step=150, metrics={"val_loss": 0.375}),
    ]
    lines = [text.plain for each in records for text in table.lines(each, 9, max(each.metrics), 80)]
    assert lines == [
        " epoch  val_loss          time",
        "     1    0.5000*      step 50",
        "     1    0.2500*     step 100",
        " epoch      loss  val_loss          lr                        time",
        "     1    0.7500*                  0.1 -> 0.05               1.20s",
        "     2              0.3750*                               step 150",
    ]
    assert [text.plain for text in table.lines(records[1], 9, None, 20)] == ["epoch 1  step 100", " val_loss   0.2500"]


def in_epoch(epoch: int, step: int, steps: int | None = 10) -> Progress:
    """Return the progress of a run that has done some steps of an epoch, and no epoch before it."""
    progress = Progress(steps_per_epoch=steps)
    progress.open_epoch()
    progress.epoch, progress.step = epoch, step
    return progress


class TimedRun(Run):
    """A run whose clock is set by hand."""

    now = 0.0

    def clock(self) -> float:
        return self.now


def test_what_is_left_counts_steps_and_evaluations() -> None:
    progress = Progress(steps_per_epoch=10)
    run = TimedRun(epochs=4, evaluate_every=2, progress=progress)
    throughput = Throughput(run)
    assert throughput.remaining is None
    progress.open_epoch()
    progress.epoch, progress.step, run.now = 1, 5, 5.0
    assert throughput.remaining == pytest.approx(35.0)
    finish(run, progress, throughput, EpochRecord(epoch=1, steps=10, seconds=10.0))
    run.now = 20.0
    throughput.start_evaluation()
    run.now = 26.0
    assert throughput.evaluating == 6.0
    throughput.end_evaluation()
    finish(run, progress, throughput, EpochRecord(epoch=2, steps=10, seconds=16.0))
    assert throughput.remaining == pytest.approx(20.0 + 6.0)
    assert throughput.steps_per_second == pytest.approx(1.0)
    assert throughput.elapsed == pytest.approx(26.0)


def finish(run: TimedRun, progress: Progress, throughput: Throughput, record: EpochRecord) -> None:
    """Finish an epoch, as long as its record says."""
    progress.epoch, progress.step = record.epoch, progress.step + record.steps
    progress.close_epoch(record)
    run.now = sum(each.seconds for each in run.history)
    throughput.end_epoch(record)


def test_what_is_left_counts_evaluations_within_epochs() -> None:
    progress = in_epoch(1, 0, steps=30)
    run = TimedRun(epochs=2, evaluate_every=None, evaluate_steps=15, progress=progress)
    throughput = Throughput(run)
    progress.step, run.now = 15, 15.0
    throughput.start_evaluation()
    run.now = 17.0
    throughput.end_evaluation()
    assert throughput.remaining == pytest.approx(45.0 + 3 * 2.0)
    progress.step, run.now = 30, 32.0
    throughput.start_evaluation()
    run.now = 32.5
    assert throughput.remaining == pytest.approx(30.0 + 1.5 + 2 * 2.0)


def test_an_estimate_forgets_the_first_epochs() -> None:
    progress = Progress(steps_per_epoch=10)
    run = TimedRun(epochs=17, progress=progress)
    throughput = Throughput(run)
    for number in range(1, 8):
        finish(run, progress, throughput, EpochRecord(epoch=number, steps=10, seconds=1000.0 if number == 1 else 1.0))
    assert throughput.remaining == pytest.approx(10.0)


@pytest.mark.parametrize("width", [1, 5, 20, 39, 59, 79, 199])
@pytest.mark.parametrize("steps", [None, 10, 10**6])
def test_the_bars_fit_and_never_change_their_height(width: int, steps: int | None) -> None:
    progress = in_epoch(1, 0, steps)
    bars = Bars(Throughput(Run(epochs=100, progress=progress)), theme())
    heights = set()
    for progress.step in (0, 1, 5, 10**6):
        lines = bars.lines(width)
        assert all(text.cell_len <= width for text in lines)
        heights.add(len(lines))
    assert heights == {2}


def test_the_bars_stand_one_below_the_other() -> None:
    bars = Bars(Throughput(Run(epochs=100, progress=in_epoch(7, 5))), theme())
    for width in (40, 79, 199):
        first, second = (text.plain for text in bars.lines(width))
        assert re.search("[━─]+", first).span() == re.search("[━─]+", second).span()  # type: ignore[union-attr]  # found


def test_a_proxy_of_a_stream_is_that_stream() -> None:
    class Above:
        console = Console(file=io.StringIO())
        live = True

        def __init__(self) -> None:
            self.printed: list[str] = []

        def print_above(self, text: str) -> None:
            self.printed.append(text)

    display = Above()
    original = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    stream = StreamProxy(original, display)
    assert (stream.encoding, stream.isatty(), stream.buffer) == ("ascii", False, original.buffer)
    assert stream.write("one\ntwo\nthr") == 11
    assert stream.unfinished == "thr"
    stream.flush()
    stream.writelines(["ee", "\n", "10%\r20%"])
    assert stream.unfinished == "20%"
    assert display.printed == ["one\ntwo", "three"]
    with pytest.raises(UnicodeEncodeError):
        stream.write("λ")
    display.live = False
    stream.write("past it\n")
    stream.retire()
    stream.write("for good")
    original.flush()
    assert original.buffer.getvalue() == b"past it\n10%\r20%for good"  # type: ignore[attr-defined]  # it is a BytesIO
    with pytest.raises(AttributeError):
        _ = StreamProxy.__new__(StreamProxy).original


def test_lines_of_many_threads_stay_whole_and_in_order() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    screen = Screen(console, "moving", 0.01, int)
    screen.open()
    stream = StreamProxy(io.StringIO(), screen)

    def talk(name: int) -> None:
        for number in range(100):
            print("thread", name, "says", number, file=stream)  # type: ignore[call-overload]  # it has what print needs

    threads = [threading.Thread(target=talk, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        console.print("printed", number)
    for thread in threads:
        thread.join()
    screen.close()
    text = re.sub(r"\x1b\[[\d?]*[A-Za-z]|\r", "", console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO
    text = text.replace("moving", "")
    for name in range(4):
        assert re.findall(rf"^thread {name} says (\d+)$", text, re.MULTILINE) == [str(number) for number in range(100)]
    assert re.findall(r"^printed (\d+)$", text, re.MULTILINE) == [str(number) for number in range(50)]


def test_an_output_survives_what_cannot_be_written_and_nothing_else() -> None:
    output = Output(Console(file=io.StringIO()))
    for number in (1, 2):
        output.attempt(lambda number=number: os.close(-number))
    assert isinstance(output.error, OSError)
    first = output.error
    output.attempt(lambda: io.StringIO().read(1).index("x"))
    assert output.error is first, "the first error is kept"
    with pytest.raises(SystemExit, match="3"):
        output.attempt(lambda: sys.exit(3))
    with pytest.raises(ZeroDivisionError):
        output.attempt(lambda: 1 / 0)


def test_a_screen_whose_picture_cannot_be_drawn_says_so_and_goes_on() -> None:
    class Bad:
        def __rich_console__(self, console: Any, options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                raise ZeroDivisionError("bad picture")
            yield "picture"

    file = io.StringIO()
    screen = Screen(Console(file=file, force_terminal=True, width=80), Bad(), 0.01, int)
    screen.open()
    until(lambda: screen.error)
    screen.put([Text("a row")])
    screen.close()
    assert isinstance(screen.error, ZeroDivisionError)
    assert "a row" in file.getvalue()


def test_a_ticker_ticks_until_it_is_stopped() -> None:
    ticks: list[int] = []
    ticker = Ticker(0.005, lambda: ticks.append(1))
    ticker.stop()
    ticker = Ticker(0.005, lambda: ticks.append(1))
    assert not ticker.alive
    ticker.start()
    assert ticker.alive
    until(lambda: len(ticks) >= 3)
    ticker.stop()
    assert not ticker.alive
    assert [thread for thread in threading.enumerate() if "lucid" in thread.name] == []
