"""A breakpoint stops the event loop's thread.

`breakpoint()`, `pdb.set_trace()` and their like wait for commands at the server's terminal, or on a port. All
requests wait with them.

Repair: remove the breakpoint, or set `PYTHONBREAKPOINT=0` in the service's environment; debug in a process of
your own.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

MODULES = ("pdb.py", "bdb.py", "code.py")
PACKAGES = (
    "pdb",
    "bdb",
    "ipdb",
    "pudb",
    "remote_pdb",
    "web_pdb",
    "rpdb",
    "debugpy",
    "pydevd",
    "_pydevd_bundle",
    "IPython",
    "_pydev_bundle",
    "epdb",
    "celery.contrib.rdb",
)


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy":
        return None
    if wait.inside(*MODULES) or wait.inside_package(*PACKAGES):
        return Match(frozenset({"frames"}), (f"It is at a debugger's prompt, in {wait.view.inner[0]}.",))
    return None


CAUSE = Cause(
    id="debugger",
    title="a breakpoint stops the event loop's thread",
    picture="file",
    match=match,
    confused_with={"stdin": "there the application itself reads the terminal."},
)
