"""What the display may use where it is shown: width, characters, styles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text
from rich.theme import Theme

from lucid_train.callbacks.display import formatting

# The names that a theme may set, the logger's own or the console's.
STYLES = {
    "lucid.label": "dim",
    "lucid.epoch": "none",
    "lucid.metric": "none",
    "lucid.best": "green",
    "lucid.nan": "red",
    "lucid.rate": "cyan",
    "lucid.change": "yellow",
    "lucid.time": "dim",
    "lucid.bar": "bright_black",
    "lucid.bar.done": "cyan",
    "lucid.curve": "cyan",
    "lucid.completed": "bold green",
    "lucid.stopped": "bold yellow",
    "lucid.interrupted": "bold yellow",
    "lucid.failed": "bold red",
}


@define(frozen=True)
class Look:
    """What can be shown on a console.

    Args:
        encoding: The encoding of the stream behind it.
        ascii_only: Whether to do without block characters.
        styles: A style for each name in STYLES.
    """

    encoding: str
    ascii_only: bool
    styles: Mapping[str, Style]

    @classmethod
    def of(cls, console: Console, theme: Theme | None) -> Look:
        """Return what `console` can show; a style of `theme` comes before the console's, and that before our own."""
        own = {} if theme is None else theme.styles
        styles = {
            name: own[name] if name in own else console.get_style(name, default=default)
            for name, default in STYLES.items()
        }
        return cls(console.encoding, console.legacy_windows or not console.encoding.startswith("utf"), styles)

    def text(self, text: str, style: str = "") -> Text:
        """Return text as it stands, in one line: no markup, no control characters, nothing that the stream refuses."""
        shown = formatting.clean(text, self.encoding)
        return Text(shown, style=self.styles.get(f"lucid.{style}", ""), no_wrap=True, overflow="ignore", end="")

    def cell(self, text: str, width: int, style: str = "", *, left: bool = False) -> Text:
        """Return text at the right end of a cell, or at its left; text that is longer stays whole."""
        shown = self.text(text, style)
        pad = shown.pad_right if left else shown.pad_left
        pad(max(0, width - shown.cell_len))
        return shown

    def width(self, text: str) -> int:
        """Return the width of what `text` returns for it."""
        return cell_len(formatting.clean(text, self.encoding))


def join(parts: Iterable[Text], gap: str = "  ") -> Text:
    """Return texts in one line."""
    return Text(gap, no_wrap=True, overflow="ignore", end="").join(parts)


def stack(lines: Iterable[Text]) -> Text:
    """Return lines as one text that rich neither wraps nor crops."""
    return Text("\n", no_wrap=True, overflow="ignore").join(lines)


def flow(parts: Iterable[Text], width: int, gap: str = "  ", indent: int = 0) -> list[Text]:
    """Return texts in as few lines of this width as hold them in order, all but the first indented."""
    lines: list[list[Text]] = []
    room = width
    for part in parts:
        if not lines or part.cell_len > room:
            lines.append([])
            room = width - (indent if len(lines) > 1 else 0)
        lines[-1].append(part)
        room -= part.cell_len + len(gap)
    flowed = [Text(" " * indent if index else "", end="") + join(line, gap) for index, line in enumerate(lines)]
    for line in flowed:
        line.rstrip()
    return [piece for line in flowed for piece in _folded(line, width)]


def _folded(line: Text, width: int) -> list[Text]:
    """Cut a line that is wider than the screen; what is left over goes on below."""
    if line.cell_len <= width or width < 1:
        return [line]
    cuts, used = [], 0
    for index, mark in enumerate(line.plain):
        used += cell_len(mark)
        if used > width:
            cuts.append(index)
            used = cell_len(mark)
    return [line for line in line.divide(cuts) if line.plain]
