"""The pages' `%%sh`: commands as in a shell whose output goes into a pipe; one that fails is an error of the page."""

import os
import subprocess
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "examples"


def sh(line: str, cell: str) -> None:
    """Run the commands of a cell, and print in one piece what they print: MyST-NB breaks lines between pieces."""
    # A notebook asks for colours.
    environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "CLICOLOR_FORCE")}
    print(subprocess.run(cell, shell=True, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def load_ipython_extension(shell: Any) -> None:
    """Register the magic, for `%load_ext shell`, and link the examples into the folder in which the page runs."""
    Path("examples").symlink_to(EXAMPLES)
    shell.register_magic_function(sh, "cell")
