"""The words that several answers share: where a thread stands, how often it woke, what it waits for."""

from __future__ import annotations

from hangdebug.answer.model import Verdict
from hangdebug.causes.model import Cause
from hangdebug.evidence.model import Task
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import Wait

LOOPS_THREAD, LOOP, WORKER = "the event loop's thread", "the event loop", "a synchronous worker"


def times(count: int) -> str:
    """ "never", "once", "7 times"."""
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def wake_words(wait: Wait) -> tuple[str, ...]:
    """How often the thread woke while nobody looked; () where the kernel was not asked twice."""
    if wait.motion.woke is None:
        return ()
    woke = "did not wake" if wait.motion.woke == 0 else f"woke {times(wait.motion.woke)}"
    return (f"It {woke} in the {wait.motion.span:.1f} s before the first attach.",)


def place_of(wait: Wait | None) -> str:
    """ " in fetch (app.py:29)", or ""."""
    return f" in {wait.frame}" if wait is not None and wait.frame is not None else ""


def line_of(wait: Wait | None) -> str:
    """ ": `time.sleep(9)`", or ""."""
    return f": `{wait.text}`" if wait is not None and wait.text else ""


def counted(count: int, noun: str, verb: str) -> str:
    """ "1 pool thread stands", "3 pool threads stand": `verb` is given as for one."""
    return f"{count} {noun}{'s' if count != 1 else ''} {verb[:-1] if count != 1 else verb}"


def blocked_summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    """The sentence for a thread that waits on the event loop."""
    wait = verdict.wait
    if wait is not None and wait.coroutine:
        return f"{verdict.evidence[0][:-1]}; no other request was served meanwhile."
    kernel = (wait.kernel if wait is not None else None) or "in a call"
    what = cause.title if cause.id != "other" else f"{LOOPS_THREAD} waits ({kernel})"
    return f"{capital(what)}{place_of(wait)}{line_of(wait)}; no other request is served meanwhile."


def capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def failed_tasks(scene: Scene) -> tuple[str, ...]:
    """Tasks that have ended with an exception: whoever should have ended a wait may be among them."""
    failed: list[Task] = [one for one in scene.evidence.tasks if one.state.startswith("failed")]
    return tuple(f"{one.name} ({one.coroutine}) has {one.state}" for one in failed[:4])
