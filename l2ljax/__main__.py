"""`python -m l2ljax`: the command line."""

import sys

from l2ljax.command import main

if __name__ == "__main__":
    sys.exit(main())
