"""Everything here compares with the installed PyTorch; where there is none, the folder is left out."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
