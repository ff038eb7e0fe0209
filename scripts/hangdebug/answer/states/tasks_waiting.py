"""The loop is idle and no thread is stuck: coroutines await something that never comes.

Healthy servers are full of tasks that wait. A wait counts as a hang only where the tasks themselves show that nobody
ends it, or where a request has had no answer yet and nothing that runs could give it one.
"""

from __future__ import annotations

from typing import Callable, Union

from hangdebug.answer.certainty import AGREED, EXCLUDED, LIKELY, ONE_READING, ONE_SIDED, PLAUSIBLE, PROVED
from hangdebug.answer.model import Level, Rule, StateEntry, Verdict
from hangdebug.answer.states.threadpool_exhausted import in_coroutines
from hangdebug.answer.words import failed_tasks, line_of, place_of, release_words
from hangdebug.causes.model import Cause
from hangdebug.evidence.model import Function, Task
from hangdebug.scene.could_end import function_at
from hangdebug.scene.graph import standing
from hangdebug.scene.rings import stuck_nodes
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import (
    TaskWaits,
    about_to_run,
    as_wait,
    awaited_directly,
    could_be_ended_by,
    ends_of,
    response_begun,
    runs_application,
    suspects,
    task_edges,
    task_waits,
    waits_for_object,
    waits_for_taken_lock,
)
from hangdebug.scene.waits import Wait, name_of

MOST_JUDGED = 100
SLOW_PEER = "What the thread waits for may be slow: look again in a minute."
Judge = Callable[[Scene, TaskWaits, Task], Union[Verdict, None]]


def ring(scene: Scene) -> Verdict | str:
    """A task waits for a lock that it holds itself, or for others that wait for it in turn."""
    return first_verdict(scene, in_ring) or "No task waits for a lock of its own, or for one that waits for it."


def never_released(scene: Scene) -> Verdict | str:
    """A lock is taken, and no task is inside of it."""
    return (
        first_verdict(scene, nobody_inside) if all_known(scene) else None
    ) or "No lock is taken without anybody inside of it."


def never_ended(scene: Scene) -> Verdict | str:
    """A request waits for an event or a queue, and nobody is left who could end that."""
    return (
        first_verdict(scene, nobody_ends) if all_known(scene) else None
    ) or "No request waits for what nobody could end."


def all_known(scene: Scene) -> bool:
    """Whether all tasks were read: one that was not could be the one that ends a wait."""
    return not scene.evidence.unread


def first_verdict(scene: Scene, judge: Judge) -> Verdict | None:
    """The first verdict over the tasks that wait for one thing in both readings, each kind of wait asked once."""
    if not scene.loop or not any(one.idle for one in scene.loop) or not scene.evidence.tasks:
        return None
    seen = task_waits(scene)
    alike = {
        (task.awaits and task.awaits.id, task.inside, task.frames, task.id in seen.served): task
        for task in seen.stuck.values()
    }
    ordered = sorted(alike.values(), key=lambda task: (not task.inside, task.id not in seen.served))[:MOST_JUDGED]
    return next((found for found in (judge(scene, seen, task) for task in ordered) if found is not None), None)


def in_ring(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    edges = task_edges(seen)
    if task.awaits is None or task.id not in edges or task.id not in stuck_nodes(edges):
        return None
    if task.awaits.kind == "Task":
        other = seen.tasks[task.awaits.id].name
        words = f"{task.name} waits for {other}, which waits for it in turn: none of them can go on."
        return verdict_on(scene, seen, task, PROVED, (words,))
    holders = seen.inside(task.awaits.id)
    own = any(one.id == task.id for one in holders)
    who = "itself" if own else ", ".join(one.name for one in holders[:4]) + ", which waits in turn"
    words = f"{task.name} waits for {task.awaits}; the task inside of it is {who}: none of them can go on."
    return verdict_on(scene, seen, task, PROVED, (words,))


def nobody_inside(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    """Whoever took the lock has gone without releasing it."""
    if task.awaits is None or not waits_for_taken_lock(task) or task.timed or task.awaits.kind == "CapacityLimiter":
        return None
    if seen.inside(task.awaits.id) or any(task.awaits.id in one.inside for one in scene.evidence.tasks):
        return None  # it changes hands
    by_hand = task.awaits.method != "__aenter__" and "release" not in task.ends
    if by_hand and any(name.lstrip("+") == "release" for one in scene.evidence.functions or () for name, _ in one.ends):
        return None  # a semaphore that counts work is taken here, and released by whoever brings the work
    others = [
        one for one in seen.tasks.values() if not waits_for_object(seen, one, task.awaits.id) and runs_application(one)
    ]
    if any(one.id in seen.served or "release" in one.ends for one in others):
        return None  # taken by hand, or by a dependency that a request keeps open: that shows in no frame
    if (
        scene.evidence.functions is None
        or not awaited_directly(task)
        or could_be_ended_by(scene, seen, task, {"release"})
    ):
        return None
    words = f"{task.name} waits for {task.awaits}, and no task is inside of it: it was taken and never released."
    doubt = "No function of the application releases any; a library that was given it could."
    level = AGREED if not others and not by_hand else PLAUSIBLE
    more = release_words(scene, as_wait(scene, task))
    return verdict_on(scene, seen, task, level, (words, *more), (doubt,) if by_hand else ())


def nobody_ends(scene: Scene, seen: TaskWaits, task: Task) -> Verdict | None:
    """A request without an answer waits for an event or a queue, with no timeout, and no task can end that."""
    if task.awaits is None or task.id not in seen.served or task.timed or response_begun(task):
        return None
    ends = ends_of(task)
    if (
        not awaited_directly(task)
        or not scene.evidence.later
        or not ends
        or waits_for_taken_lock(task)
        or about_to_run(task)
    ):
        return None
    if any(ends & one.ends for one in seen.tasks.values() if not waits_for_object(seen, one, task.awaits.id)):
        return None
    if scene.evidence.functions is None or could_be_ended_by(scene, seen, task, ends):
        return None
    any_of = " or ".join(sorted(ends))
    words = (
        f"{task.name} serves a request that has no answer yet, and waits for {task.awaits} without a timeout.",
        f"No task, thread or callback that is left calls {any_of}, and no request that could come.",
    )
    failed = [one for one in scene.evidence.later if one.state.startswith("failed") and ends & one.ends]
    if failed:
        would = " or ".join(sorted(ends & failed[0].ends))
        ended = f"{failed[0].coroutine} would call {would}, but has ended with an exception."
        return verdict_on(scene, seen, task, EXCLUDED, (*words, ended))
    return verdict_on(scene, seen, task, LIKELY, words, ("A library that was given it could still end this wait.",))


def verdict_on(
    scene: Scene, seen: TaskWaits, task: Task, level: Level, words: tuple[str, ...], doubts: tuple[str, ...] = ()
) -> Verdict:
    """The answer, with who else waits there and which tasks have failed meanwhile."""
    awaited = task.awaits and task.awaits.id
    crowd = sum(one.awaits is not None and one.awaits.id == awaited for one in seen.stuck.values())
    more = (f"{crowd} tasks wait for it.",) if crowd > 1 else ()
    once = not scene.evidence.later
    return Verdict(
        "tasks-waiting",
        level,
        (*words, *more, *failed_tasks(scene)),
        (*doubts, ONE_READING.reason) if once else doubts,
        as_wait(scene, task),
        (ONE_READING,) if once else (),
    )


def connections_kept(scene: Scene) -> Verdict | str:
    """Every request waits for a connection of a pool: none is left that could give one back."""
    seen = in_coroutines(scene)
    if seen is None:
        return "No request's coroutine waits for a connection of a pool."
    if seen.others:
        return "Other coroutines are under way, and may hold the connections."
    words = "No other coroutine of the application is under way that could give one back: they were taken and kept."
    return Verdict("tasks-waiting", EXCLUDED, (seen.words, words), wait=seen.waits[0])


def thread_owes(scene: Scene) -> Verdict | str:
    """A request waits for what only a thread could give that stands still itself."""
    known = scene.evidence.functions
    if not any(one.idle for one in scene.loop) or not known:
        return "No event loop is idle, or who could end a wait is not known."
    for task in suspects(scene):
        givers = [one for one in known if any(name.lstrip("+") in ends_of(task) for name, _ in one.ends)]
        found = [one for one in standing(scene) if runs_one_of(one, givers)]
        if found and all(any(runs_one_of(one, [giver]) for one in found) for giver in givers):
            words = f"{task.name} serves a request and waits for {task.awaits} all the time."
            who = f"Only {givers[0]} ends that, and {name_of(found[0].view)}, which runs it, stands still."
            return Verdict("tasks-waiting", ONE_SIDED, (words, who), (SLOW_PEER,), found[0])
    return "No request waits for a thread that stands still."


def runs_one_of(one: Wait, functions: list[Function]) -> bool:
    """Whether the thread is inside of one of these functions."""
    return any(function_at(functions, frame) is not None for frame in one.view.section)


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    where = f"{place_of(verdict.wait)}{line_of(verdict.wait)}"
    if verdict.wait is not None and not verdict.wait.coroutine:
        return f"A request waits for {name_of(verdict.wait.view)}, which stands{where}; the event loop itself is fine."
    return f"A coroutine waits{where} for what never comes; the event loop itself is fine."


STATE = StateEntry(
    "tasks-waiting",
    rules=(
        Rule("task-ring", "do tasks wait for what never comes", ring),
        Rule("never-released", "do tasks wait for what never comes", never_released),
        Rule("never-ended", "do tasks wait for what never comes", never_ended),
        Rule("thread-owes", "do tasks wait for what never comes", thread_owes),
        Rule("connections-kept", "do tasks wait for what never comes", connections_kept),
    ),
    summary=summary,
    repair="pattern",
    follows=False,
)
