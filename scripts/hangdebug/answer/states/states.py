"""What is wrong with the process: an ordered tuple of rules over a scene, the first that speaks is the state.

Every rule answers with (Verdict, the Wait that explains it or None), or with None. Rules say nothing of causes.
"""

from __future__ import annotations

from typing import Optional, Tuple

from hangdebug.answer.model import Verdict
from hangdebug.answer.other_loops import asked_to_end, tasks_alone, to_look_at
from hangdebug.answer.states.checkouts import awaited_in_vain, lent_out
from hangdebug.answer.states.held import loop_held, state_held
from hangdebug.answer.states.phases import exiting, lifespan_waits, starting, told_to_stop
from hangdebug.answer.states.slow_steps import held_before
from hangdebug.answer.states.workers import synchronous
from hangdebug.causes.fork import abandoned
from hangdebug.evidence.model import Task
from hangdebug.evidence.roles import is_child, is_supervisor, supervises
from hangdebug.scene.gil import starved
from hangdebug.scene.graph import is_timed, stands
from hangdebug.scene.locks import wanted
from hangdebug.scene.pools import backed_up, full, to_the_brim, unsure
from hangdebug.scene.rings import deadlock
from hangdebug.scene.scene import Scene
from hangdebug.scene.tasks import (
    as_wait,
    direct,
    ended_by,
    ends_of,
    lock_like,
    own_code,
    satisfied,
    started,
    tasks_waiting,
    waiting,
    waits_for,
)
from hangdebug.scene.waits import Wait, name_of, stuck_workers, wait

Answer = Optional[Tuple[Verdict, Optional[Wait]]]


def state_of(scene: Scene) -> tuple[Verdict, Wait | None]:
    for rule in RULES:
        found = rule(scene)
        if found is not None:
            return found
    raise AssertionError("the last rule always answers")


def stopped(scene: Scene) -> Answer:
    """The kernel stopped it before anybody attached."""
    reading = scene.evidence.readings[-1] if scene.evidence.readings else None
    states = [found.state for found in reading.waits.values()] if reading else []
    if states and all(state in ("T", "t") for state in states):
        words = ("All of its threads are in state T: it was stopped by a signal or is held by a debugger.",)
        return Verdict("stopped", 0.95, words), None
    return None


def orphaned(scene: Scene) -> Answer:
    """A forked child's only thread waits for a lock: whoever held it was not copied."""
    one = wait(scene, scene.last[0]) if len(scene.last) == 1 else None
    found = abandoned(one, scene) if one is not None and one.motion.same == one.motion.samples else None
    if found is None or one.frame is None:
        return None
    if scene.loop and state_held(scene, one) == "deadlock":
        return None  # it runs a loop of its own, and waits for that
    words = ("It is a forked child with one thread, and that thread waits for a lock: nobody is left to release it.",)
    return Verdict("deadlock", 0.95 if "kernel" in found.kinds else 0.65, (*words, *found.evidence)), one


def supervising(scene: Scene) -> Answer:
    """A supervisor whose other threads may run a loop of their own, which serves nobody."""
    return supervisor() if supervises(scene.evidence.snapshots[-1]) else None


def supervisor() -> Answer:
    words = ("It is a server's supervisor: it watches over workers and serves nothing itself.",)
    return Verdict("healthy", 0.7, words, ("Whether its workers hang, only their own stacks show.",), True), None


def pool_full(scene: Scene) -> Answer:
    """The loop is fine, and no thread is left for synchronous work."""
    return full(scene) or backed_up(scene) or lent_out(scene) or unsure(scene) if scene.loop else None


def fine(scene: Scene) -> Answer:
    """The loop is idle, or idle in between."""
    total, idle = len(scene.loop), sum(view.idle for view in scene.loop)
    if not idle:
        return None
    words = (f"The event loop was idle in {idle} of {total} samples." if total > 1 else "The event loop is idle.",)
    standing = before_a_lock(scene, words)
    if standing is not None:
        return standing
    found = [
        *([(0.6, "One dump shows one moment.")] if total == 1 else []),
        *of_requests(scene),
        *of_threads(scene),
        *([(0.7, "")] if idle < total else []),
    ]
    sure = min((least for least, _ in found), default=0.9)
    return Verdict("healthy", sure, words, tuple(doubt for _, doubt in found if doubt)), None


def before_a_lock(scene: Scene, words: tuple[str, ...]) -> Answer:
    """Threads or requests that stand before a lock all the time, where whoever is inside of it stands still as well."""
    doubts = ("Whoever is inside of the lock may go on, or never leave it.",)
    locked = [
        one
        for one in stuck_workers(scene)
        if one.motion.samples > 1 and stands(one) and not is_timed(one) and wanted(one, scene.evidence.sources)
    ]
    if locked:
        told = f"{those(locked, 'pool thread')} before a lock all the time, in {locked[0].frame}."
        return Verdict("inconclusive", 0.5, (*words, told), doubts), locked[0]
    behind = queued(scene)
    if behind is None:
        return None
    task, holder_ = behind
    told = f"{told_of(scene, task)[:-1]}, in {as_wait(scene, holder_).frame or holder_.frames[0]}."
    return Verdict("inconclusive", 0.5, (*words, told), doubts), as_wait(scene, task)


def those(waits: list[Wait], what: str) -> str:
    return f"{len(waits)} {what}{'s stand' if waits[1:] else ' stands'}"


def of_requests(scene: Scene) -> list[tuple[float, str]]:
    """What could be wrong with coroutines though the loop is idle, and how sure that leaves one."""
    clients, unread = scene.evidence.clients, scene.evidence.unread
    seen, slow = suspects(scene), unanswered(scene)
    told = [(0.9, f"What its coroutines wait for is not known: {unread}.")] if unread else []
    if seen:
        return [(0.6, told_of(scene, seen[0])), *([(0.6, f"{len(seen)} requests wait so.")] if seen[1:] else []), *told]
    if slow:
        more = f" {len(slow)} requests wait so." if slow[1:] else ""
        where = f"{slow[0].name} serves a request and waits in {slow[0].frames[0]} all the time"
        return [(0.6, f"{where}, without a timeout: for a slow peer, or for ever.{more}"), *told]
    read = scene.evidence.later or clients and not clients.open and not unread
    if not read or unread and (clients is None or clients.open):
        return [(0.7, "Coroutines that wait for something that never comes cannot be seen in stacks."), *told]
    return told


def of_threads(scene: Scene) -> list[tuple[float, str]]:
    """The same of threads: a pool without a free one, calls that no dump shows to move, a thread that keeps the GIL."""
    found, brim = [], to_the_brim(scene)
    if brim is not None:
        found.append(
            (0.7, f"All {brim.limit} threads of {brim.name} are in calls that stand still: one more call would wait.")
        )
    busy = [one for one in stuck_workers(scene) if one.frame is not None]
    if busy and len(scene.loop) > 1 and not scene.evidence.readings:
        found.append((0.6, f"{those(busy, 'pool thread')} in one place in every dump, in {busy[0].frame}."))
    greedy = [
        view
        for view in scene.last
        if view.role != "event-loop" and all(other.thread.owns_gil for other in scene.of(view))
    ]
    if greedy:
        found.append(
            (0.6, f"{name_of(greedy[0])} holds the GIL whenever one looks: the loop may be idle because it cannot run.")
        )
    return found


def suspects(scene: Scene) -> tuple[Task, ...]:
    """Requests without an answer that wait, for as long as one looked, for something of the application's own."""
    if not scene.evidence.later:
        return ()
    seen, working = waiting(scene), any(not one.idle for one in scene.threads("worker"))
    return tuple(
        task
        for task in seen.stuck.values()
        if task.id in seen.served
        and not task.timed
        and not started(task)
        and direct(task)
        and not satisfied(task)
        and (ends_of(task) or task.awaits.kind in ("Future", "_GatheringFuture", "Barrier") and not working)
    )


def queued(scene: Scene) -> tuple[Task, Task] | None:
    """A request that waits for a lock, and the task inside of it, which waits for something untimed all the time."""
    seen = waiting(scene)
    pairs = ((task, holder) for task in suspects(scene) if lock_like(task) for holder in seen.inside(task.awaits.id))
    return next(((task, holder) for task, holder in pairs if holder.id in seen.stuck and not holder.timed), None)


def unanswered(scene: Scene) -> tuple[Task, ...]:
    """Requests without an answer that wait in a library, without a timeout, for as long as one looked: slow, or for ever."""
    if not scene.evidence.later or any(not one.idle for one in scene.threads("worker")):
        return ()
    seen = waiting(scene)
    return tuple(
        task
        for task in seen.stuck.values()
        if task.id in seen.served
        and not task.timed
        and not started(task)
        and own_code(task)
        and not direct(task)
        and task.awaits.kind == "Future"
    )


def told_of(scene: Scene, task: Task) -> str:
    """Whom a suspect waits for, in a sentence."""
    seen = waiting(scene)
    holders = [one for one in seen.inside(task.awaits.id) if not waits_for(seen, one, task.awaits.id)]
    inside = "".join(f"; {one.name} is inside of it, and waits for {one.awaits or 'nothing'}" for one in holders[:1])
    other = ended_by(scene, seen, task, ends_of(task)) if ends_of(task) and not holders else None
    later = f"; {other} could still end that" if other else ""
    return f"{task.name} serves a request and waits for {task.awaits} all the time{inside}{later}."


def unknown(scene: Scene) -> Answer:
    """Nothing above applies: there is no event loop to judge by."""
    last = scene.evidence.snapshots[-1]
    if is_supervisor(last):
        return supervisor()
    if is_child(last):
        words = ("It is a child process that multiprocessing started; it serves nothing itself.",)
        return Verdict(
            "healthy", 0.7, words, ("Whether its work makes progress cannot be seen from here.",), True
        ), None
    if scene.evidence.tasks and not any(view.section for view in scene.last):
        return tasks_alone(scene)
    words = (
        "No thread in this evidence runs an event loop." if scene.last else "No thread of it runs any Python code.",
    )
    return Verdict("inconclusive", 0.3, words, (), True), to_look_at(scene)


RULES = (
    stopped,
    orphaned,
    supervising,
    exiting,
    deadlock,
    starved,
    loop_held,
    starting,
    lifespan_waits,
    pool_full,
    told_to_stop,
    asked_to_end,
    tasks_waiting,
    awaited_in_vain,
    held_before,
    fine,
    synchronous,
    unknown,
)
