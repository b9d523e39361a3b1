"""How these pages are built: `sphinx-build -W --keep-going docs build/docs`, without a network.

Every page with code is run, and an error or a warning in it fails the build. The reference is made of the docstrings.
"""

import inspect
import os
import re
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import attrs
from sphinx.application import Sphinx

from lucid_train import Callback

project = "lucid_train"
author = "the authors of lucid_train"
version = release = installed("lucid-train")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"lucid_train {version}"
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The pages run the `lucid-train` that is installed beside Sphinx, and find shell.py.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ["PYTHONPATH"] = str(Path(__file__).parent)
nb_execution_mode = "force"
nb_execution_timeout = 60
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # what the pages write is not left beside them
nb_merge_streams = True
nb_render_markdown_format = "myst"  # of a table that a cell shows
nb_output_stderr = "error"  # a warning in a page is one of the build

autodoc_typehints = "both"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "py:obj"  # `Trainer` in a docstring is a link, `base * gamma ** t` is code

# Prompts are no part of what is copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# What the reference links to in other documentations, as files beside this one: the pages are built without a network.
OTHERS = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "rich": "https://rich.readthedocs.io/en/stable/",
}
intersphinx_mapping = {name: (url, f"inventories/{name}.txt") for name, url in OTHERS.items()}


def skip_hooks(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what a callback overrides of `Callback`: it does not call for a second description."""
    overrides = inspect.isfunction(member) and member.__qualname__ != f"Callback.{name}" and hasattr(Callback, name)
    return True if overrides and member.__module__.startswith("lucid_train.callbacks") else None


def show_defaults(
    app: Sphinx, what: str, name: str, described: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Show what a factory of attrs makes in place of its mark for "no default"."""
    if signature is None or not attrs.has(described):
        return None
    factories = {field.alias: field.default for field in attrs.fields(described)}
    for parameter in inspect.signature(described).parameters.values():
        if parameter.default is attrs.NOTHING:
            factory = factories[parameter.name].factory
            made = "{}" if factory is dict else "()" if factory is tuple else f"{factory.__name__}()"
            signature = signature.replace("= NOTHING", f"= {made}", 1)
    return signature, returned


def write_llms_txt(app: Sphinx, error: Exception | None) -> None:
    """Copy llms.txt, the pages for programs that read text, with links to the text of each page."""
    if error is None and app.builder.format == "html":
        text = Path(app.srcdir, "llms.txt").read_text("utf-8")
        text = re.sub(r"\]\((?!http)([^)#]+)\.md", r"](_sources/\1.md.txt", text)
        Path(app.outdir, "llms.txt").write_text(text, "utf-8")


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("autodoc-skip-member", skip_hooks)
    app.connect("autodoc-process-signature", show_defaults)
    app.connect("build-finished", write_llms_txt)
