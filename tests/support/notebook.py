"""A notebook that a real kernel executes."""

from collections.abc import Callable
from typing import Any

import nbformat
from nbclient import NotebookClient


def execute(*cells: str, notice: Callable[[Any], object] = lambda data: None) -> list[list[Any]]:
    """Return the outputs that are left in each cell; `notice` gets each picture that is shown or updated."""

    class Client(NotebookClient):  # type: ignore[misc]  # nbclient is partly untyped
        def process_message(self, message: Any, *arguments: Any) -> Any:
            if message["msg_type"] in ("display_data", "update_display_data"):
                notice(message["content"]["data"])
            return super().process_message(message, *arguments)

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    Client(notebook, kernel_name="python3", timeout=60).execute()
    return [cell.outputs for cell in notebook.cells]
