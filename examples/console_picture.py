"""Draw what the console shows as an SVG: `python examples/console_picture.py [FILE]`. It makes the README's picture.

Any run can be pictured so: give RichLogger a console that records, and export it.
"""

import io
import sys
from pathlib import Path

from rich.console import Console

from lucid_train.callbacks import RichLogger
from lucid_train.demo import train

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("console.svg")
console = Console(record=True, file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)
train(epochs=10, callbacks=[RichLogger(console=console, monitor="val_accuracy", mode="max")])
console.save_svg(str(target), title="lucid-train demo --epochs 10", unique_id="console")
print(f"{target.name}: {target.stat().st_size} bytes")
