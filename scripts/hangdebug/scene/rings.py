"""Rings of waits, which are circles of the graph's edges; chains, which are not; locks that nobody can release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hangdebug.evidence.frames import calls
from hangdebug.evidence.kernel import ALONE
from hangdebug.evidence.light import dataclass
from hangdebug.scene.graph import Edge, Graph, before_one_lock, futex_address, graph, is_timed
from hangdebug.scene.locks import ENTERS, Lock, locks_wanted
from hangdebug.scene.scene import Scene, View, identity, once
from hangdebug.scene.waits import Wait, WaitsFor, name_of, wait

UNNAMED = Lock("the lock", "", "", False, frozenset())
NOBODY = "nobody that is left"
MOST_FOLLOWED = 4
COUNTED = {"Semaphore", "BoundedSemaphore"}  # any thread may release these


@dataclass(frozen=True)
class Ring:
    """Threads that wait for each other: the edges in order, the wait of the first, and the waits of all threads in it.

    `victims` is how many others wait for one of these.
    """

    edges: tuple[WaitsFor, ...]
    first: Wait
    waits: tuple[Wait, ...]
    victims: int = 0

    @property
    def sure(self) -> bool:
        return all(edge.sure for edge in self.edges)


@dataclass(frozen=True)
class AbandonedLock:
    """A lock that a thread waits for, and that no thread is inside of who could release it."""

    edge: WaitsFor
    wait: Wait
    lock: Lock

    @property
    def unnamed(self) -> bool:
        return self.lock == UNNAMED


@once
def ring_of(scene: Scene) -> Ring | None:
    """The ring that explains most: one that the event loop is in, then one whose edges are sure, then the shortest."""
    seen = graph(scene)
    stuck = stuck_nodes(seen.edges)
    found = circles(scene, seen, stuck)
    if not found:
        return None
    loop = identity(scene.loop[-1]) if scene.loop else None
    order = {identity(view): index for index, view in enumerate(scene.last)}
    best = max(found, key=lambda one: (loop in one, all(seen.edges[node].sure for node in one), -len(one)))
    start = loop if loop in best else min((node for node in best if node in seen.waits), key=lambda node: order[node])
    turned = best[best.index(start) :] + best[: best.index(start)]
    edges = tuple(described(scene, seen, node, target) for node, target in zip(turned, turned[1:] + turned[:1]))
    waits = tuple(seen.waits[node] for node in best if node in seen.waits)
    return Ring(edges, seen.waits[start], waits, len(stuck - set(best)))


def abandoned_lock(scene: Scene) -> AbandonedLock | None:
    """The lock that a thread waits for without a timeout while every other thread is idle: nobody is inside of it."""
    seen = graph(scene)
    for node, one in sorted(seen.waits.items(), key=lambda item: item[1].view.role != "event-loop"):
        locks = locks_wanted(one, scene.evidence.sources) or lock_without_name(one)
        if (node in seen.edges and seen.edges[node].sure) or not locks:
            continue
        if locks[0].kinds & COUNTED or not endless_alone(one) or one.view.role not in ("event-loop", "worker"):
            continue  # a thread of one's own may stand before a lock until somebody opens it
        if not all(view.thread == one.view.thread or cannot_be_inside(scene, seen, view, one) for view in scene.last):
            continue
        if one.view.role != "event-loop" and scene.loop and not (no_task_releases(scene) and scene.loop[-1].idle):
            continue
        edge = WaitsFor(node_name(scene, node), NOBODY, f"`{locks[0].name}`", one.frame)
        return AbandonedLock(edge, one, locks[0])
    return None


def circles(scene: Scene, seen: Graph, stuck: frozenset[object]) -> list[tuple[object, ...]]:
    """The circles in which waits close, each once."""
    found: dict[frozenset[object], tuple[object, ...]] = {}
    for first in (one for one in seen.edges if one in stuck):
        node, trail = first, list[object]()
        while node not in trail:
            trail.append(node)
            node = min(
                (target for target in seen.edges[node].targets if target in stuck), key=lambda one: one == trail[-1]
            )
        circle = tuple(trail[trail.index(node) :])
        found.setdefault(frozenset(circle), circle)
    return [circle for circle in found.values() if waits_for_different_locks(scene, seen, circle)]


def stuck_nodes(edges: Mapping[object, Edge]) -> frozenset[object]:
    """The nodes that wait, directly or not, for nodes that wait for each other: all that nobody can free."""
    left = set(edges)
    while True:
        freed = {
            node
            for node in left
            if not (any if edges[node].every else all)(target in left for target in edges[node].targets)
        }
        if not freed:
            return frozenset(left)
        left -= freed


def waits_for_different_locks(scene: Scene, seen: Graph, circle: tuple[object, ...]) -> bool:
    """Whether those in the circle wait for different locks, as far as the kernel says: one lock has one holder."""
    places = [
        futex_address(scene, seen.waits[node])
        for node in circle
        if node in seen.waits and seen.edges[node].kind == "lock"
    ]
    known = [place for place in places if place is not None]
    return len(set(known)) == len(known)


def described(scene: Scene, seen: Graph, node: object, target: object) -> WaitsFor:
    edge, one = seen.edges[node], seen.waits.get(node)
    frame = one.frame or one.view.section[0] if one else seen.tasks[node].frame
    return WaitsFor(
        node_name(scene, node),
        node_name(scene, target),
        edge.through.replace("{}", node_name(scene, target)),
        frame,
        edge.kind,
        edge.sure,
        edge.concluded,
    )


def chain(scene: Scene, one: Wait) -> tuple[WaitsFor, ...]:
    """Whom a thread waits for, whom that one waits for, and so on, where each is the only one it can be."""
    seen, node = graph(scene), identity(one.view)
    found: list[WaitsFor] = []
    while node in seen.edges and len(seen.edges[node].targets) == 1 and len(found) < MOST_FOLLOWED:
        if seen.edges[node].concluded and seen.edges[node].kind != "lock":
            break
        target = seen.edges[node].targets[0]
        found.append(described(scene, seen, node, target))
        node = target
    return tuple(found)


def explains(scene: Scene, waits: tuple[Wait, ...]) -> tuple[Wait, int] | None:
    """The thread that most of these wait for, directly or through others, and how many do; None where none is known.

    It waits for nobody that is known itself: what it stands in is what all of them wait for.
    """
    seen, ends = graph(scene), Counter[object]()
    for one in waits:
        node, trail = identity(one.view), set[object]()
        while node in seen.edges and node not in trail and len(seen.edges[node].targets) == 1:
            trail.add(node)
            node = seen.edges[node].targets[0]
        if trail and node not in trail and node in scene.by_thread:
            ends[node] += 1
    if not ends:
        return None
    node, count = max(ends.items(), key=lambda pair: (pair[1], str(pair[0])))
    return wait(scene, scene.by_thread[node][-1]), count


def node_name(scene: Scene, node: object) -> str:
    """A thread's name, with the kernel's id where several threads bear it; a coroutine's task."""
    if isinstance(node, tuple) and node[0] == "task":
        return f"{node[1]} (suspended)"
    view = scene.by_thread[node][-1]
    alike = sum(other.thread.name == view.thread.name for other in scene.last)
    numbered = alike > 1 and view.thread.name and view.thread.os_id
    return f"{view.thread.name} ({view.thread.os_id})" if numbered else name_of(view)


def lock_without_name(one: Wait) -> tuple[Lock, ...]:
    """A lock between processes that only the stack shows, where the loop waits for it and its line is not known."""
    return (UNNAMED,) if not one.text and one.view.role == "event-loop" and one.starts_with(*ENTERS[1:]) else ()


def endless_alone(one: Wait) -> bool:
    """Whether the kernel has it in a futex without a timeout, which no other process can wake."""
    shared = one.inside("multiprocessing/synchronize.py")
    known = one.motion.woke == 0 and one.in_syscall("futex") and not is_timed(one)
    return known and (not shared or ALONE in one.detail)


def cannot_be_inside(scene: Scene, seen: Graph, view: View, one: Wait) -> bool:
    """Whether a thread cannot be inside of the lock: it is parked, runs a library's own loop, or waits for it too."""
    other = seen.waits.get(identity(view))
    if view.idle or before_one_lock(scene, one, other):
        return True
    return view.frame is None and not all(
        calls(frame, "threading.py") for frame in view.thread.frames
    )  # as a Timer's are


def no_task_releases(scene: Scene) -> bool:
    """Whether all of asyncio's tasks were read, and none of them names a release."""
    tasks = scene.evidence.later
    return bool(tasks) and not scene.evidence.unread and not any("release" in task.ends for task in tasks)
