#!/usr/bin/env python3
"""Name what hangs a Python web backend. Run `hang.py --help`; diagnosing a dump or a bundle needs Python alone."""

import os
import sys

if sys.version_info < (3, 9):
    sys.exit(
        "hang.py needs Python 3.9 or newer; this is %d.%d. Next: python3.11 %s" % (sys.version_info[:2] + (__file__,))
    )
sys.dont_write_bytecode = True  # a skills folder is often read-only, and never ours to litter
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from hangdebug.files import heard, listen

if __name__ == "__main__":
    try:
        listen()
        from hangdebug.cli import main

        status = main()
        heard.append(0)  # nothing is left to put away
        sys.exit(status)
    except KeyboardInterrupt as stop:  # while it was loaded
        sys.exit(128 + getattr(stop, "number", 2))
