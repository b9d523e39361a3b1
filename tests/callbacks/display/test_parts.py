"""The parts that RichLogger is made of."""

import io
import math
import os
import re
import sys
import threading
from collections.abc import Sequence
from itertools import groupby
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from lucid_train import EpochRecord, EvaluationRecord, Run
from lucid_train.callbacks.display import formatting
from lucid_train.callbacks.display.bars import Bars
from lucid_train.callbacks.display.formatting import Numbers, flow
from lucid_train.callbacks.display.outputs import Output
from lucid_train.callbacks.display.table import Record, Table, line
from lucid_train.callbacks.display.terminal.screen import Screen
from lucid_train.callbacks.display.terminal.streams import StreamProxy
from lucid_train.callbacks.display.theme import Theme
from lucid_train.callbacks.display.throughput import Throughput
from lucid_train.callbacks.display.ticker import Ticker
from lucid_train.progress import Progress
from lucid_train.training.dispatch import Dispatcher
from lucid_train.training.run import Control
from tests.support.waiting import until

numbers = st.floats(allow_nan=True, allow_infinity=True)


def theme(encoding: str = "utf-8") -> Theme:
    return Theme.of(Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=80), None)


@given(numbers, st.integers(min_value=-1, max_value=6))
@example(-99999.4999, 4)
@example(-1.234e-300, 4)
@example(9999.99996, 4)
@example(5e-324, -1)
def test_a_number_fits_its_column_and_is_never_a_wrong_zero(value: float, decimals: int) -> None:
    text = formatting.number(value, decimals)
    assert len(text) <= formatting.NUMBER_WIDTH
    if abs(value) < 1e300:
        assert (float(text) == 0) is (value == 0)
        assert abs(float(text) - value) <= max(0.51 * 10.0**-decimals * (decimals >= 0), 0.51 * abs(value))


@given(st.lists(st.floats(min_value=1e-12, max_value=1e6), min_size=1, max_size=20))
@example([0.001, 7.88e-4])
@example([10.0, 0.5, 0.0001])
def test_a_column_of_metrics_keeps_two_digits_and_changes_its_format_seldom(values: list[float]) -> None:
    table = Numbers()
    formats = []
    for value in values:
        assert float(table.metric("loss", value)) == pytest.approx(value, rel=0.053)
        formats.append(table.formats)
    assert len(dict.fromkeys(formats)) <= 4
    assert len(formats) - len(list(groupby(formats))) == len(formats) - len(dict.fromkeys(formats)), "none comes back"


def test_a_column_of_rates_has_one_format_from_the_base_to_zero() -> None:
    table = Numbers()
    table.expect_rates([0.05])
    assert [table.rates([rate]) for rate in (0.05, 0.0492, 0.0003, 1.4e-8, 0.0)] == [
        *("0.0500", "0.0492", "0.0003", "~0", "0"),
    ]
    table.expect_rates([3e-4])
    assert [table.rates([rate]) for rate in (0.0, 3e-4, 2.95e-4, 1e-6)] == ["0", "3.00e-4", "2.95e-4", "1.00e-6"]
    table.expect_rates([0.001])
    assert [table.rates([rate, rate]) for rate in (0.001, 0.00098)] == ["0.00100", "0.00098"]


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
        shown = Numbers()
        table = Table(theme(encoding), shown)
        for record in records:
            best = next(iter(record.metrics), None)
            text = table.lines(record, 10**6, best, True, width)
            assert all(row.cell_len <= width for row in text)
            together = re.sub(r"\s", "", "".join(row.plain for row in text))
            whole = line(record, 10**6, best, shown)
            said = [shown.metric(name, value) for name, value in record.metrics.items()]
            said.append(formatting.seconds(record.seconds))
            if isinstance(record, EpochRecord):
                said.append(shown.rates(record.lr))
            else:
                said.append(f"step {record.step}")
            for each in said:
                assert re.sub(r"\s", "", each) in together
                assert each in whole


def test_evaluations_within_an_epoch_have_rows_of_their_own_among_those_of_the_epochs() -> None:
    table = Table(theme(), Numbers(), place="step 200")
    records: list[Record] = [
        EvaluationRecord(epoch=1, step=50, seconds=0.5, metrics={"val_loss": 0.5}),
        EvaluationRecord(epoch=1, step=100, seconds=0.5, metrics={"val_loss": 0.25}),
        EpochRecord(epoch=1, seconds=1.2, metrics={"loss": 0.75}, lr=(0.1,), last_lr=(0.05,)),
        EvaluationRecord(epoch=2, step=150, seconds=0.5, metrics={"val_loss": 0.375}),
    ]
    bests = [True, True, False, False]
    lines = [
        text.plain.rstrip()
        for record, best in zip(records, bests, strict=True)
        for text in table.lines(record, 9, "val_loss", best, 80)
    ]
    assert lines == [
        "    epoch  val_loss       time  * best so far",
        "  step 50    0.5000 *    0.50s",
        " step 100    0.2500 *    0.50s",
        "    epoch     loss  val_loss    lr -> next           time",
        "        1   0.7500              0.1000 -> 0.0500    1.20s",
        " step 150             0.3750                        0.50s",
    ]
    assert [text.plain for text in table.lines(records[1], 9, None, False, 20)] == [
        "epoch 1  step 100",
        " 0.50s",
        " val_loss 0.2500",
    ]


def test_the_titles_come_again_when_they_have_left_the_screen() -> None:
    table = Table(theme(), Numbers(), height=10)
    text = [
        row.plain.split()[0]
        for epoch in range(1, 25)
        for row in table.lines(EpochRecord(epoch=epoch, metrics={"loss": 0.5}), 24, "loss", False, 80)
    ]
    shown = [index for index, word in enumerate(text) if word == "epoch"]
    assert shown == [0, 10, 20]
    assert [word for word in text if word != "epoch"] == [str(epoch) for epoch in range(1, 25)]


def test_a_column_has_one_format_and_its_titles_come_again_when_that_has_to_change() -> None:
    table = Table(theme(), Numbers())
    values = [0.8343, 0.001, 0.0009, 0.0008, 1.0]
    records = [EpochRecord(epoch=epoch, metrics={"loss": value}) for epoch, value in enumerate(values, 1)]
    lines = [row.plain.split()[:2] for each in records for row in table.lines(each, 9, None, False, 80)]
    assert lines == [
        ["epoch", "loss"],
        *(["1", "0.8343"], ["2", "0.0010"]),
        ["epoch", "loss"],
        *(["3", "0.000900"], ["4", "0.000800"], ["5", "1.000000"]),
    ]


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
def test_the_moving_lines_fit_and_the_bars_stand_one_below_the_other(width: int, steps: int | None) -> None:
    progress = in_epoch(1, 0, steps)
    throughput = Throughput(Run(epochs=100, progress=progress))
    bars = Bars(throughput, theme())
    ends = []
    for progress.step in (0, 1, 5, 10**6):
        lines = bars.lines(width)
        assert all(text.cell_len <= width for text in lines)
        assert len(lines) == 2
        spans = [match.span() for text in lines if (match := re.search("[━╸─]+", text.plain))]
        assert len(spans) in ((2, 0) if steps else (1, 0))
        assert len(set(spans)) <= 1
        ends += [end for _, end in spans[:1]]
    assert ends == sorted(ends, reverse=True), "they never become wider again"


def moving(width: int, *, encoding: str = "utf-8", evaluating: Sequence[int] = ()) -> list[str]:
    """Return the moving lines in epoch 1 of 20, at step 96 of 150 after 2 seconds."""
    progress = in_epoch(1, 96, steps=150)
    run = TimedRun(epochs=20, progress=progress)
    throughput = Throughput(run)
    throughput._first_step, run.now = 0, 2.0
    progress.means.add({"accuracy": 0.97, "loss": 0.0837, "f1": 0.5})
    throughput.running.take()
    if evaluating:
        run._fit = Control(Dispatcher(()), None)
        run._fit.tracked.done, run._fit.tracked.total = evaluating
        throughput.start_evaluation()
    bars = Bars(throughput, theme(encoding))
    lines = [text.plain.rstrip() for text in bars.lines(width)]
    run._progress.epoch = 2  # of which nothing is known yet
    assert len(bars.lines(width)) == len(lines)
    return lines


def test_metrics_are_beside_the_bar_or_below_and_bars_go_before_the_speed() -> None:
    assert moving(99) == [
        " epoch  1/20  ━━━━━━━━━━━━━━━━━━━━━━─────────────   96/150  loss 0.0837  accuracy 0.9700  f1 0.5000",
        " run          ━──────────────────────────────────      3 %  48.0 steps/s  0:02  eta 1:00",
    ]
    assert moving(69, encoding="ascii") == [
        " epoch  1/20  #######.....   96/150",
        " run          ............      3 %  48.0 steps/s  0:02  eta 1:00",
        "              loss 0.0837  accuracy 0.9700  f1 0.5000",
    ]
    assert moving(51) == [
        "epoch  1/20   96/150",
        "run              3 %  48.0 steps/s  0:02  eta 1:00",
        "loss 0.0837  accuracy 0.9700  f1 0.5000",
    ]
    assert moving(39)[1] == "run              3 %  0:02  eta 1:00"
    assert moving(29) == ["epoch  1/20   96/150", "run              3 %", "loss 0.0837  accuracy 0.9700"]


def test_an_evaluation_shows_how_far_it_is() -> None:
    assert moving(99, evaluating=[40, 64]) == [
        " epoch  1/20  evaluating  ━━━━━━━━━━━━━━─────────    40/64  loss 0.0837  accuracy 0.9700  f1 0.5000",
        " run          ━──────────────────────────────────      3 %  0:02  eta 1:00",
    ]
    assert moving(79, evaluating=[40, 64]) == [
        " epoch  1/20  evaluating  ━━━━━━━━━━━━━━━━━╸──────────    40/64",
        " run          ━───────────────────────────────────────      3 %  0:02  eta 1:00",
        "              loss 0.0837  accuracy 0.9700  f1 0.5000",
    ]
    assert moving(79, evaluating=[0, 0])[0] == " epoch  1/20  evaluating 0"


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


def test_a_ticker_may_be_stopped_by_a_signal_that_interrupts_its_stop() -> None:
    def moments(interrupted: int) -> int:
        """Return how many a stop has, at one of which it is called again, as by the handler of a signal."""
        ticker, found = Ticker(60.0, int), 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal found
            frame.f_trace_opcodes = True  # which Python 3.12.1 does not do: there the moments are those of lines
            found += 1
            if found == interrupted:
                ticker.stop()
            return trace

        def stop() -> None:
            sys.settrace(trace)
            ticker.stop()
            sys.settrace(None)

        ticker.start()
        thread = threading.Thread(target=stop, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), f"it waits for itself at moment {interrupted}"
        return found

    number = 1
    while moments(number) >= number:
        number += 1
    assert number > 10
    assert [thread for thread in threading.enumerate() if "lucid" in thread.name] == []
