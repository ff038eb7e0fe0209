"""Rings of waits: the event loop waits for what only it could do, directly or through a worker."""

from __future__ import annotations

from hangdebug.frames import calls
from hangdebug.model import Match
from hangdebug.scene import Scene
from hangdebug.source import statement_at
from hangdebug.waits import Wait, wait as wait_of

RESULT = ("concurrent/futures/_base.py:result", "concurrent/futures/_base.py:exception", "concurrent/futures/_base.py:wait")
ASKS_LOOP = ("anyio/from_thread.py", "asgiref/sync.py:__call__", "asgiref/current_thread_executor.py:run_until_future")
NAME = "run_coroutine_threadsafe"


def ring(wait: Wait, scene: Scene) -> Match | None:
    """What shows that the loop waits for itself, directly or through a worker; None where nothing does."""
    if wait.view.role != "event-loop":
        return None
    if wait.starts_with(*RESULT) and not other_loop(wait, scene):
        if hands_over(wait, scene):
            words = "It handed a coroutine to its own event loop, and waits for the result on the loop's thread."
            return Match(frozenset({"frames", "source"}), (words,))
        if nobody_works(scene):
            words = "No other thread works on the result: the event loop itself would have to."
            return Match(frozenset(), (words,))
    if not wait.inside_package("concurrent", "threading", "queue") and not wait.in_syscall("futex"):
        return None
    for view in scene.last:
        if view.thread != wait.view.thread and not view.idle and asks_loop(wait_of(scene, view), scene):
            words = f"{view.thread.name} in turn waits for the event loop to run a coroutine, in {view.frame or view.section[0]}."
            return Match(frozenset({"frames"}), (words,))
    return None


def asks_loop(one: Wait, scene: Scene) -> bool:
    return one.inside(*ASKS_LOOP) or one.starts_with(*RESULT) and hands_over(one, scene)


def hands_over(one: Wait, scene: Scene) -> bool:
    """Whether the line, or the one that made the future it waits for, hands a coroutine to a loop."""
    if one.frame is None:
        return False
    statement = statement_at(scene.evidence.sources, one.frame)
    if NAME in statement or any(name.endswith(NAME) for name in one.called):
        return True
    futures = {name.rpartition(".")[0] for name in one.called if name.rpartition(".")[2] in ("result", "exception")}
    lines = scene.evidence.sources.get(one.frame.file, {}).values()
    return any(NAME in line and line.split("=")[0].split(":")[0].strip() in futures for line in lines)


def other_loop(wait: Wait, scene: Scene) -> bool:
    return any(view.role == "event-loop" and view.thread != wait.view.thread for view in scene.last)


def nobody_works(scene: Scene) -> bool:
    """Whether a whole dump shows no thread that could finish a future: none but the loop's, and parked ones."""
    snapshot = scene.evidence.snapshots[-1]
    if snapshot.pid is None and snapshot.format != "py-spy JSON":  # perhaps only a part of a dump
        return False
    return nobody_seen(scene)


def nobody_seen(scene: Scene) -> bool:
    """The same of what was pasted, be it a part only."""
    return all(view.role == "event-loop" or view.idle for view in scene.last) and not any(
        calls(frame, "concurrent/futures/process.py") for view in scene.last for frame in view.thread.frames)
