"""An import waits.

The first import of a module runs all of it, on the thread that asks; every other thread that imports the same
module waits for its lock. In a handler that holds the event loop's thread; while the server starts, it never
serves (`startup-hang`). Work at import (a connection, a download, a large model) is what makes it long. Where
the slow line of the module is on the stack itself, that line is the answer.

Repair: import at the top of the file, so that it is done before the server serves; keep modules free of work, and
do the work in the lifespan.
"""

from __future__ import annotations

from hangdebug.causes.model import Cause, Match, Seen
from hangdebug.evidence.frames import calls
from hangdebug.evidence.libraries import IMPORT_LOCK, IMPORTS, RUNS_MODULE
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait


def match(scene: Scene, wait: Wait | None, seen: Seen) -> Match | None:
    if wait is None or seen.state == "loop-busy" or not wait.view.inner:
        return None
    if calls(wait.view.inner[0], *IMPORT_LOCK):
        words = "It waits for the lock of a module that another thread imports."
    elif calls(wait.view.inner[0], *IMPORTS):
        words = f"It imports: {wait.view.inner[0]}."
    elif wait.starts_with(*IMPORTS):  # a library's own module, that waits while it is imported
        words = f"Its line imports a module, which stands in {wait.view.inner[0]}."
    else:
        return None
    busy = scene.shows(*RUNS_MODULE)
    if busy is not None and busy.thread != wait.view.thread and busy.frame is not None:
        words += f" {busy.thread.name} is in the middle of an import, in {busy.frame}."
    return Match(frozenset({"frames"}), (words,))


CAUSE = Cause(
    id="import-lock",
    title="an import waits on the event loop's thread",
    picture="lock",
    match=match,
    confused_with={"lock": "a lock of threading is taken by the application's own line."},
    owed="likely",
)
