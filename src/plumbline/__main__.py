"""`python -m plumbline`: the same as the command `plumbline`."""

import os
import signal
import sys

if __name__ == "__main__":
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # no traceback while it imports what answers this
    from plumbline.cli import main

    signal.signal(signal.SIGINT, before)
    sys.exit(main())
