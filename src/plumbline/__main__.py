"""`python -m plumbline`: the same as the command `plumbline`."""

import sys

from plumbline.cli import main

if __name__ == "__main__":
    sys.exit(main())
