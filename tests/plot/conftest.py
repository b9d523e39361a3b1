"""What is drawn needs matplotlib, an extra; where there is none, the folder is left out."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("matplotlib") else ["test_*.py"]
