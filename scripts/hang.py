#!/usr/bin/env python3
"""Name what hangs a Python web backend. Run `hang.py --help`; diagnosing a dump or a bundle needs Python alone."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,import-not-found"

import os
import sys
from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal  # the module around it takes longer to load

if __name__ == "__main__" and getsignal(SIGINT) is default_int_handler:
    signal(SIGINT, SIG_DFL)  # as long as nothing is there to be put away, Ctrl-C just ends it

if sys.version_info < (3, 9):
    sys.exit(
        "hang.py needs Python 3.9 or newer; this is %d.%d. Next: python3.11 %s" % (sys.version_info[:2] + (__file__,))
    )

from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from threading import Lock

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
one_at_a_time = Lock()


class Loader(SourceFileLoader):
    """Keeps the engine's bytecode in the user's cache folder: that of a skill is often read-only, and never ours."""

    def get_code(self, fullname):
        with one_at_a_time:
            before = sys.pycache_prefix, sys.dont_write_bytecode
            sys.pycache_prefix, sys.dont_write_bytecode = os.path.join(CACHE, "backend-hang-debug"), False
            try:
                return super().get_code(fullname)
            finally:
                sys.pycache_prefix, sys.dont_write_bytecode = before


def finder(folder):
    """For `sys.path_hooks`: what finds modules in a folder of the engine."""
    if not os.path.join(folder, "").startswith(os.path.join(HERE, "")):
        raise ImportError(folder)
    return FileFinder(folder, (Loader, SOURCE_SUFFIXES))


def keeps_bytecode():
    """Whether to: not where bytecode is unwanted or kept elsewhere, nor in a folder that somebody else could fill."""
    if sys.dont_write_bytecode or sys.pycache_prefix or not hasattr(os, "geteuid"):
        return False
    try:
        os.makedirs(CACHE, 0o700, exist_ok=True)
        found = os.stat(CACHE)
    except OSError:  # no home, or one that cannot be written
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


if keeps_bytecode():
    sys.path_hooks.insert(0, finder)
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)

from hangdebug.files import heard, listen, obey

if __name__ == "__main__":
    try:
        listen()
        from hangdebug.cli import main

        status = main()
        heard.append(0)  # nothing is left to put away
        sys.exit(status)
    except KeyboardInterrupt as stop:  # while it was loaded
        sys.exit(obey(stop))
