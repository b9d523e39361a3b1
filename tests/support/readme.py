"""The programs of the README, each with the text that follows it.

`python -m tests.support.readme` writes what they print today into the README.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from attrs import frozen

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text("utf-8")


@frozen
class Program:
    """A Python program of the README.

    Args:
        code: The program.
        output: What it prints, as the README says.
    """

    code: str
    output: str

    def run(self, folder: Path) -> str:
        """Return what it prints into a pipe, in a process of its own."""
        command = [sys.executable, "-W", "error", "-c", self.code]
        return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout

    @property
    def needs_torch(self) -> bool:
        """Whether it runs only where PyTorch is installed."""
        return "import torch" in self.code


PROGRAMS = [
    Program(code, output)
    for code, output in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, flags=re.DOTALL)
]


def timeless(text: str) -> str:
    """Return a text without durations and speeds."""
    return re.sub(r"[\d.,]+(?= steps/s)|\b[\d.]+(ms|s)\b", "*", text)


if __name__ == "__main__":
    import tempfile

    for program in PROGRAMS:
        with tempfile.TemporaryDirectory() as name:
            texts = program.output, program.run(Path(name))
        before, after = (f"{program.code}```\n\n```text\n{text}```" for text in texts)
        README.write_text(README.read_text("utf-8").replace(before, after), "utf-8")
