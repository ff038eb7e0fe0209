"""Lets a hung server print its own stacks, as many services do: a daemon thread that waits on a FIFO.

capture_formats.py puts this folder in the place of the lab's, so the lab's own file is run first.
"""

import asyncio
import gc
import os
import runpy
import sys
import threading
import traceback
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[2] / "notebooks" / "lab_site" / "sitecustomize.py"))


def print_stacks(out):
    """What web pages and answers on the subject recommend: a head and `print_stack` for every thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        print(f"\n# Thread: {names.get(ident, '')}({ident})", file=out)
        traceback.print_stack(frame, file=out)


def print_tasks(out):
    for task in [one for one in gc.get_objects() if isinstance(one, asyncio.Task)]:
        task.print_stack(file=out)


def serve():
    while True:
        with open(os.environ["STACKS_FIFO"]) as asked:
            what, _, answer = asked.read().strip().partition(" ")
        with open(answer, "w") as out:
            {"stacks": print_stacks, "tasks": print_tasks}[what](out)


if "STACKS_FIFO" in os.environ:
    threading.Thread(target=serve, name="stack-printer", daemon=True).start()
