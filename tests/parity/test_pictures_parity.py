"""The pictures show what the code shows: the same rows, columns and labels, for any numbers."""

import html
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def structure(picture: Path) -> list[str]:
    """Return the words of each line of an SVG that rich has drawn, without numbers, times, curves and stars."""
    lines: dict[str, list[str]] = {}
    for clip, text in re.findall(r"clip-path=\"url\(#\w+-line-(\d+)\)\">(.*?)</text>", picture.read_text("utf-8")):
        plain = re.sub(r"[\d.,:]+(?:e-\d+)?(?:ms|s|us)?|[▁-█*━╸─]+|->", "", html.unescape(text).replace("\xa0", " "))
        lines.setdefault(clip, []).extend(plain.split())
    return [" ".join(words) for words in lines.values()]


def test_the_pictures_have_the_structure_of_a_run_of_today(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLES / "picture.py", tmp_path], check=True, capture_output=True)
    for name, row in {
        "trained.svg": "epoch loss accuracy val_loss val_accuracy lr next time",
        "training.svg": "epoch / / loss accuracy lr",
    }.items():
        expected = structure(EXAMPLES / name)
        assert row in expected
        assert structure(tmp_path / name) == expected
