"""All stacks of a process, for `hang stacks`; and the evidence as a report prints it.

Equal stacks are printed once. The one that the answer is about comes first, then the loop's, then those at work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from hangdebug.answer.model import Diagnosis
from hangdebug.errors import printable
from hangdebug.evidence import light as re
from hangdebug.evidence.frames import is_application, library_path, package
from hangdebug.evidence.model import Evidence, Frame, KernelWait, Task, Thread
from hangdebug.report.text import facts, short
from hangdebug.scene.graph import graph
from hangdebug.scene.locks import Lock, locks_held, locks_wanted
from hangdebug.scene.rings import described, node_name
from hangdebug.scene.scene import Scene, View, identity
from hangdebug.scene.scene import scene as scene_of
from hangdebug.scene.waits import name_of, wait

MOST_TEXT, MOST_ROWS = 200_000, 100  # letters of a dump, rows of the kernel
SHOWN_IDS, MOST_TARGETS = 6, 3
FOLDED = 2  # so many frames of libraries in a row are one line
ROLES = {"event-loop": "event loop", "worker": "pool thread", "main": "main thread"}


def as_stacks(evidence: Evidence, answer: Diagnosis, whole: bool = False) -> str:
    """Every stack of the last sample, each with the kernel's wait and its locks; `whole` folds no frame."""
    scene = scene_of(evidence)
    groups: dict[object, list[View]] = {}
    for view in scene.last:
        groups.setdefault((view.thread.frames, view.role, *beside(scene, view, alike=True)), []).append(view)
    tasks: dict[object, list[Task]] = {}
    for task in evidence.later or evidence.tasks:
        tasks.setdefault((task.frames, task.awaits and (task.awaits.kind, task.awaits.method)), []).append(task)
    threads = groups.values()
    blocks = [(importance(scene, group, answer), thread_block(scene, group, answer, whole)) for group in threads]
    blocks += [(task_importance(same, answer), task_block(same, answer, whole)) for same in tasks.values()]
    bare = [thread for thread in evidence.snapshots[-1].threads if not thread.frames]
    lines = [", ".join(facts(answer)) + f": {counted(len(scene.last), 'thread')}", ""]
    for _, block in sorted(blocks, key=lambda one: one[0]):
        lines += [*block, ""]
    lines += [f"{counted(len(bare), 'thread')} without a Python frame", ""] if bare else []
    return printable("\n".join(lines))


def thread_block(scene: Scene, members: list[View], answer: Diagnosis, whole: bool) -> list[str]:
    told = beside(scene, members[0], alike=len(members) > 1)
    frames = frame_lines(members[0].thread.frames, answer, whole)
    return [head(members), *(f"      {line}" for line in told), *(f"   {line}" for line in frames)]


def task_block(same: list[Task], answer: Diagnosis, whole: bool) -> list[str]:
    first, names = same[0], ", ".join(task.name for task in same[:SHOWN_IDS]) + (", ..." if same[SHOWN_IDS:] else "")
    lines = [f"{len(same)} x  coroutine {names}"]
    if first.awaits and len(same) == 1:  # by its address a lock is known again in another stack
        lines.append(f"      awaits {first.awaits} at {first.awaits.id:#x}")
    elif first.awaits or first.waits_on:
        lines.append(f"      awaits {first.awaits or first.waits_on}")
    inside = dict.fromkeys(lock for task in same for lock in task.inside)
    lines += [f"      inside of the lock at {lock:#x}" for lock in inside]
    return lines + [f"   {line}" for line in frame_lines(first.frames, answer, whole)]


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


Importance = tuple[bool, bool, bool, bool, bool, bool, int]


def importance(scene: Scene, group: list[View], answer: Diagnosis) -> Importance:
    """The thread at fault first, those in its ring or chain, the loop's; then those at work, and most alike."""
    first = group[0]
    fault = answer.thread is not None and any(view.thread == answer.thread for view in group)
    chained = {edge.thread for edge in answer.waits_for} | {edge.waits_for for edge in answer.waits_for}
    near = any(node_name(scene, identity(view)) in chained for view in group)
    return not fault, not near, False, first.role != "event-loop", first.frame is None, first.idle, -len(group)


def task_importance(same: list[Task], answer: Diagnosis) -> Importance:
    """The coroutine that the answer is about stands before the threads, all others behind them."""
    place = place_of(answer)
    fault = place is not None and any((frame.file, frame.line) == place for frame in same[0].frames)
    by_thread = answer.role in ROLES and answer.role != "main" and answer.thread is not None
    return not fault or by_thread, True, True, True, not same[0].frames, True, -len(same)


def place_of(answer: Diagnosis) -> tuple[str, int | None] | None:
    frame = answer.blocking_frame
    return (frame.file, frame.line) if frame is not None else None


def head(members: list[View]) -> str:
    """How many, what they are called, and their ids: those of the kernel, which `top -H` shows too."""
    first, names = members[0], list(dict.fromkeys(map(name_of, members)))
    ids = [str(view.thread.os_id) for view in members if view.thread.os_id]
    shown = ", ".join(ids[:SHOWN_IDS]) + (f" and {len(ids) - SHOWN_IDS} more" if ids[SHOWN_IDS:] else "")
    called = names[0] + (f" and {counted(len(names) - 1, 'other name')}" if names[1:] else "")
    what = [ROLES.get(first.role, ""), "idle" if first.idle else "", f"thread {shown}" if shown else ""]
    told = ", ".join(word for word in what if word)
    return f"{len(members)} x  {called}" + (f"   {told}" if told else "")


def beside(scene: Scene, view: View, alike: bool = False) -> tuple[str, ...]:
    """What the kernel says of it, the locks that it waits for and is inside of, and whom it waits for.

    `alike` leaves out the numbers of descriptors, in which threads differ that do the same.
    """
    if view.idle and view.role == "worker":
        return ()
    one, sources = wait(scene, view), scene.evidence.sources
    found = [f"kernel: {kernel_words(one.kernel, alike)}"] if one.kernel is not None and one.kernel.syscall else []
    found += [f"wants {lock_words(lock)}" for lock in dict.fromkeys(locks_wanted(one, sources))]
    for held in locks_held(view.thread.frames, sources):
        found.append(f"inside of {lock_words(held.lock)}, since {short(held.frame)}")
    seen, node = graph(scene), identity(view)
    targets = seen.edges[node].targets[:MOST_TARGETS] if node in seen.edges else ()
    return (*found, *(f"waits for {described(scene, seen, node, target).through}" for target in targets))


def kernel_words(word: KernelWait, alike: bool) -> str:
    state = state_in_words(word)
    shown = replace(word, detail=re.sub(r"^fd \d+ ?", "", word.detail)) if alike and word.detail else word
    return f"{shown}{f', {state}' if state and word.syscall != 'running' else ''}"


def lock_words(lock: Lock) -> str:
    owner = f" of {lock.owner}" if lock.owner else ""
    return f"{lock.name}{owner}{f' at {lock.at}' if lock.at else ''}"


def frame_lines(frames: tuple[Frame, ...], answer: Diagnosis, whole: bool) -> Iterator[str]:
    """Innermost first. What it stands in is always shown; further out the frames of libraries are one line."""
    place = place_of(answer)
    if not frames:
        return
    yield line_of(frames[0], place)
    for own, run in groupby(frames[1:], is_application):
        kept = list(run)
        if own or whole or len(kept) < FOLDED:
            yield from (line_of(frame, place) for frame in kept)
        else:
            names = list(dict.fromkeys(package(frame) or str(library_path(frame.file)) for frame in kept))
            yield f"   ... {len(kept)} frames of {', '.join(names[:4])}{', ...' if names[4:] else ''}"


def line_of(frame: Frame, place: tuple[str, int | None] | None) -> str:
    return f"{'->' if (frame.file, frame.line) == place else '  '} {short(frame)}"


# -- as a report prints it -----------------------------------------------------------------------------


def kernel_rows(evidence: Evidence) -> Iterator[tuple[str, ...]]:
    """The kernel's word on each thread before the first attach, alike ones as one row."""
    reading = evidence.readings[-1] if evidence.readings else next((one for one in evidence.attached if one), None)
    if reading is None:
        return
    names = {thread.os_id: thread.name for thread in evidence.snapshots[-1].threads}
    groups: dict[tuple[str, str, str], list[str]] = {}
    for tid, word in reading.waits.items():
        key = (word.syscall or "unknown", word.detail or "", state_in_words(word))
        groups.setdefault(key, []).append(f"{names.get(tid) or 'no Python thread'} ({tid})")
    for (call, detail, letter), members in list(groups.items())[:MOST_ROWS]:
        who = ", ".join(members[:3]) + (f" and {len(members) - 3} more" if len(members) > 3 else "")
        yield who, call, detail, letter


def state_in_words(wait: KernelWait) -> str:
    words = {
        "S": "asleep",
        "D": "asleep, and cannot be woken",
        "R": "runs",
        "T": "stopped",
        "t": "traced",
        "Z": "ended",
    }
    return words.get(wait.state, wait.state)


def printed(evidence: Evidence) -> str:
    """The last sample as py-spy would print it, alike stacks once."""
    snapshot = evidence.snapshots[-1]
    groups: dict[tuple[Frame, ...], list[Thread]] = {}
    for thread in snapshot.threads:
        groups.setdefault(thread.frames, []).append(thread)
    blocks = [f"Process {snapshot.pid}: {snapshot.command}"]
    for frames, threads in groups.items():
        heads = [f'Thread {one.os_id or "?"}: "{one.name}"' for one in threads[:3]]
        more = [f"and {len(threads) - 3} more threads in the same place"] if len(threads) > 3 else []
        blocks.append("\n".join([*heads, *more, *(f"    {short(frame)}" for frame in frames)]))
    return "\n\n".join(blocks)


def beginning(text: str) -> str:
    """The beginning of a dump, up to a line's end: a secret that was cut in two would not be known for one."""
    if len(text) <= MOST_TEXT:
        return text
    end = text.rfind("\n", 0, MOST_TEXT) + 1 or MOST_TEXT
    return f"{text[:end]}... {len(text) - end:,} characters more, see the evidence itself"
