"""`python -m hangdebug`, where the package is installed."""

import sys

from hangdebug.cli import main

if __name__ == "__main__":
    sys.exit(main())
