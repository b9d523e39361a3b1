"""The code of the documentation's pages, to be run by tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def names_of(page: str, heading: str) -> dict[str, Any]:
    """Run the Python of one section of a page and return the names that it defines."""
    [section] = [
        each for each in re.split(r"^## ", (DOCS / page).read_text(), flags=re.M) if each.startswith(f"{heading}\n")
    ]
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"^```python\n(.*?)^```$", section, flags=re.M | re.S)
    exec("\n".join(blocks), names)  # the project's own documentation
    return names
