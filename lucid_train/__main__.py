"""`python -m lucid_train` is the `lucid-train` command."""

import sys

from lucid_train.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
