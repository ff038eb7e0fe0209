"""Rings of waits: threads that wait for each other, for a coroutine that only the blocked loop could run, or for nobody."""

from __future__ import annotations

from typing import Optional, Tuple

from hangdebug.answer.model import Verdict
from hangdebug.causes.model import Match
from hangdebug.evidence.frames import calls
from hangdebug.evidence.kernel import ALONE
from hangdebug.evidence.source import makers
from hangdebug.scene.graph import RESULT, Graph, asks_loop, futex, graph, hands_over, is_timed
from hangdebug.scene.locks import ENTERS, Lock, wanted
from hangdebug.scene.model import WaitsFor, drawing
from hangdebug.scene.scene import Scene, View, identity
from hangdebug.scene.waits import Wait, name_of
from hangdebug.scene.waits import wait as wait_of

Answer = Optional[Tuple[Verdict, Optional[Wait]]]

UNNAMED = Lock("the lock", "", "", False, frozenset())
NOBODY = "nobody that is left"
COUNTED = {"Semaphore", "BoundedSemaphore"}  # any thread may release these


def deadlock(scene: Scene) -> Answer:
    """A ring of threads, or a lock that nobody is left to release; None where neither is shown."""
    seen = graph(scene)
    stuck = closed(seen)
    found = rings(seen, stuck)
    if not found:
        return nobody_left(scene, seen)
    loop = identity(scene.loop[-1]) if scene.loop else None
    order = {identity(view): index for index, view in enumerate(scene.last)}
    best = max(found, key=lambda one: (loop in one, all(seen.edges[node].sure for node in one), -len(one)))
    start = loop if loop in best else min((node for node in best if node in seen.waits), key=lambda node: order[node])
    turned = best[best.index(start) :] + best[: best.index(start)]
    edges = tuple(drawn(scene, seen, node, target) for node, target in zip(turned, turned[1:] + turned[:1]))
    one = seen.waits[start]
    waits = [seen.waits[node] for node in best if node in seen.waits]
    sure = all(edge.sure for edge in edges)
    words = [f"A ring of waits: {drawing(edges)}."] + list(map(str, edges))
    if all(each.motion.woke == 0 for each in waits):
        words.append(f"None of them woke in the {one.motion.span:.1f} s before the first attach.")
    victims = len(stuck - set(best))
    words += [f"{victims} more wait for one of these."] if victims else []
    return Verdict("deadlock", certainty(waits, sure), tuple(words), doubts(waits, edges), waits_for=edges), one


def certainty(waits: list[Wait], sure: bool) -> float:
    if all(one.motion.woke == 0 for one in waits):
        return 0.95 if sure else 0.85
    if all(one.motion.samples > 1 for one in waits):
        return 0.85 if sure else 0.6
    return 0.8 if sure else 0.55


def doubts(waits: list[Wait], edges: tuple[WaitsFor, ...]) -> tuple[str, ...]:
    found = []
    if any(one.motion.samples == 1 for one in waits):
        found.append("One dump shows one moment: it cannot show that the threads stay there.")
    if not all(edge.sure for edge in edges if edge.kind != "lock"):
        found.append("Which thread does the work that another one waits for is concluded from the names of functions.")
    if not all(edge.sure for edge in edges if edge.kind == "lock"):
        found.append(
            "The ring rests on names in the source, and two objects may each have a lock of that name: "
            "`py-spy dump --locals` shows their addresses."
        )
    return tuple(found)


def rings(seen: Graph, stuck: frozenset) -> list[tuple]:
    """The circles in which waits close, each once."""
    found: dict[frozenset, tuple] = {}
    for node in (one for one in seen.edges if one in stuck):
        trail: list = []
        while node not in trail:
            trail.append(node)
            node = min(
                (target for target in seen.edges[node].targets if target in stuck), key=lambda one: one == trail[-1]
            )
        circle = tuple(trail[trail.index(node) :])
        found.setdefault(frozenset(circle), circle)
    return [circle for circle in found.values() if distinct(seen, circle)]


def closed(seen: Graph) -> frozenset:
    """The nodes that wait, by whatever way, for nodes that wait for each other: all but those that somebody can free."""
    left = set(seen.edges)
    while True:
        freed = {
            node
            for node in left
            if not (any if seen.edges[node].every else all)(target in left for target in seen.edges[node].targets)
        }
        if not freed:
            return frozenset(left)
        left -= freed


def distinct(seen: Graph, circle: tuple) -> bool:
    """Whether those in the circle wait for different locks, as far as the kernel says: of one lock there is one holder."""
    places = [futex(seen.waits[node]) for node in circle if node in seen.waits and seen.edges[node].kind == "lock"]
    known = [place for place in places if place is not None]
    return len(set(known)) == len(known)


def drawn(scene: Scene, seen: Graph, node: object, target: object) -> WaitsFor:
    edge, one = seen.edges[node], seen.waits.get(node)
    frame = one.frame or one.view.section[0] if one else seen.tasks[node].frame
    return WaitsFor(
        label(scene, node),
        label(scene, target),
        edge.through.replace("{}", label(scene, target)),
        frame,
        edge.kind,
        edge.sure,
    )


def chain(scene: Scene, one: Wait) -> tuple[WaitsFor, ...]:
    """Whom a thread waits for, whom that one waits for, and so on, where each is the only one it can be."""
    seen, node, found = graph(scene), identity(one.view), []
    while node in seen.edges and len(seen.edges[node].targets) == 1 and len(found) < 4:
        target = seen.edges[node].targets[0]
        found.append(drawn(scene, seen, node, target))
        node = target
    return tuple(found)


def label(scene: Scene, node: object) -> str:
    """A thread's name, with the kernel's id where several threads bear it; a coroutine's task."""
    if isinstance(node, tuple) and node[0] == "task":
        return f"{node[1]} (suspended)"
    view = scene.by_thread[node][-1]
    alike = sum(other.thread.name == view.thread.name for other in scene.last)
    return f"{view.thread.name} ({view.thread.os_id})" if alike > 1 and view.thread.os_id else name_of(view)


def nobody_left(scene: Scene, seen: Graph) -> Answer:
    """A thread waits for a lock without a timeout, and every other one is idle: nobody is inside who could release it."""
    for node, one in sorted(seen.waits.items(), key=lambda item: item[1].view.role != "event-loop"):
        locks = wanted(one, scene.evidence.sources) or unnamed(one)
        if node in seen.edges or not locks or locks[0].kinds & COUNTED or not endless_alone(one):
            continue
        if one.view.role not in ("event-loop", "worker"):
            continue  # a thread of one's own may stand before a lock until somebody opens it
        if not all(view.thread == one.view.thread or idle_for(scene, seen, view, one) for view in scene.last):
            continue
        on_loop = one.view.role == "event-loop"
        if not on_loop and scene.loop and not (tasks_known(scene) and scene.loop[-1].idle):
            continue
        edge = WaitsFor(label(scene, node), NOBODY, f"`{locks[0].name}`", one.frame)
        words = (
            f"Every other thread is idle, so nobody is inside of `{locks[0].name}`: whoever took it has ended without "
            f"releasing it{', or needs the event loop to go on' if on_loop else ''}.",
            f"It woke not once in the {one.motion.span:.1f} s before the first attach.",
        )
        doubt = "" if on_loop else "Another request could still release it by hand: look for who takes this lock."
        doubt = (
            "Its line is not at hand: a semaphore, which whoever is idle might release later, looks alike."
            if locks[0] == UNNAMED
            else doubt
        )
        return Verdict("deadlock", 0.75 if doubt else 0.9, words, tuple(filter(None, [doubt])), waits_for=(edge,)), one
    return None


def unnamed(one: Wait) -> tuple[Lock, ...]:
    """A lock between processes of which the stack alone tells, where the loop waits for it and its line is not at hand."""
    return (UNNAMED,) if not one.text and one.view.role == "event-loop" and one.starts_with(*ENTERS[1:]) else ()


def endless_alone(one: Wait) -> bool:
    """Whether the kernel has it in a futex without a timeout, which no other process can wake."""
    shared = one.inside("multiprocessing/synchronize.py")
    known = one.motion.woke == 0 and one.in_syscall("futex") and not is_timed(one)
    return known and (not shared or ALONE in (one.kernel.detail or ""))


def idle_for(scene: Scene, seen: Graph, view: View, one: Wait) -> bool:
    """Whether a thread cannot be inside of the lock: it is parked, runs a library's own loop, or waits for it too."""
    other = seen.waits.get(identity(view))
    if view.idle or other is not None and futex(other) == futex(one):
        return True
    return view.frame is None and not all(
        calls(frame, "threading.py") for frame in view.thread.frames
    )  # as a Timer's are


def tasks_known(scene: Scene) -> bool:
    """Whether all of asyncio's tasks were read, and none of them names a release."""
    tasks = scene.evidence.later
    return bool(tasks) and not scene.evidence.unread and not any("release" in task.ends for task in tasks)


def ring(wait: Wait, scene: Scene) -> Match | None:
    """What shows that the loop waits for itself, directly or through a worker; None where nothing does."""
    if wait.view.role != "event-loop":
        return None
    if wait.starts_with(*RESULT) and not other_loop(wait, scene):
        if hands_over(wait, scene):
            words = "It handed a coroutine to its own event loop, and waits for the result on the loop's thread."
            return Match(frozenset({"frames", "source"}), (words,))
        known = made_here(wait, scene)
        if nobody_works(scene) and not known:
            words = "No other thread works on the result: the event loop itself would have to."
            return Match(frozenset(), (words,))
        if all_wait_for_results(scene) and not known:
            words = "Every thread at work waits for a result, and none is left to give one but the event loop's."
            return Match(frozenset({"frames"}), (words,))
    if not wait.inside_package("concurrent", "threading", "queue") and not wait.in_syscall("futex"):
        return None
    for view in scene.last:
        if view.thread != wait.view.thread and not view.idle and asks_loop(wait_of(scene, view), scene):
            words = f"{view.thread.name} in turn waits for the event loop to run a coroutine, in {view.frame or view.section[0]}."
            return Match(frozenset({"frames"}), (words,))
    return None


def made_here(wait: Wait, scene: Scene) -> bool:
    """Whether the source shows what made the future that is waited for, and no loop was asked for it."""
    names = {name.rpartition(".")[0] for name in wait.called if name.rpartition(".")[2] in ("result", "exception")}
    return wait.frame is not None and any(makers(scene.evidence.sources, wait.frame, name) for name in names if name)


def other_loop(wait: Wait, scene: Scene) -> bool:
    return any(view.role == "event-loop" and view.thread != wait.view.thread for view in scene.last)


def all_wait_for_results(scene: Scene) -> bool:
    """Whether a whole dump shows nobody at work: each thread is idle, or waits for a future itself."""
    if scene.evidence.snapshots[-1].pid is None or scene.shows("concurrent/futures/process.py"):
        return False
    return nobody_gives(scene)


def nobody_gives(scene: Scene) -> bool:
    """Whether each thread that is seen is idle, or waits for a future itself."""
    return all(view.idle or wait_of(scene, view).starts_with(*RESULT) for view in scene.last)


def nobody_works(scene: Scene) -> bool:
    """Whether a whole dump shows no thread that could finish a future: none but the loop's, and parked ones."""
    snapshot = scene.evidence.snapshots[-1]
    if snapshot.pid is None and snapshot.format != "py-spy JSON":  # perhaps only a part of a dump
        return False
    return nobody_seen(scene)


def nobody_seen(scene: Scene) -> bool:
    """The same of what was pasted, be it a part only."""
    return all(view.role == "event-loop" or view.idle for view in scene.last) and not any(
        calls(frame, "concurrent/futures/process.py") for view in scene.last for frame in view.thread.frames
    )
