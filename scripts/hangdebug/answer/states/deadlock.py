"""Threads wait for each other in a ring, or for a lock that nobody is left to release. It never ends by itself.

A ring is a circle of the graph's edges (scene/graph.py). Where the loop's thread is in one, this explains more than
that the loop is blocked.
"""

from __future__ import annotations

from hangdebug.answer.certainty import AGREED, BRIEF, LIKELY, ONE_SIDED, OPEN, PLAUSIBLE, PROVED
from hangdebug.answer.model import Level, Rule, StateEntry, Verdict
from hangdebug.answer.words import line_of, place_of, wake_words
from hangdebug.causes.fork import lock_left_by_fork
from hangdebug.causes.lock import crossed
from hangdebug.causes.model import Cause
from hangdebug.scene.rings import NOBODY, Ring, abandoned_lock, ring_of
from hangdebug.scene.scene import Scene
from hangdebug.scene.waits import drawing, name_of, wait


def forked_child(scene: Scene) -> Verdict | str:
    """A forked child's only thread waits for a lock: whoever held it was not copied."""
    if len(scene.last) != 1:
        return "It has more than one thread."
    one = wait(scene, scene.last[0])
    found = lock_left_by_fork(scene, one) if one.motion.in_place else None
    if found is None or one.frame is None:
        return "No fork left a lock taken."
    if scene.loop and ring_of(scene) is not None:
        return "It runs a loop of its own, and waits for that."
    words = ("It is a forked child with one thread, and that thread waits for a lock: nobody is left to release it.",)
    level = PROVED if "kernel" in found.kinds else BRIEF
    return Verdict("deadlock", level, (*words, *found.evidence), wait=one)


def ring(scene: Scene) -> Verdict | str:
    """Each thread waits for the next one, and the last for the first."""
    found = ring_of(scene)
    if found is None:
        return "The waits of its threads close no ring."
    words = [f"A ring of waits: {drawing(found.edges)}.", *map(str, found.edges)]
    if all(each.motion.woke == 0 for each in found.waits):
        words.append(f"None of them woke in the {found.first.motion.span:.1f} s before the first attach.")
    words += [f"{found.victims} more wait for one of these."] if found.victims else []
    return Verdict("deadlock", level_of(found), tuple(words), doubts(found), found.first, ring=found.edges)


def level_of(found: Ring) -> Level:
    """What shows that the threads stay there, and whether each edge is sure."""
    if all(one.motion.woke == 0 for one in found.waits):
        return PROVED if found.sure else LIKELY
    if all(one.motion.samples > 1 for one in found.waits):
        return LIKELY if found.sure else OPEN
    return PLAUSIBLE if found.sure else OPEN


def doubts(found: Ring) -> tuple[str, ...]:
    lines = []
    if any(one.motion.samples == 1 for one in found.waits):
        lines.append("One dump shows one moment: it cannot show that the threads stay there.")
    if not all(edge.sure for edge in found.edges if edge.kind != "lock"):
        lines.append("Which thread does the work that another one waits for is concluded, and was not seen.")
    locks = [edge for edge in found.edges if edge.kind == "lock"]
    if any(edge.concluded for edge in locks):
        lines.append("Who is inside of which lock is concluded, and no line of the source shows it.")
    if not all(edge.sure or edge.concluded for edge in locks):
        lines.append(
            "The ring rests on names in the source, and two objects may each have a lock of that name: "
            "`py-spy dump --locals` shows their addresses."
        )
    return tuple(lines)


def exchanged(scene: Scene) -> Verdict | str:
    """Two threads stand in one line, and two objects that they work on are exchanged: each has what the other wants."""
    waits = [wait(scene, view) for view in scene.last if view.frame is not None and view.frame.locals]
    found = [one for one in waits if one.leaf and not one.running and one.motion.in_place and crossed(scene, one)]
    if not found:
        return "No two threads stand in one line with two objects exchanged."
    words = f"{name_of(found[0].view)} and {name_of(found[1].view)} stand in one line, and two objects are exchanged "
    doubt = "That the line takes a lock of each, its C call does not show."
    return Verdict("deadlock", OPEN, (f"{words}between them.",), (doubt,), found[0])


def nobody_releases(scene: Scene) -> Verdict | str:
    """A thread waits for a lock without a timeout, and every other one is idle."""
    found = abandoned_lock(scene)
    if found is None:
        return "No thread waits for a lock that all others cannot be inside of."
    on_loop = found.wait.view.role == "event-loop"
    words = (
        f"Every other thread is idle, so nobody is inside of `{found.lock.name}`: whoever took it has ended without "
        f"releasing it{', or needs the event loop to go on' if on_loop else ''}.",
        *wake_words(found.wait),
    )
    doubt = "" if on_loop else "Another request could still release it by hand: look for who takes this lock."
    if found.unnamed:
        doubt = "Its line is not known: a semaphore, which an idle thread might release later, looks alike."
    level = ONE_SIDED if doubt else AGREED
    return Verdict("deadlock", level, words, tuple(filter(None, [doubt])), found.wait, ring=(found.edge,))


def summary(scene: Scene, verdict: Verdict, cause: Cause) -> str:
    where, line, edges = place_of(verdict.wait), line_of(verdict.wait), verdict.ring
    if not edges and verdict.level == OPEN and verdict.wait is not None:
        return f"{name_of(verdict.wait.view)} waits{where}{line} for what another thread has that waits for it in turn."
    if not edges:
        return f"{cause.title[0].upper()}{cause.title[1:]}{where}{line}; it never ends."
    if edges[-1].waits_for == NOBODY:
        return f"{edges[0].thread} waits{where}{line} for a lock that nobody is left to release; it never ends."
    if len(edges) == 1:
        own = "a lock that it holds itself" if edges[0].kind == "lock" else edges[0].through
        return f"{edges[0].thread} waits{where}{line} for {own}; it never ends."
    return f"Threads wait for each other, {drawing(edges)}, the first{where}{line}; none of them ever goes on."


STATE = StateEntry(
    "deadlock",
    rules=(
        Rule("forked-child", "is it a forked child that waits for a lock", forked_child),
        Rule("ring", "do threads wait in a ring", ring),
        Rule("objects-exchanged", "do threads wait in a ring", exchanged),
        Rule("nobody-releases", "do threads wait in a ring", nobody_releases),
    ),
    summary=summary,
    exonerates_threads=False,
)
