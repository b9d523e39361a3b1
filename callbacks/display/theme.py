"""Theme: the styles and the characters that a console can show."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text
from rich.theme import Theme as RichTheme

from lucid_train.callbacks.display import formatting

# The names that a theme of rich may set, the logger's or the console's.
STYLES = {
    "lucid.label": "dim",
    "lucid.epoch": "none",
    "lucid.metric": "none",
    "lucid.best": "green",
    "lucid.nan": "red",
    "lucid.rate": "none",
    "lucid.change": "dim",
    "lucid.time": "dim",
    "lucid.bar": "dim",
    "lucid.bar.done": "none",
    "lucid.curve": "none",
    "lucid.completed": "bold green",
    "lucid.stopped": "bold yellow",
    "lucid.interrupted": "bold yellow",
    "lucid.failed": "bold red",
}


@define(frozen=True)
class Theme:
    """How texts look on a console.

    Args:
        encoding: The encoding of the console's stream.
        ascii_only: Whether to avoid block characters.
        styles: A style for each name in STYLES.
    """

    encoding: str
    ascii_only: bool
    styles: Mapping[str, Style]

    @classmethod
    def of(cls, console: Console, chosen: RichTheme | None) -> Theme:
        """Return the theme of a console; styles of `chosen` override the console's, and those override ours."""
        own = {} if chosen is None else chosen.styles
        styles = {name: own.get(name, console.get_style(name, default=style)) for name, style in STYLES.items()}
        return cls(console.encoding, console.legacy_windows or not console.encoding.startswith("utf"), styles)

    def text(self, text: str, style: str = "") -> Text:
        """Return text that is shown literally, in one line: no markup, and only characters that the stream accepts."""
        shown = formatting.clean(text, self.encoding)
        return Text(shown, style=self.styles.get(f"lucid.{style}", ""), no_wrap=True, overflow="ignore", end="")

    def cell(self, text: str, width: int, style: str = "", *, left: bool = False) -> Text:
        """Return text at the right end of a cell, or at its left; longer text is not cut."""
        shown = self.text(text, style)
        pad = shown.pad_right if left else shown.pad_left
        pad(max(0, width - shown.cell_len))
        return shown

    def width(self, text: str) -> int:
        """Return how many columns `text` takes when it is shown."""
        return cell_len(formatting.clean(text, self.encoding))
