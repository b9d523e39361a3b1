"""`lucid-train diff`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lucid_train.cli.main import main
from tests.recording.test_comparison import build

DIFFER = """\
The set-up differs:
  ExponentialLRCallback.gamma is 0.5 in a.jsonl and 0.25 in b.jsonl
The first difference is at step 5: rate, weights.
  rate: 0.05 and 0.025
  weights: DIGEST and DIGEST
Around it:
  step 4   the same: batch, generator python, generator numpy, rate, loss,
           weights, optimizer's state
  epoch 1  the same: steps, loss, rate
> step 5   differ: rate, weights; the same: batch, generator python, generator
           numpy, loss, optimizer's state
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(Path("a.jsonl")).fit()


def test_logs_of_equal_runs_agree(capsys: pytest.CaptureFixture[str]) -> None:
    build(Path("b.jsonl")).fit()
    assert main(["diff", "a.jsonl", "b.jsonl"]) == 0
    assert capsys.readouterr().out == "Nothing differs in 16 moments that both logs have, the last of them epoch 3.\n"


def test_the_first_difference_is_named_with_what_is_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    build(Path("b.jsonl"), gamma=0.25).fit()
    assert main(["diff", "a.jsonl", "b.jsonl"]) == 1
    out = capsys.readouterr().out
    wanted, found = (" ".join(text.split()) for text in (DIFFER, out))
    digests = found.split("weights: ")[1].split(" Around")[0].split(" and ")
    assert [len(digest) for digest in digests] == [16, 16]
    for digest in digests:
        found = found.replace(digest, "DIGEST", 1)
    assert found.replace(" generator torch,", "").startswith(wanted)
    assert max(map(len, out.splitlines())) <= 80
    assert out.isascii()
    assert "\x1b" not in out


def test_a_run_that_ended_earlier_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    build(Path("b.jsonl"), epochs=2).fit()
    assert main(["diff", "a.jsonl", "b.jsonl"]) == 1
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "'b.jsonl' ends at epoch 2, and the other goes on to epoch 3."


def test_logs_without_a_common_step_are_compared_by_their_setup(capsys: pytest.CaptureFixture[str]) -> None:
    build(Path("b.jsonl"), digests=None, epochs=1, batch_size=8).fit()
    build(Path("c.jsonl"), digests=None, epochs=1).fit()
    assert main(["diff", "b.jsonl", "c.jsonl"]) == 1
    assert capsys.readouterr().out == (
        "The set-up differs:\n"
        "  steps_per_epoch is 2 in b.jsonl and 4 in c.jsonl\n"
        "No step and no epoch is in both logs.\n"
    )


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    build(Path("b.jsonl"), spoil=7).fit()
    assert main(["diff", "a.jsonl", "b.jsonl", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["agrees"], found["setup"], found["versions"], found["compared"]) == (False, [], [], 9)
    assert found["first"]["step"] == 7
    assert found["first"]["differing"]["loss"][1] == {"!float": "nan"}
    assert [each["place"] for each in found["around"]] == ["step 5", "step 6", "step 7", "step 8", "epoch 2"]
    assert main(["diff", "a.jsonl", "a.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["first"] is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "'b.jsonl': No such file or directory"),
        ("", "'b.jsonl' is not the log of a run: it has no complete line"),
        ("{}\n", "'b.jsonl' is not the log of a run: in line 1, it lacks the name of an event, or its time"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_its_own(
    capsys: pytest.CaptureFixture[str], content: str | None, why: str
) -> None:
    if content is not None:
        Path("b.jsonl").write_text(content)
    assert main(["diff", "a.jsonl", "b.jsonl"]) == 2
    assert capsys.readouterr().err == f"lucid-train: error: {why}\n"


def test_what_is_long_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("a.jsonl").read_text()
    Path("b.jsonl").write_text(text.replace('"metrics":{"loss"', '"metrics":{"' + "x" * 500_000 + '"'))
    assert main(["diff", "a.jsonl", "b.jsonl"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 500


def test_control_characters_of_a_log_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("a.jsonl").read_text()
    Path("b.jsonl").write_text(text.replace('"metrics":{"loss"', '"metrics":{"\\u001b[2J"'))
    assert main(["diff", "a.jsonl", "b.jsonl"]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2J" in out
