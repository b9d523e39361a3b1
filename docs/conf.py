"""How these pages are built: `sphinx-build -W --keep-going docs build/docs`, without a network.

Every page with code is run, and an error or a warning in it fails the build. The reference is made of the docstrings.
"""

import inspect
import os
import re
import sys
from importlib import import_module
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import attrs
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger

from lucid_train import Callback

logger = getLogger(__name__)

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
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # what the pages write is not left beside them
nb_merge_streams = True
nb_render_markdown_format = "myst"  # of a table that a cell shows
nb_output_stderr = "error"  # a warning in a page is one of the build

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
# Every type in a signature is a link, but for variables of types and what only the library itself makes.
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", ".*"),  # code in backquotes, most of it
    ("py:class", r".*numpy\._typing\..*|numpy\.random\._generator\..*|rich\.console\.RichCast"),  # without a page
    ("py:class", r"NDArray|ArrayLike|np\.\w+|Figure|Path|Status"),  # in the text of an overload
    ("py:(class|data)", r"lucid_train\.[\w.]*\.(_\w+|[A-Z]|Batch|Samples?|Record)"),
]
nitpick_ignore = [
    ("py:class", f"lucid_train.{name}")
    for name in (
        "callback.Subscription",
        "callbacks.display.running.RunningMeans",
        "metrics.Snapshot",
        "progress.Progress",
        "schedules.schedule.Until",
        "schedules.schedule.WithBase",
        "training.run.Stop",
    )
]
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


# Modules all of whose names the reference must describe.
PUBLIC = [
    "lucid_train",
    *(f"lucid_train.{name}" for name in ("callbacks", "data", "group", "nn", "optims", "schedules", "testing")),
    "lucid_train.optims.lr_scheduler",
]


def skip_hooks(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what a callback overrides of `Callback`: it does not call for a second description."""
    overrides = inspect.isfunction(member) and member.__qualname__ != f"Callback.{name}" and hasattr(Callback, name)
    return True if overrides and member.__module__.startswith("lucid_train.callbacks") else None


def show_defaults(
    app: Sphinx, what: str, name: str, described: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Show ArrayLike as itself, and what a factory of attrs makes in place of its mark for "no default"."""
    if signature is None:
        return None
    signature = re.sub(r"[~\w.]*_Buffer \| .*?\[complex \| bytes \| str\]", "~numpy.typing.ArrayLike", signature)
    if not attrs.has(described):
        return signature, returned
    factories = {field.alias: field.default for field in attrs.fields(described)}
    for parameter in inspect.signature(described).parameters.values():
        if parameter.default is attrs.NOTHING:
            factory = factories[parameter.name].factory
            made = "{}" if factory is dict else "()" if factory is tuple else f"{factory.__name__}()"
            signature = signature.replace("= NOTHING", f"= {made}", 1)
    return signature, returned


def check_reference(app: Sphinx, environment: BuildEnvironment) -> None:
    """Warn of a public name that the reference lacks."""
    described = environment.domains["py"].data["objects"]
    for name in PUBLIC:
        module = import_module(name)
        for each in module.__all__:
            if not inspect.ismodule(getattr(module, each)) and f"{name}.{each}" not in described:
                logger.warning("the reference lacks %s.%s", name, each)


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
    app.connect("env-check-consistency", check_reference)
    app.connect("build-finished", write_llms_txt)
