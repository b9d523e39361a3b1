"""How these pages are built: `sphinx-build -W --keep-going docs build/docs`, without a network.

Every page with code is run, and an error or a warning in it fails the build. The reference is made of the docstrings.
"""

import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

project = "lucid_train"
author = "the authors of lucid_train"
version = release = installed("lucid-train")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
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
nb_output_stderr = "error"  # a warning in a page is one of the build

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "py:obj"  # `Trainer` in a docstring is a link, `base * gamma ** t` is code

# Prompts are no part of what is copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
