"""The README's picture shows what the code shows: the same rows, columns and labels, whatever the numbers are."""

import html
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def structure(picture: Path) -> list[str]:
    """Return the words of each line of an SVG that rich has drawn, without numbers, times, curves and stars."""
    lines: dict[str, list[str]] = {}
    for clip, text in re.findall(r"clip-path=\"url\(#console-line-(\d+)\)\">(.*?)</text>", picture.read_text("utf-8")):
        plain = re.sub(r"[\d.,]+(?:ms|s|us)?|[▁-█*]+", "", html.unescape(text).replace("\xa0", " "))
        lines.setdefault(clip, []).extend(plain.split())
    return [" ".join(words) for words in lines.values()]


def test_the_picture_of_the_console_has_the_structure_of_a_run_of_today(tmp_path: Path) -> None:
    drawn = tmp_path / "console.svg"
    subprocess.run([sys.executable, EXAMPLES / "console_picture.py", drawn], check=True, capture_output=True)
    expected = structure(EXAMPLES / "console.svg")
    assert "epoch loss accuracy val_loss val_accuracy lr time" in expected
    assert structure(drawn) == expected
